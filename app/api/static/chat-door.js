// The door: the forms by which one signs in, of the chat page and of the console.

import { byId } from "./chat-dom.js";

/** Have a form sign in by `how`, which is given its elements; then `enter`. What goes wrong is told at the door. */
export function opens(form, how, enter) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    byId("door-problem").textContent = "";
    try {
      await how(form.elements);
      form.reset();
      await enter();
    } catch (problem) {
      byId("door-problem").textContent = problem.message;
    } finally {
      button.disabled = false;
    }
  });
}
