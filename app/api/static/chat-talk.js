// One conversation as it is shown: its turns, and the answer that is under way.

import { Answer } from "./chat-answer.js";
import { byId, el } from "./chat-dom.js";
import { Question } from "./chat-question.js";
import { Problem, pause } from "./chat-session.js";
import { events } from "./chat-stream.js";

const WATCH_MS = 3000;  // between two looks at where a waiting job stands

/** `on` has `busy(whether)`, `sent(id)` (a turn was added), `answered(id)`, `refused(text)` and `failed(problem)`. */
export class Talk {
  #turns = [];  // { question, answer, instead: whether it is to stand instead of one that the conversation holds }
  #followed = null;  // the answer under way: { jobId, stopped, leave: AbortController }
  #shown = "";  // what the server said when the turns were last read
  #stale = false;  // they were to be read anew while an answer was under way
  id = null;

  constructor(session, api, { scroll, speech, sampling, on }) {
    Object.assign(this, { session, api, scroll, speech, sampling, on });
  }

  get busy() {
    return this.#followed !== null;
  }

  /** Show a conversation, null for one that does not exist yet. The answer under way is left to itself: it goes on. */
  async open(id) {
    this.#leave();
    this.id = id;
    this.#turns = [];
    this.#shown = "";
    byId("turns").replaceChildren(...(id ? [] : [welcome()]));
    if (id) await this.reload();
    this.scroll.toEnd();
  }

  /** Read the turns anew, as another tab may have added some; follow the answer that is under way. */
  async reload() {
    const { id } = this;
    if (!id) return;
    const turns = this.busy ? null : await this.api.turns(id);
    if (this.id !== id) return;
    this.#stale = this.busy;
    const shown = JSON.stringify(turns);
    if (this.busy || shown === this.#shown || byId("turns").querySelector(".editing")) return;
    this.#shown = shown;
    this.#show(turns);
  }

  #show(turns) {
    const lost = this.#lost(turns);
    this.#turns = [];
    byId("turns").replaceChildren(...(turns.length + lost.length ? [] : [welcome()]));
    for (const { question, answer, job, part, live } of turns) {
      const turn = this.#add(question);
      if (answer) turn.answer.set(answer);
      if (!live) turn.answer.settle(job, part);
    }
    this.#turns.push(...lost);
    byId("turns").append(...lost.flatMap(({ question, answer }) => [question.element, answer.element]));
    this.scroll.grew();
    const last = turns.at(-1);
    if (last?.live) this.#follow(last.job.id, this.#turns.at(-1));
    else this.#offer();
  }

