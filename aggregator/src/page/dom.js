// Making and replacing elements; text only ever enters as text.

/** An element with attributes and children; `null` children are left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return made;
}

/** Puts `children` into `parent` unless they read the same as what is there: scroll and focus stay. */
export function replace(parent, ...children) {
  const fresh = children.flat().filter((c) => c !== null && c !== undefined);
  const key = fresh.map((c) => c.outerHTML ?? c).join("");
  if (parent.dataset.key === key) return;
  const scrolled = [...parent.querySelectorAll("ol, .scroll")].map((e) => e.scrollTop);
  parent.replaceChildren(...fresh);
  parent.dataset.key = key;
  [...parent.querySelectorAll("ol, .scroll")].forEach((e, i) => {
    e.scrollTop = scrolled[i] ?? 0;
  });
}

/** A table with a caption, a head and rows; a cell is text, an element or a number (set to the right). */
export function tableOf(caption, head, rows, rowClass = () => null) {
  const numeric = head.map((_, i) => i > 0 && rows.length > 0 && rows.every((r) => typeof r[i] === "number" || /^[–\d.,k%× ]+(ms|s)?$/.test(String(r[i]))));
  const cell = (tag, i, value, scope) => {
    const made = element(tag, scope ? { scope } : {}, typeof value === "number" ? String(value) : value);
    if (numeric[i]) made.className = "n";
    return made;
  };
  return element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, head.map((h, i) => cell("th", i, h, "col")))),
    element("tbody", {}, rows.map((r) => {
      const row = element("tr", {}, r.map((v, i) => (i === 0 ? cell("th", i, v, "row") : cell("td", i, v))));
      const named = rowClass(r);
      if (named) row.className = named;
      return row;
    })));
}
