// SPDX-License-Identifier: Apache-2.0
// What the list of mirrors and the page of one have in common: how far it is, and
// what can be done to it.
import * as api from "./api.js";
import {announce, bdi, fill, h, setText} from "./dom.js";
import {bytes, duration, exactBytes, percent, rate} from "./format.js";
import {problemBox} from "./problem.js";

const CHIPS = {mirroring: "", complete: "good", paused: "warn", failed: "bad"};

export const SAVED = "Bytes that did not have to be fetched: this host had them already, of the version before, " +
  "of another image, or of a seed";
export const FETCHED = "Bytes that came over the network for this version, all of it: lists, digests and repeats, " +
  "as they came, so compressed";

/** "mirroring" as a chip: {el, update(state)}. */
export function stateChip() {
  const el = h("span.chip", {dataset: {testid: "mirror-state"}});
  return {
    el,
    update(state) {
      el.className = `chip ${CHIPS[state] ?? ""}`.trim();
      setText(el, state);
    }
  };
}

/** How much of it is here, as a bar and in words: {el, update(row)}. */
export function progressBar(label, className = "bar wide") {
  const inner = h("span");
  const bar = h("span", {class: className, role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-label": label}, inner);
  const words = h("span.mirror-words", {dataset: {testid: "mirror-progress"}});
  return {
    el: h("div.mirror-bar", {}, bar, words),
    update(row) {
      const share = Math.min(1, Math.max(0, row.share));
      const text = row.bytes_total || row.state === "complete"
        ? `${row.state === "complete" ? "100 %" : percent(row.bytes_local, row.bytes_total)} · ` +
          `${bytes(row.bytes_local)} of ${bytes(row.bytes_total)}`
        : "not known yet";
      inner.style.setProperty("width", `${100 * share}%`);
      bar.classList.toggle("busy", row.state === "mirroring");
      bar.setAttribute("aria-valuenow", Math.round(100 * share));
      bar.setAttribute("aria-valuetext", text);
      setText(words, text);
      words.title = `${exactBytes(row.bytes_local)} of ${exactBytes(row.bytes_total)} that are not zeros`;
    }
  };
}

const isGoing = row => row.state === "mirroring";
export const rateText = row => (isGoing(row) ? rate(row.rate) : "–");
export const leftText = row => (isGoing(row) ? duration(row.eta_seconds) : "–");

/** work() while the button says so, and not twice at a time.  It is not disabled
 * meanwhile: that would take the focus from it. */
export async function whileBusy(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** What can be done to a mirror: {el, update(row)}.  done(row or null) is called with
 * what the gateway answered, null when it is gone; failed(error, again) when it refused. */
export function mirrorActions(name, {done, failed}) {
  const act = (button, work) => () => whileBusy(button, async () => {
    try {
      done(await work());
    } catch (error) {
      failed(error);
    }
  });
  const make = (label, title, testid, className, work) => {
    const button = h("button", {type: "button", class: className, title, "aria-label": `${label} ${name}`,
      dataset: {testid}}, label);
    button.addEventListener("click", act(button, work));
    return button;
  };
  const stop = make("Pause", "Fetch nothing in the background; readers are served on", "mirror-pause", "quiet",
    () => api.changeMirror(name, {paused: true}));
  const go = make("Resume", "Go on, and look at the source now", "mirror-resume", "quiet",
    () => api.changeMirror(name, {paused: false}));
  const remove = h("button.danger", {type: "button", "aria-label": `Remove ${name}`, dataset: {testid: "mirror-remove"},
    onclick: () => confirmRemoval(name, {done, failed})}, "Remove…");
  return {
    el: h("div.mirror-actions", {}, stop, go, remove),
    update(row) {
      const isFocused = document.activeElement === stop || document.activeElement === go;
      stop.hidden = row.state !== "mirroring";
      go.hidden = row.state === "mirroring";
      setText(go, row.state === "complete" ? "Look now" : "Resume");
      go.setAttribute("aria-label", `${go.textContent} ${name}`);
      if (isFocused) (stop.hidden ? go : stop).focus();
    }
  };
}

function confirmRemoval(name, {done, failed}) {
  const title = h("h2", {id: "mirror-remove-title"}, "Remove ", bdi(name), "?");
  const dialog = h("dialog", {"aria-labelledby": title.id, dataset: {testid: "mirror-remove-dialog"}},
    h("form", {method: "dialog"}, title,
      h("p", {}, "Its disk is not served under this name any more. What this host keeps of it is given back with " +
        "the next sweep, except for what other mirrors share; a file or device that it was written to stays as it is."),
      h("div.buttons", {},
        h("button.danger", {value: "remove", dataset: {testid: "mirror-remove-yes"}}, "Remove it"),
        h("button.quiet", {value: "", autofocus: true, dataset: {testid: "mirror-remove-no"}}, "Keep it"))));
  const leave = () => dialog.close("");
  window.addEventListener("hashchange", leave, {once: true});
  dialog.addEventListener("close", async () => {
    window.removeEventListener("hashchange", leave);
    const isMeant = dialog.returnValue === "remove";
    dialog.remove();
    if (!isMeant) return;
    try {
      await api.removeMirror(name);
      announce(`${name} was removed`);
      done(null);
    } catch (error) {
      failed(error);
    }
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** Numbers as people type them; what is none is sent as it is, for the gateway to say
 * what is wrong with it. */
const number = (text, read) => {
  const n = read(text);
  return Number.isSafeInteger(n) ? n : text;
};
const toInteger = text => (/^[+-]?\d+$/.test(text) ? Number(text) : NaN);

/** The fields that can be changed later, too: {els, read(), update(row)}. */
export function changingFields(prefix, parseOffset) {
  const field = (key, label, hint, props, read) => {
    const id = `${prefix}-${key}`;
    const input = h("input", {id, autocomplete: "off", spellcheck: "false", size: 10, "aria-describedby": `${id}-hint`,
      dataset: {testid: id}, ...props});
    return {key, input, read, el: h("div.field", {}, h("label", {for: id}, label), input,
      h("p.hint", {id: `${id}-hint`}, hint))};
  };
  const fields = [
    field("follow", "Follow", "seconds between looks for a new version; 0: never", {inputmode: "numeric"}, toInteger),
    field("priority", "Priority", "−100 to 100; the higher goes first", {}, toInteger),
    field("bandwidth", "Bandwidth", "bytes a second, as 20M; 0: no limit of its own", {}, parseOffset)
  ];
  return {
    els: fields.map(f => f.el),
    /** What was typed; what is empty is left out. */
    read: () => Object.fromEntries(fields.filter(f => f.input.value.trim() !== "")
      .map(f => [f.key, number(f.input.value.trim().replace("−", "-"), f.read)])),
    /** What holds now, where nobody has typed anything else. */
    update(row) {
      for (const {key, input} of fields) {
        const isTyped = input.dataset.held !== undefined && input.value !== input.dataset.held;
        if (!isTyped && document.activeElement !== input) input.value = row[key];
        input.dataset.held = String(row[key]);
      }
    }
  };
}

/** A place for what went wrong: {el, show(error, again), clear()}.  The same error again
 * is not said again. */
export function troublePlace() {
  const el = h("div.trouble");
  let last = null;
  return {
    el,
    show(error, again) {
      const key = `${error.status} ${error.message}`;
      if (key !== last) fill(el, problemBox(error, again));
      last = key;
    },
    clear() {
      if (last !== null) fill(el);
      last = null;
    }
  };
}
