// SPDX-License-Identifier: Apache-2.0
// What images this gateway knows: searched, sorted and cut into pages by the gateway, so
// that five thousand cost no more than a hundred.
import * as api from "./api.js";
import {imageHref} from "./address.js";
import {addImageForm} from "./add_image.js";
import {announce, bdi, fill, h, keyedRows, setText} from "./dom.js";
import {bytes, count, exactBytes, percent} from "./format.js";
import {problemBox} from "./problem.js";

const PAGE = 100;
const EVERY_MS = 3000;

// ---- What is allocated: of open images, asked for once each, one at a time ----

const allocated = new Map(); // ETag -> bytes, or a promise of them
let queue = Promise.resolve();

function askAllocated(row, then) {
  const known = allocated.get(row.etag);
  if (typeof known === "number") return known;
  if (row.state !== "open" || !row["virtual-size"] || known) return null;
  allocated.set(row.etag, "asked");
  queue = queue.then(async () => {
    try {
      const sums = await api.getExtentSums(api.imageOfRow(row), 0, row["virtual-size"], 1);
      allocated.set(row.etag, sums.data[0] + sums.compressed[0]);
      then();
    } catch {
      allocated.set(row.etag, NaN); // its own page says why
    }
  });
  return null;
}

/** Where it lies: the first part of a reference; a mirror's is a name alone. */
const originOf = row => {
  const reference = row.source ?? row.name;
  return reference.includes("/") ? reference.slice(0, reference.indexOf("/")) : "–";
};

const keyOf = row => JSON.stringify([row.name, api.SELECTORS.map(s => row[s] ?? null), Boolean(row.registered)]);

function makeRow(first, redraw) {
  const image = api.imageOfRow(first);
  const selectors = api.SELECTORS.filter(s => s in first).map(s => h("span.chip", bdi(`${s}=${first[s]}`)));
  const cells = Object.fromEntries(["stack", "virtual", "allocated", "source", "cached", "readers", "state"]
    .map(k => [k, h(`td${["stack", "state", "cached"].includes(k) ? "" : ".num"}`)]));
  const fillBar = h("span");
  const share = h("span.num");
  fill(cells.cached, h("div.cached", h("span.bar", {"aria-hidden": "true"}, fillBar), share));
  const el = h("tr", {dataset: {testid: "image-row", name: first.name}},
    h("th.name", {scope: "row"},
      h("a", {href: imageHref(image)}, bdi(first.name)),
      first.source && first.source !== first.name ? h("span.source.dim", bdi(first.source)) : null,
      selectors.length ? h("span.chips", selectors) : null),
    h("td", bdi(originOf(first))), Object.values(cells));
  let stack = "";
  const update = row => {
    const drivers = row.stack ?? [];
    if (stack !== drivers.join()) {
      stack = drivers.join();
      fill(cells.stack, h("span.chips.stack", drivers.map(d => h("span.chip", d))));
    }
    if (!drivers.length) setText(cells.stack, "–");
    const size = row["virtual-size"];
    const used = askAllocated(row, redraw);
    setText(cells.virtual, bytes(size));
    cells.virtual.title = size === undefined ? "" : exactBytes(size);
    setText(cells.allocated, bytes(used));
    setText(cells.source, bytes(row["source-size"]));
    const cached = row["cached-bytes"];
    fillBar.style.inlineSize = size && cached ? `${Math.min(100, (100 * cached) / size)}%` : "0";
    setText(share, cached === undefined ? "–" : cached ? percent(Math.min(cached, size || cached), size || cached) : "0 %");
    share.title = cached ? `${exactBytes(cached)} of memory` : "";
    setText(cells.readers, row.readers ?? "–");
    const state = row.readers ? "being read" : row.state;
    if (cells.state.textContent !== state)
      fill(cells.state, h(`span.chip${row.readers ? ".live" : row.state === "open" ? ".good" : ""}`, state));
  };
  return {el, update};
}

const COLUMNS = [
  ["Name", "name"], ["Origin", null], ["Format, wrappers, source", null], ["Virtual size", "virtual-size", "num"], ["Allocated", null, "num"],
  ["Source", null, "num"], ["In memory", "cached-bytes"], ["Readers", "readers", "num"], ["State", "state"]
];

