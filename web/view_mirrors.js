// SPDX-License-Identifier: Apache-2.0
// #/mirrors: what this host keeps of elsewhere, how far each is; #/mirrors/NAME: one.
import * as api from "./api.js";
import {bdi, fill, h, keyedRows, setText} from "./dom.js";
import {bytes, count, exactBytes} from "./format.js";
import {addMirrorForm, mirrorGuide} from "./mirror_add.js";
import {showMirror} from "./mirror_details.js";
import {FETCHED, SAVED, leftText, mirrorActions, progressBar, rateText, stateChip, troublePlace} from "./mirror_parts.js";
import {poll} from "./poll.js";

const EVERY_MS = 2000;
const PAGE = 100;

const COLUMNS = [
  ["Mirror", "name"], ["State", "state"], ["Here", "here"], ["Rate", "num"], ["Left", "num"], ["Fetched", "num", FETCHED],
  ["Saved", "num", SAVED], ["", "do"]
];

/** One row of the table; `changed` asks for the list anew. */
function mirrorRow(name, changed, trouble) {
  const address = encodeURIComponent(name);
  const chip = stateChip();
  const bar = progressBar(`How much of ${name} is here`);
  const actions = mirrorActions(name, {done: changed, failed: error => trouble.show(error)});
  const source = h("p.mirror-source", {}, h("bdi"));
  const error = h("p.mirror-error", {dataset: {testid: "mirror-error"}}, h("bdi"));
  const cells = ["num", "num", "num", "num"].map((kind, i) => h(`td.${kind}`, {role: "cell",
    dataset: {label: COLUMNS[3 + i][0], testid: ["mirror-rate", "mirror-left", "mirror-fetched", "mirror-saved"][i]},
    title: COLUMNS[3 + i][2]}));
  const el = h("tr", {role: "row", dataset: {testid: "mirror-row", name}},
    h("th", {scope: "row", role: "rowheader"},
      h("p.mirror-name", {}, h("a", {href: `#/mirrors/${address}`, dataset: {testid: "mirror-link"}}, bdi(name)),
        h("a.mirror-disk", {href: `#/image/${address}`, "aria-label": `The disk of ${name}`}, "disk")), source, error),
    h("td", {role: "cell"}, chip.el),
    h("td", {role: "cell"}, bar.el),
    cells,
    h("td", {role: "cell"}, actions.el));
  return {
    el,
    update(row) {
      chip.update(row.state);
      bar.update(row);
      actions.update(row);
      setText(source.firstChild, row.source);
      setText(error.firstChild, row.error ?? "");
      error.hidden = !row.error;
      setText(cells[0], rateText(row));
      setText(cells[1], leftText(row));
      setText(cells[2], bytes(row.bytes_fetched));
      setText(cells[3], bytes(row.bytes_reused));
      cells[3].title = `${exactBytes(row.bytes_reused)}. ${SAVED}`;
    }
  };
}

/** Pages of the list, where one is not enough. */
function pager(turn) {
  const button = (label, by) => h("button.quiet", {type: "button", dataset: {testid: `mirrors-${label.toLowerCase()}`},
    onclick: () => turn(by)}, label);
  const back = button("Back", -PAGE);
  const on = button("More", PAGE);
  const words = h("span.dim", {dataset: {testid: "mirrors-count"}});
  back.hidden = on.hidden = true;
  return {
    el: h("div.row.end", {}, words, back, on),
    update(offset, n, total) {
      const isAll = offset === 0 && n < PAGE;
      const all = Math.max(total, offset + n);
      back.hidden = on.hidden = isAll;
      back.disabled = offset === 0;
      on.disabled = n < PAGE || (offset + n >= total && total > PAGE);
      setText(words, isAll
        ? (n ? `${count(n)} ${n === 1 ? "mirror" : "mirrors"}` : "")
        : `${count(offset + 1)} to ${count(offset + n)} of ${count(all)}`);
    }
  };
}

async function showList(main, signal) {
  const body = h("tbody", {role: "rowgroup"});
  const table = h("table.mirrors", {role: "table", "aria-label": "Mirrors"},
    h("thead", {role: "rowgroup"}, h("tr", {role: "row"}, COLUMNS.map(([label, kind, title]) =>
      h("th", {scope: "col", role: "columnheader", class: kind, title}, label || h("span.unseen", "What can be done"))))),
    body);
  const trouble = troublePlace();
  const place = h("div", {dataset: {testid: "mirrors"}}, h("p.dim", "Asking…"));
  let offset = 0;
  let inPlace = null;

  const put = (what, make) => {
    if (inPlace !== what) fill(place, make());
    inPlace = what;
  };
  const pages = pager(by => {
    offset = Math.max(0, offset + by);
    ask();
  });
  const update = keyedRows(body, row => row.name, row => mirrorRow(row.name, changed, trouble));
  async function ask() {
    const from = offset;
    try {
      const {rows, total} = await api.listMirrorsPage(PAGE, from, signal);
      if (signal.aborted || from !== offset) return;
      if (isGone) trouble.clear();
      isGone = false;
      update(rows);
      pages.update(offset, rows.length, total);
      if (rows.length) put("table", () => table);
      else put("guide", () => [h("h3", "This host keeps no image of elsewhere yet"), mirrorGuide()]);
    } catch (error) {
      if (signal.aborted) return;
      isGone = true;
      if (inPlace === null) fill(place);
      trouble.show(error, ask);
    }
  }
  let isGone = false; // what is shown of trouble is that the list did not come
  function changed(row) {
    trouble.clear();
    if (!row) main.focus(); // the button that had it went with its row
    ask();
  }

  fill(main, h("div.stackup.whole", {},
    h("h1", "Mirrors"),
    addMirrorForm(changed),
    h("section.card", {"aria-labelledby": "mirrors-title"},
      h("header", {}, h("h2", {id: "mirrors-title"}, "Kept here"), pages.el),
      trouble.el, place)));
  await poll(EVERY_MS, signal, ask);
}

export function showMirrors(main, address, signal) {
  return address.rest ? showMirror(main, address.rest, signal) : showList(main, signal);
}
