// One answer on the page: what the model says, its reasoning apart, and how it came about.

import { copyButton, el, icon, iconButton } from "./chat-dom.js";
import { Markdown } from "./chat-markdown.js";
import { sentence } from "./chat-session.js";

const ENDINGS = {
  cancelled: "Stopped.",  // as all that did not succeed: with UNKEPT
  expired: "Its deadline passed before a worker was free.",
  failed: "The answer failed.",
  length: "The answer was cut off at the longest allowed.",
};

const UNKEPT = "This turn is not kept in the conversation.";

const CALM = new Set(["succeeded", "cancelled"]);  // what is said of them is no complaint

/** Shows an answer as it comes. `heard` is called with what has been added to the text, for those who listen to it. */
export class Answer {
  text = "";
  reasoning = "";
  job = null;  // once it has ended
  isWaiting = false;
  #shown = new Markdown(el("div", { className: "text" }));
  #thought = el("div", { className: "thought" });
  #thinking = el("span", {}, "Thinking");
  #reasoning = el("details", { className: "reasoning", hidden: true },
    el("summary", {}, icon("chevron"), this.#thinking), this.#thought);
  #words = el("span", {}, "Sending");
  #state = el("p", { className: "state" }, el("span", { className: "dots" }, el("i"), el("i"), el("i")), this.#words);
  #failure = el("p", { className: "failure", hidden: true });
  #facts = el("ul", { className: "facts", "aria-label": "How this answer was made" });
  #actions = el("div", { className: "actions" });
  #painting = 0;

  constructor({ heard = () => {}, grew = () => {} } = {}) {
    this.heard = heard;
    this.grew = grew;
    this.element = el("article", { className: "answer", "aria-label": "Answer" }, this.#reasoning,
      this.#shown.element, this.#state, this.#failure,
      el("div", { className: "made" }, this.#facts, this.#actions));
    this.element.lastChild.hidden = true;
  }

  /** Whether the conversation holds this answer: it holds those alone that came to their end. */
  get kept() {
    return this.job ? this.job.state === "succeeded" : Boolean(this.text || this.reasoning);
  }

  /** What went wrong, in words; empty where nothing did. */
  get failure() {
    return this.#failure.textContent;
  }

  /** Take one of the job's events. */
  take({ name, data }) {
    if (name !== "broken") this.isWaiting = name === "queued";
    switch (name) {
      case "queued": return this.waits(data);
      case "started": return this.#tell("Starting");
      case "restarted": return this.#restart();
      case "token": return this.#add(data);
      case "broken": return this.#break();
      default: return this.end(data);
    }
  }

  /** Show how far a job is from its turn. */
  waits({ position, eta_s: etaS }) {
    const ahead = position > 0 ? `Waiting, ${position} ahead` : "Waiting for a worker";
    this.#tell(etaS >= 1 ? `${ahead}, about ${Math.round(etaS)} s` : ahead);
  }

  /** Show how a turn of the past ended; `job` is null where it is no longer kept, `part` where there is no answer. */
  settle(job, part) {
    this.job = job;
    if (job && !part) this.end(job);
    else this.#finish(part ? "" : "There is no answer to this message.");
    if (job || part) this.tellMade(job ?? { usage: part.usage }, part);
  }

  /** Show a whole answer. */
  set({ text = "", reasoning = "" }) {
    Object.assign(this, { text, reasoning: reasoning ?? "" });
    this.#paint();
  }

  /** Show how the job ended. */
  end(job) {
    const { text, reasoning_content: reasoning } = job.result ?? {};
    if (job.state === "succeeded" && job.result) this.set({ text, reasoning });
    this.job = job;
    this.#finish(ending(job), { calm: CALM.has(job.state) });
    this.tellMade(job);
  }

  /** Show that there will be no answer, and why. */
  fail(problem) {
    this.#finish(problem.message);
  }

  /** Show which server and processor answered, in which attempt, with how many tokens and in what time. `part` is the
   * model's part of the job, where that is known; the job's own place and attempt are those of the chat's worker. */
  tellMade(job, part = null) {
    const told = facts(job, part);
    this.#facts.replaceChildren(...told.map(([text, className, title]) => el("li", { className, title }, text)));
    this.element.lastChild.hidden = false;
    this.grew();
  }

  /** Offer what can be done with the answer: to copy it, and, where `again` is given, to have another. */
  offer({ again = null } = {}) {
    this.#actions.replaceChildren(
      ...(this.text ? [copyButton("Copy answer", () => this.text)] : []),
      ...(again ? [iconButton("again", this.kept ? "Regenerate" : "Try again", again, { text: true })] : []));
    this.element.lastChild.hidden = false;
    this.grew();
  }

  #add({ text = "", reasoning_content: thought = "" }) {
    this.text += text;
    this.reasoning += thought;
    this.#tell(this.text ? "" : "Thinking");
    if (text) this.heard(text);
    if (!this.#painting) this.#painting = requestAnimationFrame(() => this.#paint());
  }

  #restart() {
    this.set({});
    this.#tell("Starting");
    this.#failure.className = "remark";
    this.#note("Begun anew on another worker.");  // until it ends: the first token takes the state away
  }

  #break() {
    if (this.#painting) this.#paint();  // what has come is all there is to read for a while
    this.#tell("The connection broke; connecting again");
  }

  #paint() {
    cancelAnimationFrame(this.#painting);
    this.#painting = 0;
    this.#shown.show(this.text);
    this.#reasoning.hidden = !this.reasoning;
    this.#thinking.textContent = this.text ? "Reasoning" : "Thinking";
    if (this.#thought.textContent !== this.reasoning) this.#thought.textContent = this.reasoning;
    this.grew();
  }

  #tell(words) {
    this.#words.textContent = words;
    this.#state.hidden = !words;
    this.grew();
  }

  #finish(failure, { calm = false } = {}) {
    if (this.#painting) this.#paint();
    this.#tell("");
    this.#thinking.textContent = "Reasoning";
    this.#failure.className = calm ? "remark" : "failure";
    this.#note(failure);
  }

  #note(text) {
    this.#failure.textContent = text;
    this.#failure.hidden = !text;
    this.grew();
  }
}

