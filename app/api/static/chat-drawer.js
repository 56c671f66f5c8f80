// On narrow screens the conversations lie in a drawer. While it is open, nothing behind it can be reached.

import { byId } from "./chat-dom.js";

export class Drawer {
  constructor() {
    byId("drawer-open").addEventListener("click", () => this.open());
    byId("drawer-close").addEventListener("click", () => this.close());
    byId("shade").addEventListener("click", () => this.close());
    matchMedia("(max-width: 52rem)").addEventListener("change", () => this.close());
  }

  get isOpen() {
    return byId("drawer").classList.contains("shown");
  }

  open() {
    this.#set(true);
    byId("drawer-close").focus();
  }

  close() {
    if (!this.isOpen) return;
    this.#set(false);
    byId("drawer-open").focus();
  }

  #set(open) {
    byId("drawer").classList.toggle("shown", open);
    byId("shade").hidden = !open;
    document.querySelector(".talk").inert = open;
    byId("drawer-open").setAttribute("aria-expanded", String(open));
  }
}
