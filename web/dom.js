// SPDX-License-Identifier: Apache-2.0
// Elements from code.  Texts of images and clients are hostile: they become text
// nodes and attributes here, never markup.

/** h("a.name", {href, onclick, "aria-label"}, child, [children], "text"): an element.
 * A property whose value is null, undefined or false is left out; on* are listeners;
 * `dataset` and `style` take objects. */
export function h(what, props, ...children) {
  const [tag, ...classes] = what.split(".");
  const el = document.createElement(tag);
  if (classes.length) el.className = classes.join(" ");
  if (props && (typeof props !== "object" || props instanceof Node || Array.isArray(props))) {
    children.unshift(props);
    props = null;
  }
  for (const [key, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else if (key === "dataset") Object.assign(el.dataset, value);
    else if (key === "style") for (const [k, v] of Object.entries(value)) el.style.setProperty(k, v);
    else if (key === "value" || key === "checked" || key === "disabled") el[key] = value;
    else el.setAttribute(key, value === true ? "" : value);
  }
  add(el, children);
  return el;
}

export function add(el, ...children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    el.append(child instanceof Node ? child : String(child));
  }
  return el;
}

/** In place of all that el has. */
export function fill(el, ...children) {
  el.replaceChildren();
  return add(el, children);
}

/** A name that somebody else chose: its direction is its own. */
export const bdi = text => h("bdi", {}, text);

/** Say it to who does not look. */
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

/** Set a text only when it is another: what reads the page aloud is not told again. */
export function setText(el, text) {
  if (el.textContent !== String(text)) el.textContent = text;
}

/** Rows of a table's body by key, each made once and then updated in place, so that
 * the focus stays where it is.  make(row) gives {el, update(row)}.  Of rows with one key
 * (clients choose request ids, and two versions of an image have one name) each is a row. */
export function keyedRows(body, keyOf, make) {
  let live = new Map();
  return rows => {
    const next = new Map();
    let at = body.firstElementChild;
    for (const row of rows) {
      const first = keyOf(row);
      let key = first;
      for (let n = 2; next.has(key); n++) key = `${first} ${n}`;
      const entry = live.get(key) ?? make(row);
      live.delete(key);
      next.set(key, entry);
      entry.update(row);
      if (entry.el === at) at = at.nextElementSibling;
      else body.insertBefore(entry.el, at);
    }
    for (const entry of live.values()) entry.el.remove();
    live = next;
  };
}
