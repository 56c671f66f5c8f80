// Changes what is shown to what is to be shown, and leaves alone what is the same: so the focus, a selection and a scroll
// position outlive each refresh.

/** Make the children of `place` like `wanted`. */
export function show(place, ...wanted) {
  const nodes = wanted.flat().filter((node) => node !== null && node !== undefined)
    .map((node) => (typeof node === "string" ? document.createTextNode(node) : node));
  const held = [...place.childNodes];
  nodes.forEach((node, index) => {
    if (!held[index]) place.append(node);
    else if (!held[index].isEqualNode(node)) become(held[index], node);
  });
  held.slice(nodes.length).forEach((node) => node.remove());
}

function become(old, node) {
  if (old.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) {
    old.data = node.data;
    return;
  }
  if (old.nodeName !== node.nodeName || old.nodeType !== Node.ELEMENT_NODE) {
    old.replaceWith(node);
    return;
  }
  for (const { name } of [...old.attributes]) if (!node.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of [...node.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  show(old, ...node.childNodes);
}
