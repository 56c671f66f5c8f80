// Asks one question in the page's dialog. The browser keeps the focus inside it and gives it back afterwards; Esc says no.

import { byId } from "./chat-dom.js";

/** Ask; the answer is the text (or true where none is asked for), null for no. */
export function ask({ title, text = "", yes, value = null, danger = false }) {
  const dialog = byId("ask");
  const input = byId("ask-input");
  byId("ask-title").textContent = title;
  byId("ask-text").textContent = text;
  byId("ask-text").hidden = !text;
  byId("ask-label").hidden = value === null;
  input.required = value !== null;
  input.value = value ?? "";
  byId("ask-yes").textContent = yes;
  byId("ask-yes").className = danger ? "primary danger" : "primary";
  byId("ask-no").onclick = () => dialog.close("");
  dialog.returnValue = "";
  dialog.showModal();
  if (value === null) byId("ask-no").focus();
  else input.select();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue !== "yes" ? null : value === null ? true : input.value.trim());
    }, { once: true });
  });
}
