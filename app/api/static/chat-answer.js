// One answer on the page: what the model says, its reasoning apart, and how it came about.

import { copy, el, icon, iconButton } from "./chat-dom.js";
import { Markdown } from "./chat-markdown.js";
import { sentence } from "./chat-session.js";

const ENDINGS = {
  cancelled: "Stopped.",
  expired: "Its deadline passed before a worker was free.",
  failed: "The answer failed.",
  length: "The answer was cut off at the longest allowed.",
};

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

  /** Take one of the job's events. */
  take({ name, data }) {
    if (name !== "broken") this.isWaiting = name === "queued";
    switch (name) {
      case "queued": return this.waits(data);
      case "started": return this.#tell("Starting");
      case "restarted": return this.#restart();
      case "token": return this.#add(data);
      case "broken": return this.#tell("The connection broke; connecting again");
      default: return this.end(data);
    }
  }

  /** Show how far a job is from its turn. */
  waits({ position, eta_s: etaS }) {
    const ahead = position > 0 ? `Waiting, ${position} ahead` : "Waiting for a worker";
    this.#tell(etaS >= 1 ? `${ahead}, about ${Math.round(etaS)} s` : ahead);
  }

  /** Show how a turn of the past ended; `job` is null where it is no longer kept. */
  settle(job, part) {
    const said = this.text || this.reasoning;
    if (job && !said) this.end(job);
    else this.#finish(said ? "" : "There is no answer to this message.");
    if (job) this.tellMade(job, part);
  }

  /** Show a whole answer. */
  set({ text = "", reasoning = "" }) {
    Object.assign(this, { text, reasoning: reasoning ?? "" });
    this.#paint();
  }

  /** Show how the job ended. */
  end(job) {
    if (job.state === "succeeded" && job.result) this.set({ text: job.result.text, reasoning: job.result.reasoning_content });
    this.job = job;
    this.#finish(ending(job));
    this.tellMade(job);
  }

  /** Show that there will be no answer, and why. */
  fail(problem) {
    this.#finish(problem.message);
  }

  /** Show which server and processor answered, in which attempt, with how many tokens and in what time. `part` is the model's
   * part of the job, where that is known. */
  tellMade(job, part = null) {
    this.#facts.replaceChildren(...facts(job, part).map(([text, className, title]) => el("li", { className, title }, text)));
    this.element.lastChild.hidden = false;
    this.grew();
  }

  /** Offer what can be done with the answer: to copy it, and, where `again` is given, to have another. */
  offer({ again = null } = {}) {
    this.#actions.replaceChildren(
      ...(this.text ? [iconButton("copy", "Copy answer", () => copy(this.text))] : []),
      ...(again ? [iconButton("again", "Regenerate", again, { text: true })] : []));
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
    this.#tell("Its worker was lost; another has begun anew");
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

  #finish(failure) {
    if (this.#painting) this.#paint();
    this.#tell("");
    this.#thinking.textContent = "Reasoning";
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
  return job.state === "failed" && job.error?.detail ? sentence(job.error.detail) : ENDINGS[job.state];
}

/** Return what there is to tell of a job and of the model's part of it: text, class and tooltip of each fact. */
function facts(job, part) {
  const spent = job.usage ?? {};
  const took = job.started_at && job.finished_at ? (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000 : null;
  const told = [];
  if (part?.server) told.push([place(part), "place", "The server and the processor that ran the model"]);
  if (job.server) told.push(part?.server ? [`via ${place(job)}`, "", "The server and the processor that kept the conversation"]
    : [place(job), "place", "The server and the processor that answered"]);
  if (job.route === "cloud") told.push(["cloud", "", "It ran in the cloud"]);
  if (job.attempt) told.push([`attempt ${job.attempt}`, "", "How often it was begun"]);
  if (spent.completion_tokens !== undefined) {
    told.push([`${spent.prompt_tokens} + ${spent.completion_tokens} tokens`, "", "Tokens read and tokens written"]);
  }
  if (took !== null) told.push([took < 10 ? `${took.toFixed(2)} s` : `${took.toFixed(1)} s`, "", "From its start to its end"]);
  return told;
}

const place = ({ server, processor }) => [server, processor].filter(Boolean).join(" ");
