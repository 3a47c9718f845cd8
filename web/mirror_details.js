// SPDX-License-Identifier: Apache-2.0
// #/mirrors/NAME: one mirror, told by the gateway as it changes.
import * as api from "./api.js";
import {announce, bdi, fill, h, setText} from "./dom.js";
import {bytes, count, duration, exactBytes, parseOffset, time} from "./format.js";
import {FETCHED, SAVED, changingFields, leftText, mirrorActions, progressBar, rateText, stateChip, troublePlace,
  whileBusy} from "./mirror_parts.js";
import {pause} from "./poll.js";

const AGAIN_MS = 2000;

/** A big figure with a name: [el, update(text, title)]. */
function figure(label, testid, title) {
  const value = h("dd", {dataset: {testid}});
  return [h("div.figure", {title}, h("dt", label), value), text => setText(value, text)];
}

const orNone = text => text || "–";
const yesNo = flag => (flag ? "yes" : "no");

// What is told of it, as [name, what it says of a row, whether it is code].
const FACTS = [
  ["Source", row => row.source, true],
  ["Version served", row => orNone(row.root), true],
  ["Version coming", row => orNone(row.next_root), true],
  ["Size of the disk", row => (row.virtual_size === null
    ? "not known yet"
    : `${bytes(row.virtual_size)} (${exactBytes(row.virtual_size)})`)],
  ["Verified", row => (row.verified ? "each leaf, with the source's manifest" : "no: the source has no manifest, or is making it")],
  ["Signature", row => row.signature ?? "no key is configured"],
  ["Must be signed", row => yesNo(row.signed)],
  ["Siblings asked", row => row.siblings.join(", ") || "none", true],
  ["Kept in", row => row.output ?? "the store", true],
  ["Schedule", row => (row.schedule ? `${row.schedule} UTC` : "always")],
  ["Fetched as", row => row.fetch],
  ["Boot trace", row => (row.trace ? "asked for" : "not asked for")],
  ["Made", row => time(row.since)],
  ["Source last seen", row => time(row.checked)],
  ["Complete since", row => time(row.completed)],
  ["Versions kept", row => count(row.versions)],
  ["Requests to the source", row => count(row.requests)],
  ["Fetched for readers", row => bytes(row.bytes_demand)],
  ["Repaired leaves", row => count(row.repaired)],
  ["Refused leaves", row => count(row.refused)]
];

function factsCard() {
  const rows = FACTS.map(([label, read, isCode]) => {
    const value = h("bdi", {class: isCode ? "mono" : null});
    return {read, value, els: [h("dt", label), h("dd", value)]};
  });
  return {
    el: h("section.card", h("header", h("h2", "What it is")),
      h("dl.facts-list", {dataset: {testid: "mirror-facts"}}, rows.map(r => r.els))),
    update: row => rows.forEach(r => setText(r.value, r.read(row)))
  };
}

const EVENTS = {complete: "good", failed: "bad", paused: "warn", waiting: "warn", repaired: "warn"};

function historyCard() {
  const body = h("tbody");
  const columns = [["Time"], ["What"], ["Took", "num"], ["Fetched", "num", FETCHED], ["Saved", "num", SAVED],
    ["Version"]];
  const table = h("div.scroll", {tabindex: 0, role: "region", "aria-label": "What happened to it"},
    h("table.history", {dataset: {testid: "mirror-history"}}, h("thead", h("tr", columns.map(([label, kind, title]) =>
      h("th", {scope: "col", class: kind, title}, label)))), body));
  const none = h("p.dim", "Nothing has been noted of it yet.");
  let last = "";
  const entry = e => h("tr", {},
    h("td", h("time.nowrap", {datetime: e.time}, time(e.time))),
    h("td", h("span", {class: `chip ${EVENTS[e.event] ?? ""}`.trim()}, e.event),
      e.count > 1 ? h("span.dim", ` ×${count(e.count)}`) : null,
      e.error ? h("p.mirror-error", bdi(e.error)) : null),
    h("td.num", e.seconds === 0 ? "<1 s" : duration(e.seconds)),
    h("td.num", bytes(e.bytes_fetched)),
    h("td.num", bytes(e.bytes_reused)),
    h("td", e.root ? h("code", {title: e.root}, e.root.slice(0, 12)) : "–"));
  return {
    el: h("section.card", h("header", h("h2", "History"), h("p.dim.end", "newest first")), none, table),
    update(row) {
      const events = row.history ?? [];
      none.hidden = events.length > 0;
      table.hidden = !events.length;
      const now = JSON.stringify(events);
      if (now !== last) fill(body, events.map(entry));
      last = now;
    }
  };
}

