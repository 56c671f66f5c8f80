// One answer on the page: what the model says, its reasoning apart, and how it came about.

import { copy, el, icon, iconButton } from "./chat-dom.js";
import { Markdown } from "./chat-markdown.js";

const ENDINGS = {
  cancelled: "Stopped.",
  expired: "Its deadline passed before a worker was free.",
  failed: "The answer failed.",
};

/** Shows an answer as it comes. `heard` is called with what has been added to the text, for those who listen to it. */
export class Answer {
  text = "";
  reasoning = "";
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
    switch (name) {
      case "queued": return this.#tell(waiting(data));
      case "started": return this.#tell("Starting");
      case "restarted": return this.#restart();
      case "token": return this.#add(data);
      case "broken": return this.#tell("The connection broke; connecting again");
      default: return this.end(data);
    }
  }

  /** Say where a job stands that has said nothing yet. */
  waits(job) {
    if (job.state === "queued") this.#tell(waiting(job));
  }

  /** Show a whole answer. */
  set({ text = "", reasoning = "" }) {
    Object.assign(this, { text, reasoning: reasoning ?? "" });
    this.#paint();
  }

  /** Show how the job ended. */
  end(job) {
    if (job.state === "succeeded" && job.result) this.set({ text: job.result.text, reasoning: job.result.reasoning_content });
    const why = job.error?.detail ?? "";
    this.#finish(job.state === "succeeded" ? "" : job.state === "failed" && why ? `${ENDINGS.failed} ${why}` : ENDINGS[job.state]);
    if (job.state === "succeeded" && job.result?.finish_reason === "length") this.#note("It was cut off at the most tokens allowed.");
    this.tellMade(job);
  }

  /** Show that there will be no answer, and why. */
  fail(problem) {
    this.#finish(problem.message);
  }

  /** Show which server and processor answered, in which attempt, with how many tokens and in what time. */
  tellMade(job) {
    this.#facts.replaceChildren(...facts(job).map(([text, className, title]) => el("li", { className, title }, text)));
    this.element.lastChild.hidden = false;
  }

  /** Offer what can be done with the answer: to copy it, and, where `again` is given, to have another. */
  offer({ again = null } = {}) {
    this.#actions.replaceChildren(
      ...(this.text ? [iconButton("copy", "Copy answer", () => copy(this.text))] : []),
      ...(again ? [iconButton("again", "Regenerate", again, { text: true })] : []));
    this.element.lastChild.hidden = false;
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

function waiting({ position, eta_s: etaS }) {
  const place = position > 0 ? `Waiting, ${position} ahead` : "Waiting for a worker";
  return etaS >= 1 ? `${place}, about ${Math.round(etaS)} s` : place;
}

/** Return what there is to tell of a job: text, class and tooltip of each fact. */
function facts(job) {
  const spent = job.usage ?? {};
  const took = job.started_at && job.finished_at ? (Date.parse(job.finished_at) - Date.parse(job.started_at)) / 1000 : null;
  const told = [];
  if (job.server) told.push([[job.server, job.processor].filter(Boolean).join(" "), "place", "The server and the processor that answered"]);
  if (job.route === "cloud") told.push(["cloud", "", "It ran in the cloud"]);
  if (job.attempt) told.push([`attempt ${job.attempt}`, "", "How often it was begun"]);
  if (spent.completion_tokens !== undefined) {
    told.push([`${spent.prompt_tokens} + ${spent.completion_tokens} tokens`, "", "Tokens read and tokens written"]);
  }
  if (took !== null) told.push([took < 10 ? `${took.toFixed(2)} s` : `${took.toFixed(1)} s`, "", "From its start to its end"]);
  return told;
}