/** A table's head whose columns sort; state.sort is the API's. */
function head(state, changed) {
  const cells = COLUMNS.map(([title, key, kind]) => h(`th${kind ? `.${kind}` : ""}`, {scope: "col"},
    key ? h("button.sort", {type: "button", dataset: {testid: `sort-${key}`}, onclick: () => {
      // Figures begin with the largest.
      const first = ["name", "state"].includes(key) ? key : `-${key}`;
      state.sort = state.sort === first ? (first[0] === "-" ? key : `-${key}`) : first;
      state.offset = 0;
      mark();
      changed();
    }}, title) : title));
  function mark() {
    COLUMNS.forEach(([, key], i) => {
      const now = state.sort.replace(/^-/, "");
      if (key && key === now) cells[i].setAttribute("aria-sort", state.sort[0] === "-" ? "descending" : "ascending");
      else cells[i].removeAttribute("aria-sort");
    });
  }
  mark();
  return h("thead", h("tr", cells));
}

export async function showImages(main, address, signal) {
  const state = {search: address.values.search ?? "", sort: "name", offset: 0};
  const body = h("tbody");
  let last = [];
  const draw = keyedRows(body, keyOf, row => makeRow(row, () => draw(last)));
  const trouble = h("div");
  const empty = h("p.empty.dim", {hidden: true});
  const range = h("span.dim", {dataset: {testid: "images-range"}}, " ");
  const turn = by => {
    state.offset = Math.max(0, state.offset + by * PAGE);
    refresh(true);
  };
  const before = h("button.quiet", {type: "button", disabled: true, onclick: () => turn(-1), dataset: {testid: "page-before"}}, "Previous");
  const behind = h("button.quiet", {type: "button", disabled: true, onclick: () => turn(1), dataset: {testid: "page-behind"}}, "Next");

  // Seen when the rows are there: they would push it away.
  const pages = h("div.row.pages.is-waiting", before, behind, range);

  let asking = null; // one at a time; what is wanted goes before what is only due
  async function refresh(isWanted) {
    if (asking && !isWanted) return;
    asking?.abort();
    const mine = new AbortController();
    asking = mine;
    try {
      const {rows, total} = await api.listImages({...state, limit: PAGE}, mine.signal);
      if (mine.signal.aborted || signal.aborted) return;
      if (state.offset >= total && state.offset > 0) { // it became shorter
        state.offset = Math.floor(Math.max(0, total - 1) / PAGE) * PAGE;
        return void refresh(true);
      }
      last = rows;
      draw(rows);
      fill(trouble);
      empty.hidden = total > 0;
      setText(empty, state.search ? `No image has “${state.search}” in its name, source or stack.`
        : "No image yet: open one above, or read one from /disk/ORIGIN/PATH.");
      const text = total ? `${count(state.offset + 1)}–${count(state.offset + rows.length)} of ${count(total)}` : "none";
      setText(range, text);
      pages.classList.remove("is-waiting");
      before.disabled = state.offset === 0;
      behind.disabled = state.offset + rows.length >= total;
      if (isWanted) announce(`Images: ${text}`);
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted) fill(trouble, problemBox(error, () => refresh(true)));
    } finally {
      if (asking === mine) asking = null;
    }
  }

  let timer = 0;
  const search = h("input", {id: "search", type: "search", value: state.search, autocomplete: "off", spellcheck: "false",
    placeholder: "name, source or driver", dataset: {testid: "search"}, oninput: () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        state.search = search.value.trim();
        state.offset = 0;
        refresh(true);
      }, 150);
    }});

  const origins = await api.listOrigins(signal).catch(error => error); // the list is of use without
  if (signal.aborted) return;
  fill(main, h("div.stackup",
    h("h1.unseen", "Images"),
    origins instanceof Error ? problemBox(origins, () => showImages(main, address, signal)) : addImageForm(origins, () => refresh(true)),
    h("section.card.images", {"aria-labelledby": "images-title"},
      h("header",
        h("h2", {id: "images-title"}, "Images of this gateway"),
        h("div.field.end", h("label.unseen", {for: "search"}, "Search"), search)),
      trouble,
      h("div.scroll", {tabindex: "0", role: "group", "aria-labelledby": "images-title"},
        h("table", {dataset: {testid: "images"}}, head(state, () => refresh(true)), body)),
      empty,
      pages)));
  await refresh(false);
  const every = setInterval(() => {
    if (!document.hidden) refresh(false);
  }, EVERY_MS);
  signal.addEventListener("abort", () => {
    clearInterval(every);
    asking?.abort();
  });
}
