// Shows the little Markdown that models write: code blocks, headings, lists, quotes, rules, bold, emphasis, code.
// Everything becomes elements and text nodes; links, images and HTML stay the text that they are.

import { copyButton, el } from "./chat-dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}([-*_])( *\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const QUOTE = /^ {0,3}> ?(.*)$/;
const INLINE = /(`+)(.+?)\1(?!`)|\*\*(?=\S)(.+?\S?)\*\*|(?<![\w*])\*(?=[^\s*])([^*]*[^\s*])\*(?![\w*])/s;

/** An element that shows Markdown which grows: blocks that did not change are left as they are, selection included. */
export class Markdown {
  #blocks = [];

  constructor(element) {
    this.element = element;
  }

  show(text) {
    const blocks = blocksOf(text);
    let same = 0;
    while (same < blocks.length && same < this.#blocks.length && equal(blocks[same], this.#blocks[same])) same += 1;
    const last = this.#blocks[same];
    if (last?.kind === "code" && blocks[same]?.kind === "code" && last.label === blocks[same].label) {
      this.element.children[same].querySelector("code").textContent = blocks[same].text;  // its copy button keeps the focus
      same += 1;
    }
    while (this.element.children.length > same) this.element.lastChild.remove();
    this.element.append(...blocks.slice(same).map(shown));
    this.#blocks = blocks;
  }
}

/** Take a text apart: a list of blocks, each with its kind and its text or lines. */
export function blocksOf(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const blocks = [];
  for (let at = 0; at < lines.length;) {
    const [block, next] = blockAt(lines, at);
    if (block) blocks.push(block);
    at = next;
  }
  return blocks;
}

function blockAt(lines, at) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  const fence = FENCE.exec(line);
  if (fence) return codeAt(lines, at, fence);
  const heading = HEADING.exec(line);
  if (heading) return [{ kind: "heading", label: String(heading[1].length), text: heading[2] }, at + 1];
  if (RULE.test(line)) return [{ kind: "rule", text: "" }, at + 1];
  const starts = [["list", ITEM], ["quote", QUOTE]].find(([, pattern]) => pattern.test(line));
  let end = at + 1;
  while (end < lines.length && goesOn(starts?.[0], lines[end])) end += 1;
  return [{ kind: starts?.[0] ?? "paragraph", text: lines.slice(at, end).join("\n") }, end];
}

function goesOn(kind, line) {
  if (!line.trim() || FENCE.test(line) || HEADING.test(line)) return false;
  if (kind === "quote") return QUOTE.test(line);
  return kind === "list" || !(ITEM.test(line) || QUOTE.test(line) || RULE.test(line));
}

function codeAt(lines, at, [, mark, label]) {
  const closes = new RegExp(`^ {0,3}${mark[0]}{${mark.length},}\\s*$`);
  let end = at + 1;
  while (end < lines.length && !closes.test(lines[end])) end += 1;
  return [{ kind: "code", label, text: lines.slice(at + 1, end).join("\n") }, end + 1];
}

function equal(one, other) {
  return one.kind === other.kind && one.text === other.text && one.label === other.label;
}

function shown(block) {
  switch (block.kind) {
    case "code": return code(block);
    case "heading": return el(`h${Math.min(Number(block.label) + 2, 6)}`, {}, ...inline(block.text));
    case "rule": return el("hr");
    case "list": return list(block.text.split("\n"));
    case "quote": return el("blockquote", {}, ...inline(block.text.replace(/^ {0,3}> ?/gm, "")));
    default: return el("p", {}, ...inline(block.text));
  }
}

function code({ label, text }) {
  const body = el("code", {}, text);
  return el("div", { className: "code" },
    el("div", { className: "code-head" }, el("span", {}, label || "code"), copyButton("Copy code", () => body.textContent)),
    el("pre", { tabIndex: 0 }, body));
}

/** Show the lines of a list; an item indented further than the one before begins a list inside it. */
function list(lines) {
  const top = [];  // the lists that are open, outermost first: { indent, element }
  let first = null;
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (!item) {
      top.at(-1).element.lastChild.append("\n", ...inline(line.trim()));
      continue;
    }
    const [, { length: indent }, mark, text] = item;
    while (top.length > 1 && indent < top.at(-1).indent) top.pop();
    if (!top.length || indent > top.at(-1).indent + 1) {
      const ordered = /\d/.test(mark);
      const element = el(ordered ? "ol" : "ul", ordered ? { start: parseInt(mark, 10) } : {});
      if (top.length) top.at(-1).element.lastChild.append(element);
      first ??= element;
      top.push({ indent, element });
    }
    top.at(-1).element.append(el("li", {}, ...inline(text)));
  }
  return first;
}

/** Return a line's nodes. */
function inline(text) {
  const nodes = [];
  for (let rest = text; rest;) {
    const found = INLINE.exec(rest);
    if (!found) return [...nodes, rest];
    if (found.index) nodes.push(rest.slice(0, found.index));
    if (found[1]) nodes.push(el("code", {}, found[2].trim() || found[2]));
    else if (found[3]) nodes.push(el("strong", {}, ...inline(found[3])));
    else nodes.push(el("em", {}, ...inline(found[4])));
    rest = rest.slice(found.index + found[0].length);
  }
  return nodes;
}
