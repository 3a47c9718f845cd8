// SPDX-License-Identifier: Apache-2.0
// What is inside an image, in tables to click: partitions, snapshots, members.
import * as api from "./api.js";
import {imageHref, withSelectors} from "./address.js";
import {bdi, fill, h, setText} from "./dom.js";
import {bytes, count, exactBytes, time} from "./format.js";
import {problemBox} from "./problem.js";

const LIMIT = 200;

const size = n => h("td.num", {title: exactBytes(n)}, bytes(n));

/** A card whose load(fn) shows what fn made of it, or why it could not. */
function section(id, title, testid, signal) {
  const note = h("span.dim", "…");
  const place = h("div.inside", {dataset: {testid}});
  const el = h("section.card", {"aria-labelledby": id}, h("header", h("h2", {id}, title), note), place);
  const table = (columns, rows) => fill(place, h("div.scroll", {tabindex: "0", role: "group", "aria-labelledby": id},
    h("table", h("thead", h("tr", columns.map(c => h(`th${c.endsWith("#") ? ".num" : ""}`, {scope: "col"}, c.replace("#", ""))))),
      h("tbody", rows))));
  const load = async make => {
    try {
      await make();
    } catch (error) {
      if (signal.aborted) return;
      setText(note, "");
      fill(place, problemBox(error, () => load(make)));
    }
  };
  return {el, note: text => setText(note, text), table, place, load};
}

export function partitionsView({image, signal, onShow, onRows}) {
  const s = section("partitions-title", "Partitions", "partitions", signal);
  const load = () => s.load(async () => {
    const found = await api.getPartitions(image, signal);
    const rows = found.partitions ?? [];
    s.note(rows.length ? `${(found.label ?? "").toUpperCase()}, ${count(rows.length)}` : "none");
    if (rows.length) s.table(["No.#", "Name", "File system", "Start#", "Length#", "Type"], rows.map(p => h("tr", {dataset: {testid: "partition-row"}},
      h("th.num", {scope: "row"}, "partition" in image.selectors ? count(p.number)
        : h("a", {href: imageHref(withSelectors(image, {partition: String(p.number)})), title: "as a disk of its own"}, count(p.number))),
      h("td", bdi(p.filesystem?.label || p.name || "–")),
      h("td", p.filesystem ? bdi(p.filesystem.type) : "–"),
      h("td.num", h("button.link", {type: "button", title: `${exactBytes(p.start)}: show it on the map`, onclick: () => onShow(p),
        dataset: {testid: "partition-show"}}, bytes(p.start))),
      size(p.length), h("td", bdi(p["type-name"] ?? p.type ?? "–")))));
    if (found.problems?.length) s.place.append(h("ul.problems", found.problems.map(p => h("li", bdi(typeof p === "string" ? p : JSON.stringify(p))))));
    onRows(rows);
  });
  load();
  return s.el;
}

export function snapshotsView({image, signal}) {
  const s = section("snapshots-title", "Snapshots", "snapshots", signal);
  const load = () => s.load(async () => {
    const {rows, total} = await api.listSnapshots(image, LIMIT, signal);
    s.note(total ? count(total) : "none in this image");
    const now = image.selectors.snapshot;
    if (rows.length) s.table(["ID#", "Name", "Date", "Disk#", "VM state#"], rows.map(r => {
      const isHere = now !== undefined && (now === r.id || now === r.name);
      return h("tr", {dataset: {testid: "snapshot-row"}, "aria-current": isHere ? "true" : null},
        h("th.num", {scope: "row"}, r.id),
        h("td", h("a", {href: imageHref(withSelectors(image, {snapshot: r.id}))}, bdi(r.name || `snapshot ${r.id}`)), isHere ? " (shown)" : null),
        h("td", time(new Date(r["date-sec"] * 1000).toISOString())), size(r["disk-size"]), size(r["vm-state-size"]));
    }));
    if (now !== undefined) s.place.append(h("p", h("a", {href: imageHref(withSelectors(image, {snapshot: undefined}))}, "Show the disk as it is now")));
    if (rows.length < total) s.place.append(h("p.dim", `The first ${count(rows.length)} of ${count(total)}; the API has all.`));
  });
  load();
  return s.el;
}

/** Files of the archive around the disk; those that could be disks can be opened. */
export function membersView({image, signal}) {
  const s = section("members-title", "Files of the archive", "members", signal);
  const bare = withSelectors(image, {partition: undefined, snapshot: undefined});
  let offset = 0;
  const load = () => s.load(async () => {
    const {rows, total} = await api.listMembers(withSelectors(bare, {member: undefined}), LIMIT, offset, signal);
    s.note(`${count(total)} file${total === 1 ? "" : "s"}`);
    s.table(["Name", "Size#", "Stored#", "Modified"], rows.map(m => {
      const isHere = image.selectors.member === m.name;
      return h("tr", {dataset: {testid: "member-row"}, "aria-current": isHere ? "true" : null},
        h("th", {scope: "row"}, m.type === "file" ? h("a", {href: imageHref(withSelectors(bare, {member: m.name}))}, bdi(m.name)) : bdi(m.name),
          m.candidate ? h("span.chip.good", "disk") : null, isHere ? " (shown)" : null),
        size(m.size), size(m.stored), h("td", time(m.mtime)));
    }));
    if (total > LIMIT) s.place.append(h("div.buttons",
      h("button.quiet", {type: "button", disabled: offset === 0, onclick: () => { offset -= LIMIT; load(); }}, "Previous"),
      h("button.quiet", {type: "button", disabled: offset + LIMIT >= total, onclick: () => { offset += LIMIT; load(); }}, "Next")));
  });
  load();
  return s.el;
}
