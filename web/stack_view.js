// SPDX-License-Identifier: Apache-2.0
// The stack as it was opened, from the guest disk down to the origin, and the chain of
// images below it.
import * as api from "./api.js";
import {imageHref} from "./address.js";
import {bdi, h} from "./dom.js";
import {bytes, count, exactBytes} from "./format.js";

const ROLES = {format: "image format", archive: "archive", wrapper: "compression", source: "source",
  partition: "partition", filter: "window"};
const WHAT = {
  qcow2: "QEMU's copy-on-write image", vmdk: "VMware's virtual disk", tar: "tar archive", gzip: "gzip stream", file: "local file",
  curl: "over HTTP", raw: "the bytes as they are", partition: "partition table", mirror: "a mirror's own copy"
};
const IDS = /(^|-)c?id$/; // numbers that count nothing
const BYTES = /^(size|.*-size|decoded|source-done|index-memory|member-offset|offset|bytes.*|.*-bytes)$/;

function valueOf(key, value) {
  if (value === null) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    if (IDS.test(key)) return String(value);
    const isBytes = BYTES.test(key);
    return h("span", {title: isBytes ? exactBytes(value) : null}, isBytes ? bytes(value) : count(value));
  }
  if (typeof value === "string") return bdi(value || "–");
  if (Array.isArray(value)) return value.length ? value.map((v, i) => [i ? ", " : "", valueOf(key, v)]) : "–";
  return h("dl.facts-list", factsOf(value));
}

/** Names as the API has them, said with spaces. */
export const factsOf = object => Object.entries(object)
  .map(([k, v]) => [h("dt", k.replaceAll(/[-_]/g, " ")), h("dd", valueOf(k, v))]);

function layerBox(layer, more) {
  const {driver, kind, ...facts} = layer;
  const all = {...facts, ...more};
  const keys = Object.keys(all);
  const simple = Object.fromEntries(keys.filter(k => typeof all[k] !== "object" || all[k] === null).map(k => [k, all[k]]));
  const nested = Object.fromEntries(keys.filter(k => !(k in simple)).map(k => [k, all[k]]));
  return h(`li.layer.${/^\w+$/.test(kind) ? kind : "other"}`, {dataset: {testid: "layer", driver}},
    h("div.layer-head", h("strong", driver), h("span.dim", WHAT[driver] ?? ""), h("span.chip", ROLES[kind] ?? kind)),
    h("dl.facts-list", factsOf(simple)),
    Object.keys(nested).length ? h("details", h("summary", "More"), h("dl.facts-list", factsOf(nested))) : null);
}

/** The image that a backing file's name means: beside the one that names it. */
export function backingOf(image, info) {
  const name = info["backing-filename"];
  if (!name || /^\w+:/.test(name) || name.startsWith("/")) return null;
  const folder = image.path.split("/").slice(0, -1);
  for (const part of name.split("/")) {
    if (part === "..") folder.pop();
    else if (part !== ".") folder.push(part);
  }
  return folder.length > 1 ? api.imageOf(folder.join("/")) : null;
}

const MOST_BACKING = 16;

/** The chain of backing files, each asked for what it is, in a list to click. */
async function fillChain(list, image, info, signal) {
  let at = info;
  let here = image;
  for (let depth = 1; depth <= MOST_BACKING && at?.["backing-filename"]; depth++) {
    const below = backingOf(here, at);
    const row = h("li", {dataset: {testid: "backing"}}, below
      ? h("a", {href: imageHref(below)}, bdi(at["backing-filename"])) : bdi(at["backing-filename"]));
    list.append(row);
    if (!below) return;
    try {
      at = await api.getInfo(below, signal);
      here = below;
      row.append(h("span.dim", ` ${at.format}, ${bytes(at["virtual-size"])}`));
    } catch (error) {
      if (signal.aborted) return;
      row.append(h("span.dim", ` ${error.message}`));
      return;
    }
  }
}

export function stackView({image, info, signal}) {
  const layers = info.layers ?? [];
  const format = info["format-specific"]?.data ?? {};
  const top = Object.fromEntries(["cluster-size", "dirty-flag", "backing-filename", "encrypted"].filter(k => k in info).map(k => [k, info[k]]));
  const chain = h("ol.chain", {"aria-label": "Backing chain"});
  if (info["backing-filename"]) fillChain(chain, image, info, signal);
  let isFormatSeen = false;
  const boxes = layers.map(layer => {
    const isFormat = !isFormatSeen && layer.kind === "format";
    isFormatSeen ||= isFormat;
    return layerBox(layer, isFormat ? {...top, ...format} : {});
  });
  return h("section.card", {"aria-labelledby": "stack-title"},
    h("header", h("h2", {id: "stack-title"}, "Stack"), h("span.dim", "from the guest disk to the origin")),
    h("ol.layers", {dataset: {testid: "stack"}},
      h("li.layer.guest", h("div.layer-head", h("strong", "guest disk"),
        h("span.dim", info["virtual-size"] === undefined ? "size not known yet" : `${bytes(info["virtual-size"])}, ${exactBytes(info["virtual-size"])}`))),
      boxes),
    info["backing-filename"] ? h("div.backing", h("h3", "Backing chain"), chain) : null);
}
