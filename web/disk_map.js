// SPDX-License-Identifier: Apache-2.0
// The whole disk as a picture: a column for each pixel, filled from below by what share
// of its bytes is data, compressed data, zeros; what is left is a hole.  Under it what is
// in the gateway's memory, and the partitions, on the same axis.  The gateway adds up:
// a disk of a million extents comes as a thousand sums, and each zoom asks for its own.
import * as api from "./api.js";
import {announce, bdi, fill, h, setText} from "./dom.js";
import {bytes, count, hex, percent} from "./format.js";
import {problemBox} from "./problem.js";
import {bounds, paintAxis, paintBars, paintLive, paintOverview, palette} from "./map_paint.js";

export const KINDS = [["data", "Data"], ["compressed", "Compressed"], ["zero", "Zeros"], ["hole", "Hole"]];
const LIVE_MS = 1000;
const MOST_BUCKETS = 2048;
const LEAST_VIEW = 4096; // bytes: a page; less than a cluster says nothing more

/** A map of `size` bytes.  partitions(): rows of /v1/partitions.  onOffset(off): somebody
 * wants to look at these bytes.  {el, setPartitions, show(start, length)}. */
export function diskMap({image, size, cluster, onOffset, signal}) {
  const view = {start: 0, length: size};
  const least = Math.min(size, Math.max(LEAST_VIEW, 8 * (cluster || 512)));
  let partitions = [];
  let sums = null; // of the view
  let whole = null; // of the disk
  let live = null;
  let cursor = 0; // a byte of the disk
  let asking = new AbortController();
  let timer = 0;

  const canvas = h("canvas.bars", {tabindex: "0", role: "application", "aria-roledescription": "disk map",
    "aria-label": "Map of the disk. Left and right move, plus and minus zoom, 0 shows all, Enter shows the bytes.",
    "aria-describedby": "map-readout", dataset: {testid: "map"}});
  const overview = h("canvas.overview", {"aria-hidden": "true", dataset: {testid: "overview"}});
  const strip = h("div.partitions", {dataset: {testid: "map-partitions"}});
  const readout = h("p.readout", {id: "map-readout", dataset: {testid: "map-readout"}}, " ");
  const legend = h("dl.legend", {dataset: {testid: "legend"}});
  const cachedText = h("dd", {dataset: {testid: "legend-cached"}}, "–");
  const readsText = h("dd", {dataset: {testid: "legend-reads"}}, "–");
  const trouble = h("div");
  const liveTrouble = h("span.dim", {dataset: {testid: "live-trouble"}});
  let colours = palette();

  const width = () => Math.max(64, Math.floor(canvas.clientWidth));
  const bucketsOf = length => Math.max(1, Math.min(MOST_BUCKETS, width(), length));
  const at = x => Math.min(size - 1, Math.max(0, Math.floor(view.start + (x / width()) * view.length)));

  // ---- Asking ----

  let isAway = false; // nobody answered
  async function ask() {
    asking.abort();
    asking = new AbortController();
    const mine = asking.signal;
    const {start, length} = view;
    try {
      const got = await api.getExtentSums(image, start, length, bucketsOf(length), mine);
      if (mine.aborted || signal.aborted) return;
      sums = got;
      isAway = false;
      if (length === size) whole = got;
      fill(trouble);
      canvas.dataset.shown = `${start}+${length}`;
      paint();
      describe();
    } catch (error) {
      if (mine.aborted || signal.aborted) return;
      isAway = error.status === 0;
      fill(trouble, problemBox(error, ask));
    }
  }

  let isLiving = false;
  async function askLive() {
    if (document.hidden || isLiving) return;
    isLiving = true;
    const {start, length} = view;
    try {
      const got = await api.getActivity(image, start, length, bucketsOf(length), signal);
      if (view.start === start && view.length === length) live = got;
      setText(cachedText, bytes(live?.cached.reduce((a, b) => a + b, 0)));
      setText(readsText, live ? `${count(live.reads.length)} span${live.reads.length === 1 ? "" : "s"}` : "–");
      setText(liveTrouble, "");
      if (isAway) ask();
      paint();
    } catch (error) {
      if (!signal.aborted) setText(liveTrouble, error.message);
    }
    isLiving = false;
  }

  function move(start, length) {
    const n = Math.round(Math.min(size, Math.max(least, length)));
    view.start = Math.round(Math.min(size - n, Math.max(0, start)));
    view.length = n;
    cursor = Math.min(view.start + n - 1, Math.max(view.start, cursor));
    whole ??= sums;
    out.disabled = all.disabled = n === size;
    into.disabled = n === least;
    place();
    paint();
    describe();
    clearTimeout(timer);
    timer = setTimeout(() => {
      ask();
      askLive();
    }, 90);
  }

  const zoom = (factor, about = view.start + view.length / 2) => {
    const length = Math.min(size, Math.max(least, view.length * factor));
    move(about - ((about - view.start) / view.length) * length, length);
  };

  // ---- Painting ----

  let isDue = false;
  function paint() {
    if (isDue || signal.aborted) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      if (signal.aborted) return;
      paintBars(canvas, view, sums, cursor, colours);
      paintLive(canvas, view, live, colours);
      paintAxis(canvas, view, colours);
      paintOverview(overview, size, whole, view, colours);
    });
  }

  /** Partitions where the axis has them. */
  function place() {
    for (const el of strip.children) {
      const {start, length} = el.partition;
      const from = Math.max(start, view.start);
      const to = Math.min(start + length, view.start + view.length);
      el.hidden = to <= from;
      el.style.left = `${(100 * (from - view.start)) / view.length}%`;
      el.style.width = `${(100 * (to - from)) / view.length}%`;
    }
  }

  function partitionAt(off) {
    return partitions.find(p => off >= p.start && off < p.start + p.length);
  }

  /** What lies at the cursor, in words. */
  function describe() {
    const parts = [`Offset ${bytes(cursor)} (${hex(cursor)}, sector ${count(Math.floor(cursor / 512))})`];
    const i = sums ? bounds(sums, cursor) : -1;
    if (i >= 0) {
      const all = KINDS.reduce((n, [k]) => n + sums[k][i], 0);
      parts.push(KINDS.filter(([k]) => sums[k][i] > 0)
        .map(([k, title]) => `${percent(sums[k][i], all)} ${title.toLowerCase()}`).join(", "));
    }
    const p = partitionAt(cursor);
    if (p) parts.push(`partition ${p.number}${p.name || p.filesystem?.label ? ` “${p.filesystem?.label || p.name}”` : ""}`);
    setText(readout, parts.join(" · "));
    const shown = sums ?? {extents: 0};
    if (!sums) return;
    const totals = Object.fromEntries(KINDS.map(([k]) => [k, shown[k].reduce((a, b) => a + b, 0)]));
    fill(legend, KINDS.map(([k, title]) => h("div", h("dt", h(`span.swatch.${k}`), title),
      h("dd", `${bytes(totals[k])} (${percent(totals[k], shown.length)})`))),
    h("div", h("dt", h("span.swatch.cached"), "In memory"),
      cachedText),
    h("div", h("dt", h("span.swatch.read"), "Being read"), readsText));
    if (shown.extents !== undefined)
      setText(runs, `${count(shown.extents)} extent${shown.extents === 1 ? "" : "s"} in view · ${bytes(view.length / sums.buckets)} a column`);
  }

  // ---- Hands ----

  const into = h("button.quiet", {type: "button", "aria-label": "Zoom in", onclick: () => zoom(1 / 4, cursor || undefined), dataset: {testid: "zoom-in"}}, "+");
  const out = h("button.quiet", {type: "button", "aria-label": "Zoom out", disabled: true, onclick: () => zoom(4), dataset: {testid: "zoom-out"}}, "−");
  const all = h("button.quiet", {type: "button", disabled: true, onclick: () => move(0, size), dataset: {testid: "zoom-all"}}, "Whole disk");
  const runs = h("span.dim.end", {dataset: {testid: "runs"}}, " ");

  canvas.addEventListener("keydown", e => {
    const step = Math.max(1, Math.round(view.length / (e.shiftKey ? 8 : 64)));
    const to = {ArrowRight: cursor + step, ArrowLeft: cursor - step, Home: view.start,
      End: view.start + view.length - 1}[e.key];
    if (to !== undefined) {
      cursor = Math.min(size - 1, Math.max(0, to));
      if (cursor < view.start || cursor >= view.start + view.length) move(cursor - view.length / 2, view.length);
    } else if (e.key === "+" || e.key === "=") zoom(1 / 2, cursor);
    else if (e.key === "-") zoom(2, cursor);
    else if (e.key === "0") move(0, size);
    else if (e.key === "Enter") onOffset(cursor - (cursor % 512));
    else return;
    e.preventDefault();
    paint();
    describe();
    announce(readout.textContent); // not where a pointer only passes
  });
  canvas.addEventListener("wheel", e => {
    if (!e.ctrlKey && !e.altKey && document.activeElement !== canvas) return; // the page scrolls
    e.preventDefault();
    const about = at(e.offsetX);
    if (Math.abs(e.deltaX) > Math.abs(e.deltaY)) move(view.start + (e.deltaX / width()) * view.length, view.length);
    else zoom(e.deltaY > 0 ? 1.25 : 0.8, about);
  }, {passive: false});

  let drag = null;
  canvas.addEventListener("pointerdown", e => {
    drag = {x: e.offsetX, start: view.start, moved: false};
    canvas.setPointerCapture(e.pointerId);
  });
  canvas.addEventListener("pointermove", e => {
    if (drag && Math.abs(e.offsetX - drag.x) > 3) drag.moved = true;
    if (drag?.moved) return move(drag.start - ((e.offsetX - drag.x) / width()) * view.length, view.length);
    cursor = at(e.offsetX);
    paint();
    describe();
  });
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      drag = null;
    });
  canvas.addEventListener("dblclick", e => zoom(1 / 4, at(e.offsetX)));
  overview.addEventListener("pointerdown", e => {
    const centre = (e.offsetX / overview.clientWidth) * size;
    move(centre - view.length / 2, view.length);
  });

  const watch = new ResizeObserver(() => {
    paint();
    clearTimeout(timer);
    timer = setTimeout(ask, 90);
  });
  watch.observe(canvas);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const recolour = () => {
    colours = palette();
    paint();
  };
  dark.addEventListener("change", recolour);
  const every = setInterval(askLive, LIVE_MS);
  signal.addEventListener("abort", () => {
    watch.disconnect();
    clearInterval(every);
    clearTimeout(timer);
    asking.abort();
    dark.removeEventListener("change", recolour);
  });
  askLive();

  function setPartitions(rows) {
    partitions = rows;
    fill(strip, rows.map(p => {
      const label = p.filesystem?.label || p.name || p["type-name"] || "";
      const el = h("button.partition", {type: "button", dataset: {testid: "map-partition"},
        title: `${p.number}: ${label} ${bytes(p.length)}`,
        onclick: () => {
          cursor = p.start;
          move(p.start - p.length * 0.02, p.length * 1.04);
        }},
      h("b", p.number), " ", bdi(label), p.filesystem ? h("i", ` ${p.filesystem.type}`) : null);
      el.partition = p;
      return el;
    }));
    place();
    describe();
  }

  const el = h("div.map", {dir: "ltr"},
    h("div.row.map-tools", out, into, all, runs),
    trouble, overview, canvas, strip, readout, legend, liveTrouble);
  return {el, setPartitions, show: (start, length) => {
    cursor = start;
    move(start, length);
  }};
}
