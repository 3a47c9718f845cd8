// SPDX-License-Identifier: Apache-2.0
// How other programs read this disk: lines that can be copied as they are.
import * as api from "./api.js";
import {announce, h, setText} from "./dom.js";

/** For a POSIX shell. */
const quote = text => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);
/** A value among QEMU's comma-separated options. */
const qemuValue = text => text.replaceAll(",", ",,");

const TOKEN = '-H "Authorization: Bearer $PLATTER_TOKEN"';

/** [[title, command, note]] for an image; raw: the format of what is served. */
export function commandsOf(image) {
  const url = api.diskUrl(image);
  const u = quote(url);
  const needs = api.hasToken();
  const name = quote(`${(image.path.split("/").pop() || "disk").replaceAll(/[^\w.-]+/g, "_").replace(/^-/, "_")}.raw`);
  const asks = needs ? "needs a signed URL in place of this one: platter sign" : "";
  const rows = [
    ["curl: the first sector", `curl ${needs ? `${TOKEN} ` : ""}-r 0-511 ${u} | hexdump -C`],
    ["curl: the whole disk, going on where it ended", `curl ${needs ? `${TOKEN} ` : ""}-C - -o ${name} ${u}`],
    ["wget", `wget -c ${needs ? '--header "Authorization: Bearer $PLATTER_TOKEN" ' : ""}-O ${name} ${u}`],
    ["qemu-img: a qcow2 of one's own", `qemu-img convert -p -f raw -O qcow2 ${u} disk.qcow2`, asks],
    ["QEMU: boot it, writes are thrown away", `qemu-system-x86_64 -m 2G -snapshot -drive ${quote(`file=${qemuValue(url)},format=raw,if=virtio`)}`, asks],
    ["nbdkit", `nbdkit -r curl ${quote(`url=${url}`)}${needs ? ' header="Authorization: Bearer $PLATTER_TOKEN"' : ""} --run 'nbdinfo "$uri"'`],
    ["guestfish", `guestfish --ro --format=raw -a ${u} run : list-filesystems`, asks],
    ["iPXE", `sanboot ${url}`, asks]
  ];
  return rows;
}

export function commandsView(image) {
  const list = commandsOf(image).map(([title, command, note], i) => {
    const code = h("code", {id: `command-${i}`, dir: "ltr", dataset: {testid: "command"}}, command);
    const button = h("button.quiet", {type: "button", "aria-label": `Copy: ${title}`, dataset: {testid: "copy"}, onclick: async () => {
      try {
        await navigator.clipboard.writeText(command);
        setText(button, "Copied");
        announce("copied");
      } catch { // no permission, or no secure context: it is selected at least
        getSelection().selectAllChildren(code);
        setText(button, "Selected");
        announce("selected: copy it with the keyboard");
      }
      setTimeout(() => setText(button, "Copy"), 2000);
    }}, "Copy");
    return h("li", h("div.command-head", h("h3", title), button), h("pre", {tabindex: "0"}, code), note ? h("p.dim", note) : null);
  });
  return h("section.card.commands", {"aria-labelledby": "commands-title"},
    h("header", h("h2", {id: "commands-title"}, "Read it with")),
    h("ul", list));
}
