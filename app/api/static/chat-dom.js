// Builds elements. Text becomes text nodes, never markup: what a model or a person wrote cannot become a part of the page.

const SAID_MS = 2000;

/** Make an element. `properties` that start with "on" are listeners, those with "-" and `role` are attributes. */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make one of the icons that index.html defines. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Make a button with an icon; `label` is its name, shown as its tooltip, and as its text when `text` is set. */
export function iconButton(name, label, onclick, { text = false, className = "" } = {}) {
  return el("button", {
    type: "button", className: `${text ? "quiet" : "icon-button"} ${className}`.trim(), onclick,
    title: text ? "" : label, "aria-label": label,
  }, icon(name), text ? el("span", {}, label) : null);
}

export const byId = (id) => document.getElementById(id);

/** Make a button that copies what `text()` gives, and says so for a moment. */
export function copyButton(label, text) {
  const button = iconButton("copy", label, async () => {
    await copy(text());
    button.replaceChildren(icon("done"));
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", label);
    }, SAID_MS);
  });
  return button;
}

/** Copy text to the clipboard, also where the browser withholds it because the page came over plain HTTP. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = el("textarea", { value: text, className: "off-screen", "aria-hidden": "true" });
  const before = document.activeElement;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  before?.focus();
}
