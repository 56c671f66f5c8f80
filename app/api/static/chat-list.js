// The list of conversations: opens, renames and deletes them.

import { ask } from "./chat-ask.js";
import { byId, el, iconButton } from "./chat-dom.js";

const UNTITLED = "Untitled";  // until the model has made a title, or where it made none

/** `on` has `open(id)`, `changed()` (tell the other tabs), `deleted(id)` and `failed(problem)`. */
export class List {
  #all = [];
  #next = null;
  #open = null;

  constructor(api, on) {
    Object.assign(this, { api, on });
    byId("more").addEventListener("click", () => this.#more());
  }

  /** Read the list anew. */
  async load() {
    const { data, next } = await this.api.list();
    this.#all = data;
    this.#next = next;
    this.#show();
  }

  clear() {
    this.#all = [];
    this.#next = null;
    this.#show();
  }

  /** Mark a conversation as the one shown, null for none. */
  mark(id) {
    this.#open = id;
    this.#show();
  }

  title(id) {
    if (!id) return "New conversation";
    return this.#all.find((each) => each.id === id)?.title || UNTITLED;
  }

  isTitled(id) {
    return Boolean(this.#all.find((each) => each.id === id)?.title);
  }

  async #more() {
    try {
      const { data, next } = await this.api.list(this.#next);
      const known = new Set(this.#all.map(({ id }) => id));
      this.#all.push(...data.filter(({ id }) => !known.has(id)));
      this.#next = next;
      this.#show();
    } catch (problem) {
      this.on.failed(problem);
    }
  }

  #show() {
    const list = byId("conversations");
    const focused = document.activeElement?.closest?.("#conversations [data-id]");
    const [id, at] = focused ? [focused.dataset.id, [...focused.children].indexOf(document.activeElement)] : [null, 0];
    list.replaceChildren(...this.#all.map((each) => this.#row(each)));
    if (!this.#all.length) list.append(el("li", { className: "empty" }, "No conversations yet"));
    if (id) list.querySelector(`[data-id="${CSS.escape(id)}"]`)?.children[at]?.focus();
    byId("more").hidden = !this.#next;
  }

  #row({ id, title }) {
    const name = title || UNTITLED;
    const open = id === this.#open;
    const row = el("li", { className: open ? "open" : "" },
      el("button", { type: "button", className: "name", title: name, "aria-current": open ? "true" : "false",
        onclick: () => this.on.open(id) }, name),
      iconButton("rename", `Rename ${name}`, () => this.#rename(id, name)),
      iconButton("delete", `Delete ${name}`, () => this.#remove(id, name)));
    row.dataset.id = id;
    return row;
  }

  async #rename(id, name) {
    const title = await ask({ title: "Rename the conversation", yes: "Rename", value: name });
    if (title) await this.#then(this.api.rename(id, title));
  }

  async #remove(id, name) {
    const text = `“${name}” and its messages will be gone for good.`;
    const sure = await ask({ title: "Delete the conversation?", text, yes: "Delete", danger: true });
    if (sure && await this.#then(this.api.remove(id))) this.on.deleted(id);
  }

  async #then(change) {
    try {
      await change;
      await this.load();
      this.on.changed();
      return true;
    } catch (problem) {
      this.on.failed(problem);
      return false;
    }
  }
}
