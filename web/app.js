// SPDX-License-Identifier: Apache-2.0
// What is seen is what the address's fragment says: #/, #/image/REF?selectors,
// #/mirrors, #/gateway.  A view is a function (main, address, signal) that fills main;
// its signal is aborted when another comes.
import * as api from "./api.js";
import {announce, fill, setText} from "./dom.js";
import {count, rate} from "./format.js";
import {problemBox} from "./problem.js";
import * as sampler from "./sampler.js";
import {showImages} from "./view_images.js";
import {showImage} from "./view_image.js";
import {showMirrors} from "./view_mirrors.js";
import {showGateway} from "./view_gateway.js";

const main = document.getElementById("main");
let leaving = new AbortController();

/** The fragment in parts: {view, rest: "lab/x.ova", values: {member: ...}}. */
function parse(fragment) {
  const [path, query = ""] = fragment.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...rest] = path.split("/");
  const decode = text => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  return {view: view || "images", rest: rest.map(decode).join("/"),
    values: Object.fromEntries(new URLSearchParams(query.replaceAll("+", "%2B")))};
}

const VIEWS = {
  images: ["Images", showImages],
  image: ["Image", showImage],
  mirrors: ["Mirrors", showMirrors],
  gateway: ["Gateway", showGateway]
};

function show() {
  if (location.hash === "#main") { // the link for those who skip the navigation
    main.focus();
    return;
  }
  leaving.abort();
  leaving = new AbortController();
  const address = parse(location.hash);
  const [title, view] = Object.hasOwn(VIEWS, address.view) ? VIEWS[address.view] : VIEWS.images;
  document.title = address.rest ? `${address.rest} – platter` : `${title} – platter`;
  for (const link of document.querySelectorAll("nav a[data-view]")) {
    const isHere = link.dataset.view === (address.view === "image" ? "images" : address.view);
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const {signal} = leaving;
  Promise.resolve(view(main, address, signal)).catch(error => {
    if (!signal.aborted) fill(main, problemBox(error, show));
  });
  window.scrollTo(0, 0);
  announce(document.title);
}

// ---- The token ----

const dialog = document.getElementById("token-dialog");
const input = document.getElementById("token-input");
let isAsked = false; // once for each token by itself; then it is the user who opens it

function askForToken(error) {
  setText(document.getElementById("token-problem"), error ? error.message : "");
  if (!dialog.open) dialog.showModal();
}
document.getElementById("token-button").addEventListener("click", () => askForToken(null));
dialog.addEventListener("close", () => {
  const choice = dialog.returnValue;
  if (choice === "use" || choice === "forget") {
    isAsked = choice === "forget";
    api.setToken(choice === "use" ? input.value.trim() : "");
    setText(document.getElementById("token-button"), api.hasToken() ? "Token ✓" : "Token…");
    show();
  }
  input.value = "";
  dialog.returnValue = "";
});
api.onUnauthorized(error => {
  if (!isAsked) askForToken(error);
  isAsked = true;
});

// ---- How it is doing, on every view ----

sampler.subscribe(sample => {
  const pulse = document.getElementById("pulse");
  pulse.dataset.state = sample.error ? "bad" : "good";
  setText(document.getElementById("pulse-text"), sample.error
    ? sample.error.title
    : sample.rates ? `${count(sample.rates.requests)} req/s · ${rate(sample.rates.out)} out` : "connected");
});
sampler.start();

window.addEventListener("hashchange", show);
show();