/** Return what there is to say of how a job ended, nothing where all went well. */
function ending(job) {
  if (job.state === "succeeded") return job.result?.finish_reason === "length" ? ENDINGS.length : "";
  const why = job.state === "failed" && job.error?.detail ? sentence(job.error.detail) : ENDINGS[job.state];
  return `${why} ${UNKEPT}`;
}

/** Return what there is to tell of a job and of the model's part of it: text, class and tooltip of each fact. */
function facts(job, part) {
  const spent = job.usage ?? {};
  const took = job.started_at && job.finished_at ? (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000 : null;
  const told = [];
  if (part?.server) told.push([place(part), "place", "The server and the processor that ran the model"]);
  if (job.server) told.push([`via ${place(job)}`, "", "Those that kept the conversation"]);
  if (job.route === "cloud") told.push(["cloud", "", "It ran in the cloud"]);
  if (part?.attempt) told.push([`attempt ${part.attempt}`, "", "How often the model began it"]);
  if (spent.completion_tokens !== undefined) {
    told.push([`${spent.prompt_tokens} + ${spent.completion_tokens} tokens`, "", "Tokens read and tokens written"]);
  }
  if (job.result?.dropped_turns) {
    told.push([`${job.result.dropped_turns} older turns not read`, "", "The model's window was too small for them"]);
  }
  if (took !== null) told.push([`${took.toFixed(took < 10 ? 2 : 1)} s`, "", "From its start to its end"]);
  return told;
}

const place = ({ server, processor }) => [server, processor].filter(Boolean).join(" ");
