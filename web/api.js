// SPDX-License-Identifier: Apache-2.0
// The gateway's public API: the only file that knows its addresses.  What is an error
// there is thrown here as ApiError, in the gateway's words.

let token = ""; // in memory alone
const listeners = new Set();

export function setToken(text) {
  token = text;
}
export const hasToken = () => token !== "";
/** fn(error) is called when an answer was 401. */
export function onUnauthorized(fn) {
  listeners.add(fn);
}

/** A problem document (RFC 9457), or what kept an answer from coming. */
export class ApiError extends Error {
  constructor(problem) {
    super(problem.detail ? `${problem.title}: ${problem.detail}` : problem.title);
    Object.assign(this, {status: 0, choices: null, layer: null, detail: null, request_id: null}, problem);
  }
}

async function problemOf(response) {
  const id = response.headers.get("X-Request-Id");
  try {
    const doc = await response.json();
    if (doc.title) return new ApiError({...doc, request_id: doc.request_id ?? id});
  } catch { /* not every answer is of the gateway */ }
  return new ApiError({title: response.statusText || "an answer without a reason", status: response.status,
    request_id: id});
}

/** A Response that is good; throws ApiError.  options: fetch's, with `headers` an object. */
async function request(path, options = {}) {
  const headers = {...options.headers};
  const sent = token;
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, {credentials: "same-origin", redirect: "error", ...options, headers});
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new ApiError({title: "the gateway does not answer", detail: "it has stopped, or the network is down"});
  }
  if (response.ok) return response;
  const error = await problemOf(response);
  // Of a token that was given up meanwhile nobody needs to know.
  if (error.status === 401 && sent === token) for (const fn of listeners) fn(error);
  throw error;
}

const getJson = async (path, signal) => (await request(path, {signal, cache: "no-store"})).json();

async function getList(path, signal) {
  const response = await request(path, {signal, cache: "no-store"});
  const rows = await response.json();
  const total = Number(response.headers.get("X-Total-Count") ?? rows.length);
  return {rows, total};
}

const sendJson = async (path, method, body) => {
  const response = await request(path, {method, headers: body ? {"Content-Type": "application/json"} : {},
    body: body ? JSON.stringify(body) : undefined});
  return response.status === 204 ? null : response.json().catch(() => null);
};

// ---- References ----

export const SELECTORS = ["member", "snapshot", "partition", "layers", "secret"];

/** "lab/a b.tar" -> "lab/a%20b.tar"; each segment by itself. */
export const encodePath = path => path.split("/").map(encodeURIComponent).join("/");

function query(values) {
  const parts = Object.entries(values)
    .filter(([, v]) => v !== undefined && v !== null)
    .map(([k, v]) => `${k}=${encodeURIComponent(v)}`);
  return parts.length ? `?${parts.join("&")}` : "";
}

/** An image: {path: "lab/x.ova" or a registered name, selectors: {member, ...}}. */
export const imageOf = (path, selectors = {}) => ({path, selectors});
/** Of a row of the list of images. */
export const imageOfRow = row => imageOf(row.name,
  row.registered ? {} : Object.fromEntries(SELECTORS.filter(s => s in row).map(s => [s, row[s]])));

const at = (what, image, more = {}) => `/v1/${what}/${encodePath(image.path)}${query({...image.selectors, ...more})}`;

/** The address of the guest disk, for other programs: selectors as path parameters, since
 * not every client can send a query; and nothing in it that quotes or opens a group, since
 * each has a syntax of its own. */
