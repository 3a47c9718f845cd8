// SPDX-License-Identifier: Apache-2.0
// Making a mirror, and what to do when there can be none.
import * as api from "./api.js";
import {announce, h} from "./dom.js";
import {parseOffset} from "./format.js";
import {changingFields, troublePlace, whileBusy} from "./mirror_parts.js";

const code = text => h("code", {}, text);

/** The steps of platter-mirror(7), for a gateway that has none. */
export function mirrorGuide() {
  return h("div.guide", {dataset: {testid: "mirror-guide"}},
    h("p", {}, "A mirror is a disk of elsewhere that this host keeps. It is served under its own name from the first " +
      "second; the rest comes in the background, and of a new version only what is new. It takes three things:"),
    h("ol", {},
      h("li", {}, h("strong", "A gateway that has the image,"), " with a folder for its manifests:",
        h("pre", {}, "platterd --listen 0.0.0.0:8080 --state /var/lib/platter --origin lab=/srv/images")),
      h("li", {}, h("strong", "This gateway"), ", started with a state folder (", code("--state"),
        ") and an origin that covers the other one: nothing outside of the origins is ever asked:",
        h("pre", {}, "platterd --state /var/lib/platter --origin up=http://upstream:8080/")),
      h("li", {}, h("strong", "The mirror"), ": its name and source in the form above, or",
        h("pre", {}, "platter mirror add golden http://upstream:8080/disk/lab/golden.qcow2 --follow 60"))),
    h("p.dim", {}, "More is in the manual: ", code("man 7 platter-mirror"), "."));
}

/** A form that makes a mirror; made(row) when the gateway has it. */
export function addMirrorForm(made) {
  const name = h("input", {id: "mirror-name", required: true, maxlength: 63, autocomplete: "off", spellcheck: "false",
    placeholder: "golden", dataset: {testid: "mirror-name"}});
  const source = h("input", {id: "mirror-source", required: true, maxlength: 4096, autocomplete: "off",
    spellcheck: "false", inputmode: "url", placeholder: "http://upstream:8080/disk/lab/golden.qcow2",
    "aria-describedby": "mirror-source-hint", dataset: {testid: "mirror-source"}});
  const button = h("button", {type: "submit", dataset: {testid: "mirror-add"}}, "Mirror it");
  const more = changingFields("mirror-new", parseOffset);
  const trouble = troublePlace();
  const form = h("form", {dataset: {testid: "mirror-form"}},
    h("div.row", {},
      h("div.field", {}, h("label", {for: name.id}, "Name of its own"), name),
      h("div.field.grow", {}, h("label", {for: source.id}, "Source"), source),
      button),
    h("p.hint", {id: "mirror-source-hint"}, "The address of a disk on another gateway, beneath one of this gateway's " +
      "origins, or a reference such as ", code("lab/golden.qcow2"), "."),
    h("details", {dataset: {testid: "mirror-more"}}, h("summary", "More"), h("div.row.tops", {}, more.els)),
    trouble.el);
  form.addEventListener("submit", event => {
    event.preventDefault();
    whileBusy(button, add);
  });
  async function add() {
    try {
      const row = await api.addMirror({name: name.value.trim(), source: source.value.trim(), ...more.read()});
      trouble.clear();
      form.reset();
      announce(`${row.name} is being mirrored`);
      made(row);
    } catch (error) {
      trouble.clear(); // the same mistake again is said again
      trouble.show(error);
    }
  }
  return h("section.card", {"aria-labelledby": "mirror-add-title"},
    h("header", {}, h("h2", {id: "mirror-add-title"}, "Keep an image here")), form);
}
