// SPDX-License-Identifier: Apache-2.0
// #/gateway: how it is doing, now and over the last ten minutes, from /metrics.
import {fill, h, keyedRows, setText} from "./dom.js";
import {errorsCard} from "./error_table.js";
import {bytes, count, duration, percent, rate} from "./format.js";
import {byteMeter} from "./meter.js";
import {BYTE_STEPS, plotCard} from "./plot.js";
import {samples, subscribe, sum} from "./sampler.js";

const share = v => (v === null ? "–" : percent(v, 1));
/** The gateway's finest bucket is a millisecond: what is said to be below is not known
 * closer. */
const latency = s => (s !== null && s > 0 && s < 0.001 ? "<1 ms" : duration(s));
const latencyMark = s => (s > 0 && s < 0.001 ? `${s * 1000} ms` : duration(s));
const gauge = name => sample => (sample.values ? sum(sample.values, name) : null);

const PLOTS = [
  {title: "Requests a second", testid: "plot-requests", note: "without this page's own", format: count,
    series: [{label: "requests", colour: "--data", fill: true, read: s => s.rates.requests}]},
  {title: "Bytes a second", testid: "plot-bytes", format: rate, steps: BYTE_STEPS, series: [
    {label: "out to clients", colour: "--data", fill: true, read: s => s.rates.out},
    {label: "in from sources", colour: "--read", read: s => s.rates.in}]},
  {title: "Found in the cache", testid: "plot-hits", note: "of the blocks asked for", format: share, most: 1,
    series: [{label: "hits", colour: "--cached", fill: true, read: s => s.rates.hitShare}]},
  {title: "Waiting for sources", testid: "plot-latency", note: "a read of an origin or a disk",
    format: latency, mark: latencyMark, series: [
    {label: "half within", colour: "--data", read: s => s.rates.p50},
    {label: "95 % within", colour: "--compressed", read: s => s.rates.p95}]},
  {title: "Workers", testid: "plot-workers", format: count, series: [
    {label: "running", colour: "--data", isState: true, fill: true, read: gauge("platter_workers_running")},
    {label: "queued", colour: "--read", isState: true, read: gauge("platter_workers_queued")}]}
];

// Memory and disk of budgets: [label, what it is, value, its budget, whether it is left
// out when there is none].
const METERS = [
  ["Cache", "Blocks, and what is reserved", "platter_cache_bytes", "platter_cache_budget_bytes"],
  ["Reserved of it", "By open images and running reads; at most half", "platter_cache_reserved_bytes", "platter_cache_budget_bytes"],
  ["Lent of it", "That answers are being sent from; at most an eighth", "platter_cache_lent_bytes", "platter_cache_budget_bytes"],
  ["Held for clients", "Answers not sent yet, and bodies", "platter_client_memory_bytes", "platter_client_memory_budget_bytes"],
  ["Disk cache", "Blocks that are kept on disk", "platter_disk_cache_bytes", "platter_disk_cache_limit_bytes", true],
  ["Store of mirrors", "Leaves of mirrors on disk", "platter_store_bytes", "platter_store_limit_bytes"]
];

function memoryCard() {
  const meters = METERS.map(([label, title, value, most, isOptional]) =>
    ({value, most, isOptional, meter: byteMeter(label, `meter-${value.replace(/^platter_|_bytes$/g, "")}`, title)}));
  for (const {isOptional, meter} of meters) meter.el.hidden = isOptional === true; // until it is known that there is one
  return {
    el: h("section.card.plot-card", {"aria-label": "Memory and disk"}, h("header", {}, h("h2", "Memory and disk"),
      h("span.dim.plot-note", "of what is allowed")), h("div.meters", {}, meters.map(m => m.meter.el))),
    update(values) {
      for (const {value, most, isOptional, meter} of meters) {
        const limit = sum(values, most);
        meter.el.hidden = isOptional && !limit;
        meter.update(sum(values, value), limit);
      }
    }
  };
}