export function diskUrl(image, what = "disk") {
  const parameters = Object.entries(image.selectors)
    .map(([k, v]) => `;${k}=${encodeURIComponent(v)}`).join("");
  const path = `${encodePath(image.path)}${parameters}`
    .replaceAll(/[!'()*]/g, c => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
  return `${location.origin}/${what}/${path}`;
}

// ---- What there is ----

export const listImages = ({search, sort, limit, offset}, signal) =>
  getList(`/v1/images${query({search: search || undefined, sort, limit, offset})}`, signal);
export const listOrigins = signal => getJson("/v1/origins", signal);
export const listFiles = async (origin, folder, prefix, limit, signal) =>
  getList(`/v1/files/${encodePath(`${origin}/${folder}`)}${query({prefix: prefix || undefined, limit})}`, signal);
export const registerImage = entry => sendJson("/v1/images", "POST", entry);
/** A registered image's row; undefined: no image is registered under this name. */
export const getRegistered = async (name, signal) =>
  (await listImages({search: name, sort: "name", limit: 1000}, signal)).rows.find(r => r.name === name && r.registered);
export const forgetImage = name => sendJson(`/v1/images/${encodeURIComponent(name)}`, "DELETE");

export const getInfo = (image, signal) => getJson(at("info", image), signal);
export const getPartitions = (image, signal) => getJson(at("partitions", image), signal);
export const listSnapshots = (image, limit, signal) => getList(at("snapshots", image, {limit}), signal);
export const listMembers = (image, limit, offset, signal) =>
  getList(at("members", image, {limit, offset: offset || undefined}), signal);
export const getExtentSums = (image, start, length, buckets, signal) =>
  getJson(at("extents", image, {start, length, buckets}), signal);
export const getActivity = (image, start, length, buckets, signal) =>
  getJson(at("extents", image, {start, length, buckets, context: "cache"}), signal);

/** Bytes [off, off + length) of the guest disk, and no more than these. */
export async function readDisk(image, off, length, signal) {
  const response = await request(`/disk/${encodePath(image.path)}${query(image.selectors)}`,
    {signal, cache: "no-store", headers: {Range: `bytes=${off}-${off + length - 1}`}});
  if (response.status !== 206) {
    await response.body?.cancel();
    throw new ApiError({title: "the whole disk came for a range", status: response.status});
  }
  return new Uint8Array(await response.arrayBuffer());
}

export const listMirrors = signal => getJson("/v1/mirrors", signal);
export const listMirrorsPage = (limit, offset, signal) =>
  getList(`/v1/mirrors${query({limit, offset: offset || undefined})}`, signal);
export const getMirror = (name, signal) => getJson(`/v1/mirrors/${encodeURIComponent(name)}`, signal);
export const addMirror = entry => sendJson("/v1/mirrors", "POST", entry);
export const changeMirror = (name, change) => sendJson(`/v1/mirrors/${encodeURIComponent(name)}`, "POST", change);
export const removeMirror = name => sendJson(`/v1/mirrors/${encodeURIComponent(name)}`, "DELETE");

export const listErrors = signal => getJson("/v1/errors", signal);
export const getMetricsText = async signal => (await request("/metrics", {signal, cache: "no-store"})).text();

// ---- Server-sent events, by fetch: EventSource cannot send a token ----

/** "event"/"data" blocks of a stream, each as [name, value]. */
async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const lines = text.slice(0, end).split("\n");
        text = text.slice(end + 2);
        const name = lines.find(l => l.startsWith("event: "))?.slice(7);
        const data = lines.filter(l => l.startsWith("data: ")).map(l => l.slice(6)).join("\n");
        if (name) yield [name, JSON.parse(data)];
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // a stream that nobody reads holds its connection
  }
}

/** onProgress(value) for each "progress"; the value of the last event.  Throws what an
 * "error" event says. */
async function watch(path, onProgress, signal) {
  const response = await request(path, {signal, cache: "no-store", headers: {Accept: "text/event-stream"}});
  if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) return response.json();
  for await (const [name, value] of eventsOf(response)) {
    if (name === "progress") onProgress(value);
    else if (name === "error") throw new ApiError(value);
    else return value;
  }
  throw new ApiError({title: "the job's end was not told", detail: "the connection ended before it"});
}

export const check = (image, onProgress, signal) => watch(at("check", image), onProgress, signal);
export const checksum = (image, algorithm, onProgress, signal) =>
  watch(at("checksum", image, {algorithm}), onProgress, signal);
export const watchMirror = (name, onProgress, signal) =>
  watch(`/v1/mirrors/${encodeURIComponent(name)}/events`, onProgress, signal);
