// Tells a screen reader what an answer says, a sentence at a time: a live region that shows each token would stammer.

const SENTENCE = /^[\s\S]*?[.!?:]["')\]]*\s|^[\s\S]*?\n/;

export class Speech {
  #rest = "";

  constructor(region) {
    this.region = region;
  }

  begin() {
    this.#rest = "";
    this.region.replaceChildren();
  }

  hear(text) {
    this.#rest += text;
    for (let found; (found = SENTENCE.exec(this.#rest));) {
      this.say(found[0]);
      this.#rest = this.#rest.slice(found[0].length);
    }
  }

  /** The answer has ended; `failure` is what there is to say of that. */
  end(failure = "") {
    this.say(this.#rest);
    this.say(failure);
    this.#rest = "";
  }

  say(text) {
    if (!text.trim()) return;
    const line = document.createElement("p");
    line.textContent = text.trim();
    this.region.append(line);
  }
}