  /** Return the last turns shown that came to nothing, such as a stopped one: only this page has them. Where one was to
   * stand instead of another, that other stands. */
  #lost(turns) {
    const kept = this.#turns.findLastIndex(({ answer }) => answer.kept);
    const known = new Set(turns.map(({ jobId }) => jobId));
    return this.#turns.slice(kept + 1).filter(({ answer, instead }) => (
      answer.job && !instead && !known.has(answer.job.id)));
  }

  /** Say something; in a conversation that is made now where there is none yet. */
  async send(text) {
    const turn = this.#add(text);
    const sampling = this.sampling();
    await this.#ask(turn, async (place) => {
      const id = this.id ?? (await this.api.create()).id;
      if (this.#followed === place) this.id = id;  // else another conversation was opened meanwhile
      return this.api.say(id, text, sampling);
    }, () => this.#takeBack(turn, text));
  }

  /** Have another answer to the last message, or to what it is changed to. One that came to nothing is sent again: the
   * conversation does not hold it. */
  async again(text = null) {
    const last = this.#turns.pop();
    const { question, answer: before, instead } = last;
    question.element.remove();
    before.element.remove();
    const asked = text ?? question.text;
    const turn = this.#add(asked, { instead: before.kept || instead });
    byId("log").focus({ preventScroll: true });  // what had the focus is gone
    const submit = () => {
      if (!turn.instead) return this.api.say(this.id, asked, this.sampling());
      if (before.kept && text === null) return this.api.regenerate(this.id, this.sampling());
      return this.api.edit(this.id, asked, this.sampling());
    };
    const refused = () => (turn.instead ? this.#takeBack(turn, null, last) : this.#takeBack(turn, asked));
    await this.#ask(turn, submit, refused);
  }

  async stop() {
    if (!this.#followed) return;
    this.#followed.stopped = true;  // where its job is not known yet, it is stopped as soon as it is
    try {
      if (this.#followed.jobId) await this.api.cancel(this.#followed.jobId);
    } catch (problem) {
      this.on.failed(problem);
    }
  }

  /** Forget all that is shown. */
  clear() {
    this.#leave();
    this.id = null;
    this.#turns = [];
    byId("turns").replaceChildren();
  }

  async #ask(turn, submit, refused) {
    const place = { jobId: null, stopped: false, leave: new AbortController() };
    this.#followed = place;
    this.#shown = "";
    this.on.busy(true);
    this.#offer();
    this.scroll.toEnd();
    try {
      const job = await submit(place);
      if (this.#followed !== place) return;
      this.on.sent(this.id);
      if (place.stopped) await this.api.cancel(job.id);
      await this.#follow(job.id, turn, place);
    } catch (problem) {
      if (this.#followed !== place) return;
      this.#rest();
      refused();
      this.on.failed(problem);
      await this.#catchUp();
    }
  }

  /** Read the turns anew after something was refused; where that fails too, enough has been told. */
  async #catchUp() {
    try {
      await this.reload();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
    }
  }

  async #follow(jobId, turn, place = { jobId, leave: new AbortController() }) {
    place.jobId = jobId;
    this.#followed = place;
    this.on.busy(true);
    this.speech.begin();
    try {
      for await (const event of events(this.session, jobId, place.leave.signal)) {
        turn.answer.take(event);
        if (event.name === "queued") this.#watch(jobId, turn.answer, place);
      }
    } catch (problem) {
      if (place.leave.signal.aborted) return;
      turn.answer.fail(problem);
    }
    if (this.#followed !== place) return;
    this.#rest();
    this.speech.end(turn.answer.failure);
    this.#offer();
    this.on.answered(this.id);
    await this.#tellPart(turn.answer);
    if (this.#stale) await this.reload();
  }

  /** Keep telling how far the job is from its turn. */
  async #watch(jobId, answer, place) {
    for (;;) {
      await pause(WATCH_MS);
      if (this.#followed !== place || !answer.isWaiting) return;
      try {
        const job = await this.api.job(jobId);
        if (answer.isWaiting) answer.waits(job);
      } catch {  // the stream tells what is wrong
        return;
      }
    }
  }

  async #tellPart(answer) {
    if (!answer.job) return;
    try {
      answer.tellMade(answer.job, await this.api.part(answer.job));
    } catch (problem) {
      this.on.failed(problem);
    }
  }

  #rest() {
    this.#followed = null;
    this.on.busy(false);
  }

  #leave() {
    this.#followed?.leave.abort();
    if (this.#followed) this.#rest();
  }

  /** Take a turn back that was refused; the one that it was to stand instead of, if any, stands again. */
  #takeBack(turn, text, before = null) {
    this.#turns = this.#turns.filter((each) => each !== turn);
    turn.question.element.remove();
    turn.answer.element.remove();
    if (before) {
      this.#turns.push(before);
      byId("turns").append(before.question.element, before.answer.element);
    }
    if (!this.#turns.length) byId("turns").replaceChildren(welcome());
    this.#offer();
    if (text !== null) this.on.refused(text);
  }

  #add(text, { instead = false } = {}) {
    const question = new Question(text, (changed) => this.again(changed));
    const answer = new Answer({ heard: (said) => this.speech.hear(said), grew: () => this.scroll.grew() });
    if (!this.#turns.length) byId("turns").replaceChildren();
    byId("turns").append(question.element, answer.element);
    this.#turns.push({ question, answer, instead });
    return this.#turns.at(-1);
  }

  /** Offer to change the last turn, while no answer is under way. */
  #offer() {
    for (const turn of this.#turns) {
      const last = turn === this.#turns.at(-1);
      turn.question.offer(last && !this.busy);
      if (!last || !this.busy) turn.answer.offer({ again: last ? () => this.again() : null });
    }
    this.scroll.grew();
  }
}

function welcome() {
  return el("div", { className: "welcome" },
    el("img", { src: "/static/chat-icon.svg", alt: "", width: 48, height: 48 }),
    el("h2", {}, "What would you like to know?"),
    el("p", {}, "Under each answer stands which server and processor gave it."));
}
