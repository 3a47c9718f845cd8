// SPDX-License-Identifier: Apache-2.0
// Lines over the last ten minutes, by uPlot.  What is drawn is said beside it in words,
// and stays as high as it is from the start.
import uPlot from "./vendor/uplot/uPlot.esm.js";
import {h, setText} from "./dom.js";
import {time} from "./format.js";

const HEIGHT = 150;
const WINDOW_S = [120, 600]; // what is drawn, at least and at most
const GAP_MS = 5000; // two samples further apart than this have a gap between them
const dark = matchMedia("(prefers-color-scheme: dark)");
const style = getComputedStyle(document.documentElement);
const colour = name => style.getPropertyValue(name).trim();

/** Steps of an axis of bytes: 1, 2, 4, 8 ... of each unit. */
export const BYTE_STEPS = [0, 1, 2, 3, 4].flatMap(unit =>
  [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map(n => n * 1024 ** unit));

/** Samples as uPlot has them: times, and a list of values for each series; null where
 * there is none. */
export function columns(samples, series) {
  const data = [[], ...series.map(() => [])];
  const put = (ms, values) => [ms / 1000, ...values].forEach((v, i) => data[i].push(v));
  let before = null;
  for (const sample of samples) {
    if (before && sample.ms - before.ms > GAP_MS) put((before.ms + sample.ms) / 2, series.map(() => null));
    put(sample.ms, series.map(s => (sample.rates || s.isState ? s.read(sample) : null) ?? null));
    before = sample;
  }
  return data;
}

/** Values that have none beside them: a line would not show them. */
function lonely(values) {
  const at = [];
  for (let i = 0; i < values.length; i++)
    if (values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null) at.push(i);
  return at;
}

const clock = seconds => {
  const t = new Date(1000 * seconds);
  return `${String(t.getHours()).padStart(2, "0")}:${String(t.getMinutes()).padStart(2, "0")}`;
};

function options({series, format, mark = format, most, steps}, width, font, onCursor) {
  const axis = {stroke: () => colour("--dim"), font, ticks: {show: false}, border: {show: false},
    grid: {stroke: () => colour("--line"), width: 1}};
  return {
    width, height: HEIGHT, legend: {show: false}, padding: [8, 8, 0, 0],
    scales: {
      x: {time: true, range: (u, from, to) => [to - Math.min(Math.max(to - from, WINDOW_S[0]), WINDOW_S[1]), to]},
      y: {range: (u, min, max) => [0, most ?? (max > 0 ? max * 1.1 : 1)]}
    },
    axes: [
      {...axis, grid: {show: false}, space: 70, size: 26, gap: 4, values: (u, splits) => splits.map(clock)},
      {...axis, space: 32, size: 72, gap: 6, values: (u, splits) => splits.map(v => mark(v)),
        ...(steps ? {incrs: steps} : {})}
    ],
    series: [{}, ...series.map(s => ({
      stroke: () => colour(s.colour), width: 1.75, spanGaps: false,
      ...(s.fill ? {fill: () => `color-mix(in srgb, ${colour(s.colour)} 14%, transparent)`} : {}),
      points: {show: false, size: 4, width: 0, fill: () => colour(s.colour), stroke: () => colour(s.colour),
        filter: (u, at) => lonely(u.data[at])}
    }))],
    cursor: {y: false, drag: {x: false, y: false}, sync: {key: "gateway"},
      points: {size: 7, fill: (u, i) => colour(series[i - 1].colour)}},
    hooks: {setCursor: [u => onCursor(u.cursor.idx)]}
  };
}

/** A card with a plot: {title, testid, note, series: [{label, colour: "--data",
 * read(sample), fill, isState: it needs no sample before}], format(value),
 * mark(value): on the axis, as format when it is left out, most: the axis' end, steps: of
 * the axis}.  {el, update(samples)}; it ends with the signal. */
export function plotCard(what, signal) {
  const {title, testid, series, format} = what;
  const values = series.map(s => h("span.plot-value", {
    dataset: {testid: `${testid}-${s.label.replaceAll(" ", "-")}`}
  }, "–"));
  const keys = series.map((s, i) => h("span.plot-key", {},
    h(`span.plot-swatch.${s.colour.slice(2)}`), h("span.dim", s.label), values[i]));
  const when = h("span.plot-when.dim", {});
  const box = h("div.plot", {role: "img", "aria-label": title});
  const el = h("section.card.plot-card", {dataset: {testid}, "aria-label": title},
    h("header", {}, h("h2", title), what.note ? h("span.dim.plot-note", what.note) : null, when),
    h("div.plot-keys", keys), box);
  let plot = null;
  let data = columns([], series);

  function say(index) {
    const isNow = index === null || index === undefined;
    const at = isNow ? data[0].length - 1 : index;
    values.forEach((value, i) => setText(value, format(data[i + 1][at] ?? null)));
    setText(when, isNow || at < 0 ? "" : `at ${time(new Date(1000 * data[0][at]).toISOString()).slice(11)}`);
  }
  function inWords() {
    const words = series.map((s, i) => {
      const known = data[i + 1].filter(v => v !== null);
      return `${s.label} ${format(data[i + 1].at(-1) ?? null)} now` +
        (known.length ? `, ${format(Math.min(...known))} to ${format(Math.max(...known))} lately` : "");
    });
    box.setAttribute("aria-label", `${title}: ${words.join("; ")}`);
  }

  const observer = new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (!width) return;
    if (plot) plot.setSize({width, height: HEIGHT});
    else plot = new uPlot(options(what, width, `11px ${colour("--font")}`, say), data, box);
  });
  observer.observe(box);
  dark.addEventListener("change", () => plot?.redraw(), {signal});
  signal.addEventListener("abort", () => {
    observer.disconnect();
    plot?.destroy();
  });
  return {
    el,
    update(samples) {
      data = columns(samples, series);
      plot?.setData(data);
      if (plot?.cursor.idx === null || plot?.cursor.idx === undefined) say(null);
      inWords();
    }
  };
}
