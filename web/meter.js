// SPDX-License-Identifier: Apache-2.0
// So much of so much, as a bar and in words.
import {h, setText} from "./dom.js";
import {bytes, exactBytes, percent} from "./format.js";

const NEARLY = 0.9;

/** Bytes of a budget: {el, update(value, most)}.  most 0: there is no limit, and no bar. */
export function byteMeter(label, testid, title) {
  const inner = h("span");
  const bar = h("span.bar.wide", {role: "meter", "aria-label": label, "aria-valuemin": 0}, inner);
  const words = h("span.meter-words", {dataset: {testid}});
  const el = h("div.meter", {title}, h("span.meter-label", label), words, bar);
  return {
    el,
    update(value, most) {
      const text = most ? `${bytes(value)} of ${bytes(most)} · ${percent(value, most)}` : `${bytes(value)}, no limit`;
      bar.classList.toggle("is-waiting", !most);
      bar.classList.toggle("full", most > 0 && value >= NEARLY * most);
      inner.style.setProperty("width", `${most ? Math.min(100, (100 * value) / most) : 0}%`);
      bar.setAttribute("aria-valuemax", most || value);
      bar.setAttribute("aria-valuenow", value);
      bar.setAttribute("aria-valuetext", text);
      setText(words, text);
      words.title = exactBytes(value);
    }
  };
}
