// SPDX-License-Identifier: Apache-2.0
// An error, as the API words it: what, why, where, and the id to find it in the log.
import {h, announce} from "./dom.js";

/** An Error that is what somebody wrote, in this page's words. */
export const usersMistake = title => Object.assign(new Error(title), {title});

/** An element for an ApiError (or any Error); `again`: what a button tries anew. */
export function problemBox(error, again) {
  announce(error.message);
  const facts = [
    error.status ? `status ${error.status}` : null,
    error.layer ? `layer ${error.layer}` : null,
    error.request_id ? h("span", {}, "request ", h("code", {dataset: {testid: "request-id"}}, error.request_id)) : null
  ].filter(Boolean);
  return h("div.problem", {role: "alert", dataset: {testid: "problem"}},
    h("p", {}, h("strong", {}, error.title ?? "this page made a mistake"),
      error.detail ? [": ", h("bdi", {}, error.detail)] : error.title ? null : `: ${error.message}`),
    facts.length ? h("p.facts", {}, facts.flatMap((f, i) => (i ? [" · ", f] : [f]))) : null,
    again ? h("button", {type: "button", class: "quiet", onclick: again, dataset: {testid: "again"}}, "Try again") : null);
}