function changeCard(name, changed) {
  const fields = changingFields("mirror-change", parseOffset);
  const trouble = troublePlace();
  const button = h("button", {type: "submit", dataset: {testid: "mirror-save"}}, "Change");
  const form = h("form", h("div.row.tops", fields.els), h("div.buttons", button), trouble.el);
  form.addEventListener("submit", event => {
    event.preventDefault();
    whileBusy(button, send);
  });
  async function send() {
    trouble.clear();
    try {
      const row = await api.changeMirror(name, fields.read());
      for (const input of form.querySelectorAll("input")) input.dataset.held = input.value;
      announce(`${name} was changed`);
      changed(row);
    } catch (error) {
      trouble.show(error);
    }
  }
  return {el: h("section.card", h("header", h("h2", "What can be changed")), form), update: fields.update};
}

export async function showMirror(main, name, signal) {
  const trouble = troublePlace();
  const chip = stateChip();
  const bar = progressBar(`How much of ${name} is here`);
  const [local, setLocal] = figure("Here", "mirror-local");
  const [speed, setSpeed] = figure("Rate", "mirror-rate");
  const [left, setLeft] = figure("Time left", "mirror-left");
  const [fetched, setFetched] = figure("Fetched", "mirror-fetched", FETCHED);
  const [saved, setSaved] = figure("Saved", "mirror-saved", SAVED);
  const error = h("p.mirror-error", {dataset: {testid: "mirror-error"}}, h("bdi"));
  const facts = factsCard();
  const history = historyCard();
  const change = changeCard(name, update);
  const actions = mirrorActions(name, {
    done: row => {
      trouble.clear();
      if (row) update(row);
      else location.hash = "#/mirrors";
    },
    failed: e => trouble.show(e)
  });
  const address = encodeURIComponent(name);
  const page = [
    h("section.card", {"aria-label": "How far it is"},
      h("div.mirror-progress", bar.el), h("dl.figures", local, speed, left, fetched, saved), error),
    h("div.columns", {}, facts.el, change.el),
    history.el // last: it grows, and nothing beneath it moves
  ];
  const place = h("div.stackup");
  let isThere = false;

  function update(row) {
    if (signal.aborted) return;
    chip.update(row.state);
    bar.update(row);
    actions.update(row);
    setLocal(bytes(row.bytes_local));
    setSpeed(rateText(row));
    setLeft(leftText(row));
    setFetched(bytes(row.bytes_fetched));
    setSaved(bytes(row.bytes_reused));
    setText(error.firstChild, row.error ?? "");
    error.hidden = !row.error;
    for (const part of [facts, history, change]) part.update(row);
    if (!isThere) fill(place, page);
    isThere = true;
    actions.el.classList.remove("is-waiting");
  }

  actions.el.classList.add("is-waiting");
  fill(main, h("div.stackup.whole", {},
    h("nav", {"aria-label": "Where this is"}, h("a", {href: "#/mirrors"}, "Mirrors")),
    h("header.mirror-head", {}, h("h1", {dataset: {testid: "mirror-title"}}, bdi(name)), chip.el,
      h("a", {href: `#/image/${address}`, dataset: {testid: "mirror-image"}}, "look into the disk"),
      actions.el),
    trouble.el, place));

  // Told as it changes; the stream of one that is complete or failed ends at once.
  let isAway = false;
  while (!signal.aborted) {
    try {
      update(await api.watchMirror(name, row => {
        update(row);
        if (isAway) trouble.clear();
        isAway = false;
      }, signal));
      if (isAway) trouble.clear();
      isAway = false;
    } catch (e) {
      if (signal.aborted) return;
      isAway = true;
      if (e.status === 404) {
        fill(place);
        actions.el.classList.add("is-waiting");
        chip.update("");
        trouble.show(e, () => showMirror(main, name, signal)); // another may be made of this name
        return;
      }
      trouble.show(e);
    }
    await pause(AGAIN_MS, signal);
    while (document.hidden && !signal.aborted) await pause(AGAIN_MS, signal);
  }
}
