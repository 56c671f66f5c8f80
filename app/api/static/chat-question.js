// One message of the person, which can be changed while it is the last.

import { el, iconButton } from "./chat-dom.js";

export class Question {
  #text = el("div", { className: "text" });
  #actions = el("div", { className: "actions" });

  /** `changed` is called with the new text. */
  constructor(text, changed) {
    Object.assign(this, { text, changed });
    this.#text.textContent = text;
    this.element = el("article", { className: "question", "aria-label": "Your message" }, this.#text, this.#actions);
  }

  /** Offer to change it, or no more. */
  offer(may) {
    this.#actions.replaceChildren(...(may ? [iconButton("rename", "Edit", () => this.#edit(), { text: true })] : []));
  }

  #edit() {
    const box = el("textarea", { value: this.text, "aria-label": "Your message", rows: 3, onkeydown: (event) => {
      if (event.key === "Escape") this.#leave();
      else if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      else this.#save(box);
      event.preventDefault();
      event.stopPropagation();
    } });
    this.element.classList.add("editing");
    this.element.replaceChildren(box, el("div", { className: "row" },
      el("button", { type: "button", onclick: () => this.#leave() }, "Cancel"),
      el("button", { type: "button", className: "primary", onclick: () => this.#save(box) }, "Save and send")));
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
  }

  #save(box) {
    const text = box.value.trim();
    if (text) this.changed(text);
  }

  #leave() {
    this.element.classList.remove("editing");
    this.element.replaceChildren(this.#text, this.#actions);
    this.#actions.querySelector("button")?.focus();
  }
}
