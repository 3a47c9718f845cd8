// SPDX-License-Identifier: Apache-2.0
// What the gateway answered with an error lately, as it told its clients.
import * as api from "./api.js";
import {announce, bdi, fill, h, keyedRows, setText} from "./dom.js";
import {count, time} from "./format.js";
import {poll} from "./poll.js";
import {problemBox} from "./problem.js";

const EVERY_MS = 5000;
const COLUMNS = ["Time", "Status", "Request", "What was said", "Layer", "Request id"];

/** Into the clipboard; a page of plain HTTP may not use its API, so then by what is
 * selected. */
async function copy(code) {
  const text = code.textContent;
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
  } else {
    getSelection().selectAllChildren(code);
    if (!document.execCommand("copy")) throw new Error("the browser does not copy");
  }
}

function copyButton(code) {
  const button = h("button.quiet.small", {type: "button", "aria-label": `Copy ${code.textContent}`,
    dataset: {testid: "copy-request-id"}}, "Copy");
  button.addEventListener("click", async () => {
    try {
      await copy(code);
      setText(button, "Copied");
      announce("copied");
    } catch {
      getSelection().selectAllChildren(code); // then by hand
      setText(button, "Selected");
    }
    setTimeout(() => setText(button, "Copy"), 1500);
  });
  return button;
}

function errorRow(row) {
  const times = h("span.dim");
  const code = h("code", {dataset: {testid: "error-request-id"}}, row.request_id);
  return {
    el: h("tr", {dataset: {testid: "error-row"}},
      h("td", {}, h("time.nowrap", {datetime: row.time}, time(row.time))),
      h("td", {}, h("span", {class: `chip ${row.status >= 500 ? "bad" : "warn"}`}, row.status), times),
      h("td", {}, h("code", {}, row.method), " ", h("bdi.mono.anywhere", {}, row.path)),
      h("td.anywhere", {}, row.title, row.detail ? [": ", bdi(row.detail)] : null),
      h("td", {}, row.layer || "–"),
      h("td", {}, h("span.id-row", {}, code, copyButton(code)))),
    update: r => setText(times, r.count > 1 ? ` ×${count(r.count)}` : "")
  };
}

/** {el, run(signal)}: a card that keeps itself up to date. */
export function errorsCard() {
  const body = h("tbody");
  const table = h("div.scroll", {tabindex: 0, role: "group", "aria-label": "Recent errors"},
    h("table.errors", {dataset: {testid: "errors"}},
      h("thead", {}, h("tr", {}, COLUMNS.map(label => h("th", {scope: "col"}, label)))), body));
  const place = h("div", {}, h("p.dim", "Asking…"));
  const update = keyedRows(body, row => `${row.request_id} ${row.time}`, errorRow);
  let inPlace = null;
  const put = (what, ...children) => {
    if (inPlace !== what) fill(place, children);
    inPlace = what;
  };

  async function run(signal) {
    await poll(EVERY_MS, signal, async () => {
      try {
        const rows = await api.listErrors(signal);
        update(rows);
        if (rows.length) put("table", table);
        else put("none", h("p.dim", {dataset: {testid: "no-errors"}}, "None since the gateway started."));
      } catch (error) {
        if (signal.aborted) return false;
        put(error.message, problemBox(error, () => {
          inPlace = null;
          run(signal);
        }));
        return error.status === 0; // who may not ask need not ask again
      }
      return true;
    });
  }
  return {
    el: h("section.card", {"aria-labelledby": "errors-title"},
      h("header", {}, h("h2", {id: "errors-title"}, "Recent errors"), h("span.dim", "newest first, as clients were told")),
      place),
    run
  };
}
