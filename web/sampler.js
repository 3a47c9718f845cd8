// SPDX-License-Identifier: Apache-2.0
// /metrics, asked for every two seconds while the page is seen; ten minutes are kept.
import * as api from "./api.js";

const EVERY_MS = 2000;
const KEPT = 300;
const subscribers = new Set();
export const samples = [];

/** Prometheus' text form: Map of 'name{labels}' -> number. */
export function parseMetrics(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const at = line.lastIndexOf(" ");
    values.set(line.slice(0, at), Number(line.slice(at + 1)));
  }
  return values;
}

/** The sum of all series of a name, of those whose labels `accept`s. */
export function sum(values, name, accept = () => true) {
  let total = 0;
  for (const [key, value] of values) {
    if (key === name || (key.startsWith(`${name}{`) && accept(key.slice(name.length)))) total += value;
  }
  return total;
}

/** Requests of this page itself are not what its reader asks about. */
const isOthers = labels => !/route="(metrics|images|errors|web|index|mirrors?|mirror_events|origins)"/.test(labels);

/** A quantile out of two states of a histogram, in seconds, linear within its bucket;
 * null: nothing happened between. */
function quantile(before, now, name, q) {
  const at = new Map();
  for (const [key, value] of now) {
    const le = key.startsWith(`${name}_bucket{`) ? /le="([^"]+)"/.exec(key)?.[1] : null;
    if (le) {
      const bound = le === "+Inf" ? Infinity : Number(le);
      at.set(bound, (at.get(bound) ?? 0) + value - (before.get(key) ?? 0));
    }
  }
  const bounds = [...at.keys()].sort((a, b) => a - b);
  const all = at.get(Infinity) ?? 0;
  if (!all) return null;
  let low = 0;
  let below = 0;
  for (const bound of bounds) {
    const n = at.get(bound);
    if (n >= q * all)
      return bound === Infinity ? low : low + ((bound - low) * (q * all - below)) / Math.max(n - below, 1);
    low = bound;
    below = n;
  }
  return low;
}

function ratesOf(before, now) {
  const seconds = (now.ms - before.ms) / 1000;
  const per = (name, accept) =>
    Math.max(0, (sum(now.values, name, accept) - sum(before.values, name, accept)) / seconds);
  const hits = per("platter_cache_hits_total");
  const fills = per("platter_cache_fills_total");
  return {
    requests: per("platter_requests_total", isOthers),
    out: per("platter_sent_bytes_total"),
    in: per("platter_origin_bytes_total") + per("platter_prefetch_origin_bytes_total") +
      per("platter_mirror_fetched_bytes_total"),
    hits, fills,
    hitShare: hits + fills > 0 ? hits / (hits + fills) : null,
    p50: quantile(before.values, now.values, "platter_source_read_seconds", 0.5),
    p95: quantile(before.values, now.values, "platter_source_read_seconds", 0.95)
  };
}

async function take() {
  const sample = {ms: Date.now(), values: null, rates: null, error: null};
  try {
    sample.values = parseMetrics(await api.getMetricsText());
    const before = samples.findLast(s => s.values);
    // A gateway that began again counts from zero.
    if (before && sum(before.values, "platter_requests_total") <= sum(sample.values, "platter_requests_total"))
      sample.rates = ratesOf(before, sample);
  } catch (error) {
    sample.error = error;
  }
  samples.push(sample);
  if (samples.length > KEPT) samples.shift();
  for (const fn of subscribers) fn(sample);
}

/** fn(sample) for each new one, until the signal. */
export function subscribe(fn, signal) {
  subscribers.add(fn);
  signal?.addEventListener("abort", () => subscribers.delete(fn));
}

let isTaking = false;
async function tick() {
  if (isTaking || document.hidden) return;
  isTaking = true;
  await take();
  isTaking = false;
}

export function start() {
  tick();
  setInterval(tick, EVERY_MS);
  document.addEventListener("visibilitychange", tick);
}
