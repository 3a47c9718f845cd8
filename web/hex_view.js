// SPDX-License-Identifier: Apache-2.0
// Bytes of the guest disk, a sector at a time: a request for each, and for no byte more
// than is shown.
import * as api from "./api.js";
import {fill, h, setText} from "./dom.js";
import {bytes, count, hex, parseOffset} from "./format.js";
import {problemBox, usersMistake} from "./problem.js";

const SHOWN = 512;
const ROW = 16;

const printable = byte => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : "·");

function rowOf(data, off, digits) {
  const cells = [...data].map(b => b.toString(16).padStart(2, "0"));
  const halves = [cells.slice(0, 8).join(" "), cells.slice(8).join(" ")].join("  ").padEnd(ROW * 3);
  const isZero = data.every(b => b === 0);
  return h(`tr${isZero ? ".zeros" : ""}`,
    h("th", {scope: "row"}, off.toString(16).padStart(digits, "0")),
    h("td", halves), h("td", [...data].map(printable).join("")));
}

/** {el, show(off)}: the sector at off. */
export function hexView({image, size, signal}) {
  const digits = Math.max(8, (size - 1).toString(16).length);
  const body = h("tbody");
  const status = h("p.dim", {role: "status", dataset: {testid: "hex-status"}}, " ");
  const trouble = h("div");
  let now = 0;
  let asking = new AbortController();

  async function show(off) {
    asking.abort();
    asking = new AbortController();
    const mine = asking.signal;
    now = Math.max(0, Math.min(off, size - 1));
    const length = Math.min(SHOWN, size - now);
    field.value = hex(now);
    before.disabled = now === 0;
    behind.disabled = now + SHOWN >= size;
    try {
      const data = await api.readDisk(image, now, length, mine);
      if (mine.aborted || signal.aborted) return;
      const rows = [];
      for (let i = 0; i < data.length; i += ROW) rows.push(rowOf(data.subarray(i, i + ROW), now + i, digits));
      fill(body, rows);
      fill(trouble);
      setText(status, `Sector ${count(Math.floor(now / SHOWN))} at ${bytes(now)} · ${count(length)} bytes read`);
    } catch (error) {
      if (mine.aborted || signal.aborted) return;
      fill(body);
      setText(status, " ");
      fill(trouble, problemBox(error, () => show(now)));
    }
  }

  const field = h("input", {id: "hex-offset", type: "text", value: "0x0", size: "16", dir: "ltr", autocomplete: "off",
    spellcheck: "false", "aria-describedby": "hex-help", dataset: {testid: "hex-offset"}});
  const before = h("button.quiet", {type: "button", disabled: true, onclick: () => show(now - SHOWN), dataset: {testid: "hex-before"}}, "Before");
  const behind = h("button.quiet", {type: "button", onclick: () => show(now + SHOWN), dataset: {testid: "hex-behind"}}, "Behind");
  const form = h("form.row", {novalidate: true, onsubmit: e => {
    e.preventDefault();
    const off = parseOffset(field.value);
    if (Number.isNaN(off) || off >= size)
      fill(trouble, problemBox(usersMistake(Number.isNaN(off)
        ? "an offset is like 0x200, 4096, 1.5G or 3s (sectors)" : `the disk ends at ${hex(size)}`)));
    else show(off);
  }},
  h("div.field", h("label", {for: "hex-offset"}, "Offset"), field),
  h("button", {type: "submit", dataset: {testid: "hex-go"}}, "Show"), before, behind);
  signal.addEventListener("abort", () => asking.abort());

  const el = h("section.card", {"aria-labelledby": "hex-title", id: "bytes"},
    h("header", h("h2", {id: "hex-title"}, "Bytes"), h("span.dim", {id: "hex-help"}, "0x200, 4096, 1.5G, or 3s for sectors")),
    form, trouble,
    h("div.scroll.hex", {tabindex: "0", role: "group", "aria-labelledby": "hex-title", dir: "ltr"},
      h("table.mono", {dataset: {testid: "hex"}},
        h("thead.unseen", h("tr", h("th", {scope: "col"}, "Offset"), h("th", {scope: "col"}, "Bytes"), h("th", {scope: "col"}, "Text"))),
        body)),
    status);
  return {el, show};
}
