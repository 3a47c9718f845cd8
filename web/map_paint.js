// SPDX-License-Identifier: Apache-2.0
// The disk map's pictures, from sums to pixels; nothing is asked for or kept here.
import {bytes} from "./format.js";

const AXIS = 22; // pixels at the foot of the bars
const LIVE = 10; // for what is in memory, between bars and axis
const GAP = 3;

/** Colours of the style sheet, as they are now. */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["data", "compressed", "zero", "hole", "cached", "read", "ink", "dim", "line", "soft", "accent", "card", "font"];
  return Object.fromEntries(names.map(n => [n, style.getPropertyValue(`--${n}`).trim()]));
}

/** The context of a canvas with a pixel of its own for each of the screen's. */
function begin(canvas) {
  const scale = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale);
  const height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const c = canvas.getContext("2d");
  c.setTransform(scale, 0, 0, scale, 0, 0);
  return c;
}

/** First byte of the i-th bucket, as the gateway cuts them. */
const edge = (sums, i) => sums.start + Math.floor((i * sums.length) / sums.buckets);

/** Which bucket has a byte; -1: none. */
export function bounds(sums, off) {
  if (off < sums.start || off >= sums.start + sums.length) return -1;
  let i = Math.min(sums.buckets - 1, Math.floor(((off - sums.start) * sums.buckets) / sums.length));
  while (i > 0 && edge(sums, i) > off) i--;
  while (i + 1 < sums.buckets && edge(sums, i + 1) <= off) i++;
  return i;
}

/** Rectangles of one colour are one path: a thousand fills are quick, ten thousand are not. */
function columns(c, sums, x, top, height, colours) {
  const paths = {data: new Path2D(), compressed: new Path2D(), zero: new Path2D()};
  for (let i = 0; i < sums.buckets; i++) {
    const from = x(edge(sums, i));
    const to = x(edge(sums, i + 1));
    if (to < 0 || from > c.canvas.clientWidth) continue;
    const left = Math.floor(from);
    const wide = Math.max(1, Math.ceil(to) - left);
    const all = edge(sums, i + 1) - edge(sums, i);
    let foot = top + height;
    for (const kind of ["data", "compressed", "zero"]) {
      const part = sums[kind][i];
      if (!part) continue;
      const tall = Math.max(1, (height * part) / all);
      foot -= tall;
      paths[kind].rect(left, Math.max(top, foot), wide, tall);
    }
  }
  for (const [kind, path] of Object.entries(paths)) {
    c.fillStyle = colours[kind];
    c.fill(path);
  }
}

export function paintBars(canvas, view, sums, cursor, colours) {
  const c = begin(canvas);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight - AXIS - LIVE - GAP;
  const x = off => ((off - view.start) / view.length) * width;
  c.clearRect(0, 0, width, canvas.clientHeight);
  c.fillStyle = colours.hole;
  c.fillRect(0, 0, width, height);
  if (sums) columns(c, sums, x, 0, height, colours);
  const at = Math.round(x(cursor));
  c.fillStyle = colours.ink;
  c.fillRect(Math.min(width - 1, Math.max(0, at)), 0, 1, height + GAP + LIVE);
}

/** What is in memory; what is being read, over all of it, fading with its age. */
export function paintLive(canvas, view, live, colours) {
  const c = canvas.getContext("2d");
  const width = canvas.clientWidth;
  const top = canvas.clientHeight - AXIS - LIVE;
  const x = off => ((off - view.start) / view.length) * width;
  c.fillStyle = colours.soft;
  c.fillRect(0, top, width, LIVE);
  if (!live) return;
  c.fillStyle = colours.cached;
  for (let i = 0; i < live.buckets; i++) {
    if (!live.cached[i]) continue;
    const from = Math.floor(x(edge(live, i)));
    const share = live.cached[i] / Math.max(1, edge(live, i + 1) - edge(live, i));
    const tall = Math.max(2, LIVE * Math.min(1, share));
    c.fillRect(from, top + LIVE - tall, Math.max(1, Math.ceil(x(edge(live, i + 1))) - from), tall);
  }
  c.fillStyle = colours.read;
  for (const r of live.reads) {
    c.globalAlpha = Math.max(0.15, 1 - r["age-ms"] / 10000);
    const from = Math.floor(x(r.start));
    const wide = Math.max(2, (r.length / view.length) * width);
    c.fillRect(from, 0, wide, 6);
    c.fillRect(from, top - GAP, wide, GAP);
    if (r["age-ms"] > 2000) continue;
    c.globalAlpha = 0.35;
    c.fillRect(from, 6, wide, top - GAP - 6);
  }
  c.globalAlpha = 1;
}

/** Steps of 1, 2, 4 ... 512 of a unit, so that marks are at round places. */
function stepOf(length, marks) {
  let step = 512;
  while (length / step > marks) step *= 2;
  return step;
}

export function paintAxis(canvas, view, colours) {
  const c = canvas.getContext("2d");
  const width = canvas.clientWidth;
  const top = canvas.clientHeight - AXIS;
  const step = stepOf(view.length, Math.max(2, width / 110));
  c.font = `11px ${colours.font}`;
  c.textBaseline = "top";
  for (let off = Math.ceil(view.start / step) * step; off <= view.start + view.length; off += step) {
    const at = Math.round(((off - view.start) / view.length) * width);
    c.fillStyle = colours.line;
    c.fillRect(Math.min(at, width - 1), top, 1, 5);
    const text = bytes(off);
    const wide = c.measureText(text).width;
    c.fillStyle = colours.dim;
    c.fillText(text, Math.min(width - wide, Math.max(0, at - wide / 2)), top + 7);
  }
}

export function paintOverview(canvas, size, whole, view, colours) {
  const c = begin(canvas);
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  c.clearRect(0, 0, width, height);
  c.fillStyle = colours.hole;
  c.fillRect(0, 0, width, height);
  if (whole) columns(c, whole, off => (off / size) * width, 0, height, colours);
  if (view.length < size) {
    const from = (view.start / size) * width;
    const wide = Math.max(3, (view.length / size) * width);
    c.globalAlpha = 0.25;
    c.fillStyle = colours.accent;
    c.fillRect(from, 0, wide, height);
    c.globalAlpha = 1;
    c.strokeStyle = colours.accent;
    c.lineWidth = 2;
    c.strokeRect(from + 1, 1, Math.max(1, wide - 2), height - 2);
  }
}
