// SPDX-License-Identifier: Apache-2.0
// Check and checksum: they may take as long as the disk is, tell how far they are, and
// end when the page is left.
import * as api from "./api.js";
import {announce, fill, h, setText} from "./dom.js";
import {bytes, count, duration, percent, rate} from "./format.js";
import {problemBox} from "./problem.js";

/** start(onProgress, signal): a promise of the result; result(value): what is shown.
 * The element of one job. */
function job({title, note, testid, options, start, result, signal}) {
  let running = null;
  const bar = h("progress", {max: "1", value: 0, "aria-label": title, hidden: true});
  const status = h("p.dim", {role: "status", dataset: {testid: `${testid}-status`}}, note);
  const out = h("div", {dataset: {testid: `${testid}-result`}});
  const begin = h("button", {type: "button", onclick: run, dataset: {testid}}, title);
  const cancel = h("button.quiet", {type: "button", hidden: true, onclick: () => running?.abort(),
    dataset: {testid: `${testid}-cancel`}}, "Cancel");
  signal.addEventListener("abort", () => running?.abort());

  async function run() {
    const began = performance.now();
    const since = () => (performance.now() - began) / 1000;
    running = new AbortController();
    begin.disabled = true;
    cancel.hidden = bar.hidden = false;
    bar.removeAttribute("value");
    fill(out);
    setText(status, "Begun…");
    try {
      const value = await start(p => {
        bar.max = p.bytes_total || 1;
        bar.value = p.bytes_done;
        setText(status, `${bytes(p.bytes_done)} of ${bytes(p.bytes_total)} (${percent(p.bytes_done, p.bytes_total)}), ` +
          `${rate(p.bytes_done / Math.max(0.1, since()))}`);
      }, running.signal);
      setText(status, `Took ${duration(since())}`);
      fill(out, result(value));
      announce(`${title}: done`);
    } catch (error) {
      if (error.name === "AbortError") setText(status, "Cancelled");
      else {
        setText(status, " ");
        fill(out, problemBox(error, run));
      }
    }
    begin.disabled = false;
    cancel.hidden = bar.hidden = true;
    running = null;
  }

  return h("div.job", h("div.row", options ?? null, begin, cancel), h("div.progress-room", bar), status, out);
}

function checkResult(value) {
  const bad = (value.corruptions ?? 0) + (value["check-errors"] ?? 0);
  const leaks = value.leaks ?? 0;
  const verdict = bad ? ["bad", `${count(bad)} error${bad === 1 ? "" : "s"}`]
    : leaks ? ["warn", `${count(leaks)} leaked cluster${leaks === 1 ? "" : "s"}, no corruption`] : ["good", "No errors"];
  const facts = ["total-clusters", "allocated-clusters", "compressed-clusters", "fragmented-clusters"]
    .filter(k => k in value).map(k => [h("dt", k.replaceAll("-", " ")), h("dd", count(value[k]))]);
  return [h("p", h(`span.chip.${verdict[0]}`, {dataset: {testid: "check-verdict"}}, verdict[1])),
    h("dl.facts-list", facts),
    value.findings?.length ? h("div.scroll.findings", {tabindex: "0", role: "region", "aria-label": "Findings"},
      h("ul", value.findings.map(f => h("li", h(`span.chip.${f.kind === "leak" ? "warn" : "bad"}`, f.kind), " ",
        f.offset === undefined ? null : h("code", `${bytes(f.offset)} `), h("bdi", f.text ?? ""))))) : null];
}

export function jobsView({image, signal}) {
  const algorithm = h("select", {"aria-label": "Digest", dataset: {testid: "algorithm"}},
    ["sha256", "sha512"].map(a => h("option", {value: a}, a.toUpperCase().replace("SHA", "SHA-"))));
  return h("section.card.jobs", {"aria-labelledby": "jobs-title"},
    h("header", h("h2", {id: "jobs-title"}, "Check and checksum")),
    job({title: "Check consistency", testid: "check", signal, result: checkResult,
      note: "The image's own tables, as qemu-img check looks at them.",
      start: (onProgress, s) => api.check(image, onProgress, s)}),
    job({title: "Compute the digest", testid: "checksum", signal, options: algorithm,
      note: "Of the whole guest disk; holes are not read.",
      start: (onProgress, s) => api.checksum(image, algorithm.value, onProgress, s),
      result: v => [h("p.label", `${v.algorithm.toUpperCase()} of ${bytes(v["virtual-size"])}`),
        h("pre", {tabindex: "0"}, h("code", {dataset: {testid: "digest"}}, v.checksum))]}));
}
