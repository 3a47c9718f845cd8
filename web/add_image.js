// SPDX-License-Identifier: Apache-2.0
// Open an image by origin and path, and give it a name of its own if that is wanted.
import * as api from "./api.js";
import {imageHref} from "./address.js";
import {combobox} from "./combobox.js";
import {announce, bdi, fill, h} from "./dom.js";
import {bytes} from "./format.js";
import {problemBox, usersMistake} from "./problem.js";

const PROPOSALS = 50;

/** The files of an archive with several disks, each a way to go on. */
export function choicesBox(error, image, go) {
  return h("div.card.choices", {dataset: {testid: "choices"}},
    h("h2", "Several disks are in this archive"),
    h("p.dim", "Which one?"),
    h("ul", error.choices.map(c => h("li",
      h("button", {type: "button", class: "quiet", onclick: () => go(c.name)}, bdi(c.name)),
      h("span.dim", ` ${bytes(c.size)}`)))));
}

/** The form.  onChange(): the list of images has another one. */
export function addImageForm(origins, onChange) {
  const select = h("select", {id: "add-origin", dataset: {testid: "add-origin"}},
    origins.map(o => h("option", {value: o.name}, o.name)));
  const kindOf = () => origins.find(o => o.name === select.value)?.kind;
  const path = combobox({
    id: "add-path", label: "Path in it", testid: "add-path",
    placeholder: "folder/disk.tar.gz",
    onEnter: () => form.requestSubmit(),
    propose: async (text, signal) => {
      if (kindOf() !== "local") return []; // a web server has no list of its files
      const at = text.lastIndexOf("/") + 1;
      const folder = text.slice(0, at);
      const {rows} = await api.listFiles(select.value, folder, text.slice(at), PROPOSALS, signal);
      return rows.map(f => f.type === "directory"
        ? {value: `${folder}${f.name}/`, note: "folder", isOpen: true}
        : {value: folder + f.name, note: bytes(f.size)});
    }
  });
  const name = h("input", {id: "add-name", type: "text", autocomplete: "off", spellcheck: "false", dir: "ltr",
    placeholder: "optional", dataset: {testid: "add-name"}});
  const result = h("div", {dataset: {testid: "add-result"}});
  const button = h("button", {type: "submit", dataset: {testid: "add-open"}}, "Open");

  async function open(selectors) {
    const asked = path.input.value.trim().replace(/^\/+/, "");
    const image = api.imageOf(`${select.value}/${asked}`, selectors);
    path.close();
    if (!asked) {
      fill(result, problemBox(usersMistake("name a file of the origin")));
      path.input.focus();
      return;
    }
    button.disabled = true;
    try {
      await api.getInfo(image);
      const wanted = name.value.trim();
      if (wanted) {
        await api.registerImage({name: wanted, source: image.path, ...selectors});
        announce(`${wanted} is registered`);
        onChange();
      }
      location.hash = imageHref(wanted ? api.imageOf(wanted) : image);
    } catch (error) {
      fill(result, error.choices
        ? choicesBox(error, image, member => open({...selectors, member}))
        : problemBox(error));
    } finally {
      button.disabled = false;
    }
  }

  const form = h("form.row", {dataset: {testid: "add-form"}, novalidate: true, onsubmit: e => {
    e.preventDefault();
    fill(result);
    open({});
  }},
  h("div.field", h("label", {for: "add-origin"}, "Origin"), select),
  path.el,
  h("div.field", h("label", {for: "add-name"}, "Register as"), name),
  button);
  return h("section.card", {"aria-labelledby": "add-title"},
    h("header", h("h2", {id: "add-title"}, "Open an image")),
    origins.length ? form : h("p.dim", "No origin is configured: start platterd with --origin NAME=BASE."),
    result);
}
