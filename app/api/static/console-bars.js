// Bars: a value between nothing and the most there is, or a little above its alert, with marks where it stops being normal
// and where it alerts.

const SPACE = "http://www.w3.org/2000/svg";
const HEADROOM = 1.25;  // the bar ends so far above the alert

/** Draw a bar; `says` tells it to who does not see it. A value that is not known leaves it empty. */
export function bar(value, { normal = null, alert = null, most = alert * HEADROOM, level = "normal", says }) {
  const at = (amount) => (most > 0 ? 100 * Math.min(Math.max(amount / most, 0), 1) : 0);
  const marks = [["normal", normal], ["alert", alert]].filter(([, amount]) => amount !== null).map(([name, amount]) =>
    drawn("line", { class: `mark ${name}`, x1: at(amount), x2: at(amount), y1: 0, y2: 10 }));
  const filled = value === null ? [] : [drawn("rect", { class: `fill ${level ?? "none"}`, width: at(value), height: 10 })];
  return drawn("svg", { class: "bar-of", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img",
    "aria-label": says }, drawn("rect", { class: "rest", width: 100, height: 10 }), ...filled, ...marks);
}

function drawn(tag, attributes, ...children) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, typeof value === "number" ? value.toFixed(2) : value);
  }
  element.append(...children);
  return element;
}
