// SPDX-License-Identifier: Apache-2.0
// A text field that proposes how it may go on (WAI-ARIA's editable combobox with a list):
// arrows choose, Enter or Tab takes, Escape closes.  What is proposed never keeps the
// user from writing something else.
import {add, bdi, fill, h} from "./dom.js";

let made = 0;

/** propose(text, signal) gives [{value, note, isOpen}]: isOpen values go on (a folder).
 * onEnter(): Enter with nothing chosen.  {input, el}. */
export function combobox({id, label, placeholder, propose, onEnter, testid}) {
  const listId = `proposals-${++made}`;
  let rows = [];
  let chosen = -1;
  let pending = new AbortController();
  let timer = 0;

  const list = h("ul.proposals", {id: listId, role: "listbox", "aria-label": `${label}: proposals`, hidden: true,
    dataset: {testid: `${testid}-list`}});
  const input = h("input", {id, type: "text", role: "combobox", autocomplete: "off", autocapitalize: "off",
    spellcheck: "false", dir: "ltr", placeholder, "aria-autocomplete": "list", "aria-expanded": "false",
    "aria-controls": listId, dataset: {testid},
    oninput: () => later(), onfocus: () => later(), onblur: () => close(), onkeydown: onKey});

  function close() {
    pending.abort();
    clearTimeout(timer);
    list.hidden = true;
    rows = [];
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function choose(i) {
    chosen = i;
    [...list.children].forEach((el, k) => el.setAttribute("aria-selected", String(k === i)));
    if (i < 0) {
      input.removeAttribute("aria-activedescendant");
      return;
    }
    input.setAttribute("aria-activedescendant", `${listId}-${i}`);
    list.children[i].scrollIntoView({block: "nearest"});
  }

  function take(row) {
    input.value = row.value;
    close();
    if (row.isOpen) later();
  }

  function show(found) {
    rows = found;
    chosen = -1;
    fill(list, rows.map((row, i) => h("li", {id: `${listId}-${i}`, role: "option", "aria-selected": "false",
      onpointerdown: e => {
        e.preventDefault(); // the field keeps the focus
        take(row);
        input.focus();
      }}, add(h("span"), bdi(row.value)), row.note ? h("span.dim", row.note) : null)));
    list.hidden = rows.length === 0;
    input.setAttribute("aria-expanded", String(rows.length > 0));
  }

  function later() {
    clearTimeout(timer);
    pending.abort();
    pending = new AbortController();
    const {signal} = pending;
    timer = setTimeout(async () => {
      const found = await propose(input.value, signal).catch(() => []);
      if (!signal.aborted && document.activeElement === input) show(found);
    }, 120);
  }

  function onKey(e) {
    if (e.key === "ArrowDown" && rows.length) choose((chosen + 1) % rows.length);
    else if (e.key === "ArrowUp" && rows.length) choose(chosen <= 0 ? rows.length - 1 : chosen - 1);
    else if (e.key === "Escape" && input.value) close(); // and what is still asked for
    else if (e.key === "Enter" && chosen >= 0) take(rows[chosen]);
    else if (e.key === "Tab" && chosen >= 0) return take(rows[chosen]);
    else if (e.key === "Enter") return onEnter?.();
    else return;
    e.preventDefault();
  }

  return {input, el: h("div.field.grow", h("label", {for: id}, label), input, list), close};
}
