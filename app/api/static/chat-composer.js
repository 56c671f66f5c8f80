// Where a message is written, and how its answer is to be made.

import { byId } from "./chat-dom.js";

const STORED = "tandem.sampling";  // no secret: it stays for the next visit

/** `on` has `send(text)` and `stop()`. */
export class Composer {
  #busy = false;

  constructor(on) {
    this.on = on;
    this.box = byId("message");
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.box.addEventListener("input", () => this.#fit());
    byId("stop").addEventListener("click", () => on.stop());
    this.#keepSampling();
    this.#fit();
  }

  /** Whether an answer is under way: then there is a button to stop it, and nothing is sent. */
  set busy(busy) {
    const held = document.activeElement === byId("stop") || document.activeElement === byId("send");
    this.#busy = busy;
    byId("send").hidden = busy;
    byId("stop").hidden = !busy;
    if (held) this.box.focus();
  }

  get text() {
    return this.box.value;
  }

  set text(text) {
    this.box.value = text;
    this.#fit();
  }

  /** Take the focus; where that would bring up a keyboard of glass, leave it to the reader. */
  focus() {
    if (matchMedia("(pointer: coarse)").matches) byId("log").focus({ preventScroll: true });
    else this.box.focus();
  }

  /** What was asked for in the panel, by the names of the HTTP interface. */
  get sampling() {
    const asked = {};
    const [temperature, most] = [byId("temperature"), byId("max-tokens")];
    if (temperature.value !== "" && temperature.validity.valid) asked.temperature = temperature.valueAsNumber;
    if (most.value !== "" && most.validity.valid) asked.max_tokens = most.valueAsNumber;
    return asked;
  }

  #send() {
    const text = this.text.trim();
    if (!text || this.#busy) return;
    for (const input of [byId("temperature"), byId("max-tokens")]) {
      if (input.validity.valid) continue;
      byId("settings").open = true;
      input.reportValidity();
      return;
    }
    this.text = "";
    this.on.send(text);
  }

  #fit() {
    this.box.style.height = "auto";  // through the object model, which the page's policy allows
    this.box.style.height = `${this.box.scrollHeight}px`;
    byId("send").disabled = !this.text.trim();
  }

  #keepSampling() {
    const inputs = [byId("temperature"), byId("max-tokens")];
    const stored = JSON.parse(localStorage.getItem(STORED) ?? "{}");
    for (const input of inputs) {
      input.value = stored[input.id] ?? "";
      input.addEventListener("change", () => {
        localStorage.setItem(STORED, JSON.stringify(Object.fromEntries(inputs.map(({ id, value }) => [id, value]))));
      });
    }
    document.addEventListener("click", (event) => {
      if (!byId("settings").contains(event.target)) byId("settings").open = false;
    });
  }
}