/** A big figure: {el, update(text, note)}. */
function figure(label, testid, href) {
  const value = h("dd", {dataset: {testid}}, "–");
  const note = h("dd.figure-note", {});
  return {
    el: h("div.figure", {}, h("dt", {}, href ? h("a", {href}, label) : label), value, note),
    update(text, more) {
      setText(value, text);
      setText(note, more);
    }
  };
}

function nowCard() {
  const active = figure("Being answered", "now-active");
  const open = figure("Images open", "now-open", "#/");
  const workers = figure("Workers running", "now-workers");
  const mirrors = figure("Mirrors", "now-mirrors", "#/mirrors");
  return {
    el: h("section.card", {"aria-label": "Now"}, h("dl.figures.now", {}, [active, open, workers, mirrors].map(f => f.el))),
    update(values) {
      const of = name => sum(values, name);
      active.update(count(of("platter_requests_active")), "requests");
      open.update(count(of("platter_images_open")),
        `${count(of("platter_indexes_complete"))} of ${count(of("platter_indexes_open"))} indexes complete`);
      workers.update(`${count(of("platter_workers_running"))} of ${count(of("platter_workers"))}`,
        `${count(of("platter_workers_queued"))} queued`);
      const states = ["mirroring", "complete", "paused", "failed"].map(state =>
        [state, sum(values, "platter_mirrors", labels => labels === `{state="${state}"}`)]);
      mirrors.update(count(of("platter_mirrors")),
        states.filter(([, n]) => n).map(([state, n]) => `${count(n)} ${state}`).join(", ") || "none kept here");
    }
  };
}

// What a refusal was for, in words; a name that is not here is told as it is.
const BUDGETS = {
  max_connections_per_client: "connections of one client", max_waiting_per_client: "waiting requests of one client",
  max_waiting_per_image: "waiting requests for one image", waiting_per_origin: "waiting requests for one origin",
  workers: "the queue of all workers", max_open: "images open at a time", cache_size: "memory of the cache",
  client_memory: "memory held for clients", deadline: "the wait for a source", client_timeout: "a client that stopped",
  min_rate: "a client that read too slowly", max_ranges: "ranges of one request", body_size: "size of a body",
  header_size: "size of a header", url_size: "length of an address"
};

function refusedCard() {
  const list = h("dl.facts-list", {dataset: {testid: "refused"}});
  const none = h("p.dim", "Nothing since the gateway started.");
  const update = keyedRows(list, row => row.label, row => {
    const value = h("dd.num.start");
    return {el: h("div.fact", {}, h("dt", {}, row.label), value), update: r => setText(value, count(r.n))};
  });
  return {
    el: h("section.card", {"aria-label": "Refused"}, h("header", {}, h("h2", "Refused"),
      h("span.dim", "what was over a budget, or lacked a right")), none, list),
    update(values) {
      const rows = [];
      for (const [key, n] of values) {
        const [, budget, reason] = /^platter_(?:refused_total\{budget="([^"]*)"|access_refused_total\{reason="([^"]*)")\}$/.exec(key) ?? [];
        if (n > 0 && (budget || reason)) rows.push({label: BUDGETS[budget] ?? (budget ?? reason).replaceAll("_", " "), n});
      }
      none.hidden = rows.length > 0;
      update(rows);
    }
  };
}

export async function showGateway(main, address, signal) {
  const plots = PLOTS.map(what => plotCard(what, signal));
  const memory = memoryCard();
  const now = nowCard();
  const refused = refusedCard();
  const errors = errorsCard();

  fill(main, h("div.stackup.whole", {},
    h("h1", "The gateway"), now.el,
    h("div.columns", {}, plots.map(p => p.el), memory.el),
    refused.el, errors.el));
  function show() {
    const latest = samples.findLast(s => s.values)?.values;
    if (latest) for (const card of [now, memory, refused]) card.update(latest);
    for (const plot of plots) plot.update(samples);
  }
  show();
  subscribe(show, signal);
  await errors.run(signal);
}
