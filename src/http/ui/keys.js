// Keys: a letter means something wherever no text is being typed.

import { h } from "./dom.js";

/** @type {[string, [string, string][]][]} */
const KEYS = [
  ["Everywhere", [["?", "this help"], ["c", "start a process"], ["t", "colours: system, light, dark"], ["Esc", "back"]]],
  ["All processes", [["/", "search"], ["l", "filter by label"], ["j k ↓ ↑", "next, previous"], ["PgDn PgUp Home End", "further"], ["Enter", "open"], ["s", "stop…"], ["x", "signal…"], ["d", "delete…"]]],
  ["One process", [["1 2 3 4", "output, details, charts, result"], ["s x d", "stop…, signal…, delete…"]]],
  ["Its output", [["f", "follow, or pause"], ["g G", "begin, end"], ["/", "search"], ["n N", "next, previous match"], ["w", "wrap lines"], ["o", "next stream"]]],
  ["Start", [["Ctrl+Enter", "start what is written"]]],
];

/** Whether somebody is typing: then letters are text. */
function typing(target) {
  return target instanceof HTMLElement && Boolean(target.closest("input:not([type=radio]):not([type=checkbox]):not([type=range]), textarea, select, [contenteditable]"));
}

/** Hands keys to `act(key)`, which returns whether it has handled the key. */
export function listen(act) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key !== "Escape" && typing(event.target)) return;
    if (act(event.key)) event.preventDefault();
  });
}

export function showHelp() {
  const close = h("button", { type: "submit", class: "button primary" }, "Close");
  const dialog = h("dialog", { class: "dialog wide", "aria-labelledby": "help-title", on: { close: () => dialog.remove() } },
    h("form", { method: "dialog" }, h("h2", { id: "help-title" }, "Keyboard"),
      h("div", { class: "keys" }, ...KEYS.map(([title, keys]) => h("section", {}, h("h3", {}, title),
        h("dl", {}, ...keys.flatMap(([key, text]) => [h("dt", {}, ...key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, text)]))))),
      h("div", { class: "row-of-buttons" }, close)));
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
}
