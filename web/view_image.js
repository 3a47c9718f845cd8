// SPDX-License-Identifier: Apache-2.0
// One image: its map, its stack, what is in it, and how to read it.
import * as api from "./api.js";
import {imageAt, imageHref, withSelectors} from "./address.js";
import {choicesBox} from "./add_image.js";
import {commandsView} from "./commands.js";
import {diskMap} from "./disk_map.js";
import {bdi, fill, h, setText} from "./dom.js";
import {bytes, time} from "./format.js";
import {hexView} from "./hex_view.js";
import {membersView, partitionsView, snapshotsView} from "./inside_lists.js";
import {jobsView} from "./jobs.js";
import {problemBox, usersMistake} from "./problem.js";
import {stackView} from "./stack_view.js";

const SIZE_MS = 2000; // until the end of a compressed stream is known

function headOf(image, info, onForget) {
  const chips = Object.entries(image.selectors).map(([k, v]) => h("a.chip", {
    href: imageHref(withSelectors(image, {[k]: undefined})), title: "without it", dataset: {testid: "selector"}}, bdi(`${k}=${v}`), " ✕"));
  return h("header.image-head",
    h("p.crumbs", h("a", {href: "#/"}, "Images"), " / "),
    h("div.row", h("h1", {tabindex: "-1", dataset: {testid: "image-title"}}, bdi(image.path)), h("span.chips", chips), onForget),
    info ? h("p.dim", [
      info.format, `${bytes(info["virtual-size"])}`,
      info["last-modified"] ? `modified ${time(info["last-modified"])}` : null,
      info.pin === "weak" ? "its source has no strong validator" : null
    ].filter(Boolean).join(" · "), info.etag ? [" · ETag ", h("code", info.etag.replaceAll('"', ""))] : null) : null);
}

/** A button that takes a registered name away, for what a request registered. */
function forgetButton(image, trouble) {
  const dialog = h("dialog", {"aria-labelledby": "forget-title"},
    h("form", {method: "dialog"}, h("h2", {id: "forget-title"}, "Forget this name?"),
      h("p", "The image stays where it is; ", bdi(image.path), " is no name for it any more."),
      h("div.buttons", h("button.danger", {type: "submit", value: "yes", dataset: {testid: "forget-yes"}}, "Forget it"),
        h("button.quiet", {type: "submit", value: ""}, "Keep it"))));
  dialog.addEventListener("close", async () => {
    if (dialog.returnValue !== "yes") return;
    try {
      await api.forgetImage(image.path);
      location.hash = "#/";
    } catch (error) {
      fill(trouble, problemBox(error));
    }
  });
  return [h("button.quiet", {type: "button", onclick: () => {
    dialog.returnValue = "";
    dialog.showModal();
  }, dataset: {testid: "forget"}}, "Forget the name"), dialog];
}

const isArchive = info => info.layers?.some(l => l.kind === "archive");

export async function showImage(main, address, signal) {
  const image = imageAt(address);
  const trouble = h("div");
  if (!image.path) throw usersMistake("an image has a name");
  main.setAttribute("aria-busy", "true");
  const isNamed = !image.path.includes("/") && Object.keys(image.selectors).length === 0;
  let info;
  let named = null;
  try {
    [info, named] = await Promise.all([api.getInfo(image, signal),
      isNamed ? api.getRegistered(image.path, signal).catch(() => null) : null]);
  } catch (error) {
    if (signal.aborted) return;
    fill(main, h("div.stackup", headOf(image, null), error.choices
      ? choicesBox(error, image, member => { location.hash = imageHref(withSelectors(image, {member})); })
      : problemBox(error, () => showImage(main, address, signal))));
    return;
  } finally {
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
  if (signal.aborted) return;

  const size = info["virtual-size"];
  const mapPlace = h("section.card.map-card", {"aria-labelledby": "map-title"},
    h("header", h("h2", {id: "map-title"}, "Disk")));
  const hexPlace = h("div.hex-place");
  let map = null;
  let hexes = null;
  let partitions = [];

  /** What needs to know where the disk ends. */
  function withSize(n) {
    hexes = hexView({image, size: n, signal});
    map = diskMap({image, size: n, cluster: info["cluster-size"], signal, onOffset: off => {
      hexes.show(off);
      hexes.el.scrollIntoView({block: "nearest"});
    }});
    mapPlace.append(map.el);
    fill(hexPlace, hexes.el);
    map.setPartitions(partitions);
    hexes.show(0);
  }

  fill(main, h("div.stackup",
    headOf(image, info, named?.registered === "request" ? forgetButton(image, trouble) : null), trouble, mapPlace,
    h("div.columns",
      h("div.stackup", stackView({image, info, signal}), hexPlace),
      h("div.stackup",
        partitionsView({image, signal,
          onShow: p => {
            map?.show(p.start - p.length * 0.02, p.length * 1.04);
            mapPlace.scrollIntoView({block: "nearest"});
          },
          onRows: rows => {
            partitions = rows;
            map?.setPartitions(rows);
          }}),
        info.format === "qcow2" || image.selectors.snapshot !== undefined ? snapshotsView({image, signal}) : null,
        isArchive(info) ? membersView({image, signal}) : null,
        jobsView({image, signal}), commandsView(image)))));
  if (size === 0) mapPlace.append(h("p.dim", "The disk has no byte."));
  else if (size !== undefined) withSize(size);
  else waitForSize(mapPlace, image, signal, withSize);
}

/** A stream whose size nobody knows is told of while it is decoded. */
function waitForSize(place, image, signal, then) {
  const text = h("p.dim", {role: "status"}, "The disk's size is known when its stream has been decoded once to the end: compute the digest below, or read it.");
  place.append(text);
  const every = setInterval(async () => {
    const info = await api.getInfo(image, signal).catch(() => null);
    if (signal.aborted || info?.["virtual-size"] === undefined) {
      const at = info?.layers?.find(l => "decoded" in l)?.decoded;
      if (at) setText(text, `The disk's size is not known yet: ${bytes(at)} are decoded so far.`);
      return;
    }
    clearInterval(every);
    text.remove();
    if (info["virtual-size"] > 0) then(info["virtual-size"]);
  }, SIZE_MS);
  signal.addEventListener("abort", () => clearInterval(every));
}
