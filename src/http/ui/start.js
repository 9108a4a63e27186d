// Starting processes from a spec, with what is wrong shown where it is.

import { ApiError, problem, send } from "./api.js";
import { button, h, say, toast } from "./dom.js";
import { href } from "./list.js";

const EXAMPLE = `{"specs": {
  "hello": {
    "argv": ["/bin/sh", "-c", "for n in 1 2 3 4 5; do echo line $n; sleep 1; done"],
    "labels": {"job": "example"},
    "fds": [
      ["stdin", {"null": {}}],
      ["stdout", {"capture": {"encoding": "utf-8"}}],
      ["stderr", {"capture": {"encoding": "utf-8"}}]
    ]
  }
}}
`;

/** What was written last is still there on coming back. */
let written = EXAMPLE;

/** The position in front of an error: `3:27: …`, the column in characters. */
function place(detail) {
  const found = /^(\d+):(\d+): /.exec(detail);
  return found && { line: Number(found[1]), column: Number(found[2]) };
}

export class StartView {
  constructor({ store }) {
    this.store = store;
    this.text = h("textarea", { id: "spec", class: "code", spellcheck: "false", autocomplete: "off", autocapitalize: "off", wrap: "off", "aria-describedby": "spec-help errors" });
    this.text.value = written;
    this.numbers = h("div", { class: "numbers", "aria-hidden": "true" });
    this.errors = h("ul", { class: "errors", id: "errors", "aria-label": "Errors" });
    this.go = h("button", { type: "submit", class: "button primary" }, "Start");
    this.focusTarget = this.text;
    this.bad = new Set();
    const form = h("form", { class: "start", on: { submit: (event) => { event.preventDefault(); this.#start(); } } },
      h("label", { for: "spec", class: "title" }, h("h1", {}, "Start processes")),
      h("p", { class: "note", id: "spec-help" }, "A spec as JSON: for each process, by its ID, its arguments, environment and descriptors. All of them start, or none."),
      h("div", { class: "editor" }, this.numbers, this.text),
      this.errors,
      h("div", { class: "row-of-buttons" }, button("Example", () => { this.text.value = EXAMPLE; this.#changed(); this.text.focus(); }), h("a", { class: "button", href: "#/" }, "Cancel"), this.go));
    this.element = h("section", { class: "page", "aria-label": "Start processes" }, form);
    this.text.addEventListener("input", () => this.#changed());
    this.text.addEventListener("scroll", () => { this.numbers.scrollTop = this.text.scrollTop; });
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.#start();
      }
    });
  }

  mount() {
    this.#number();
  }

  unmount() {}

  key() {
    return false;
  }

  #changed() {
    written = this.text.value;
    if (this.errors.childElementCount) this.#show([]);
    this.#number();
  }

  #number() {
    const lines = this.text.value.split("\n").length;
    if (this.numbers.childElementCount !== lines) this.numbers.replaceChildren(...Array.from({ length: lines }, (_, n) => h("span", {}, String(n + 1))));
    for (const [n, number] of [...this.numbers.children].entries()) number.classList.toggle("bad", this.bad.has(n + 1));
    this.numbers.scrollTop = this.text.scrollTop;
  }

  /** Puts the cursor at a place of the text. */
  #go(at) {
    const lines = this.text.value.split("\n");
    const line = Math.min(at.line, lines.length);
    const before = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    const offset = before + Math.min(lines[line - 1].length, Math.max(0, at.column - 1));
    this.text.focus();
    // What is wrong there, and not the one character that gave it away.
    const text = lines[line - 1];
    let [from, to] = [offset - before, offset - before];
    const within = (c) => c !== undefined && !/[\s,:{}[\]]/.test(c);
    while (from > 0 && within(text[from - 1])) from -= 1;
    while (within(text[to])) to += 1;
    this.text.setSelectionRange(before + from, before + Math.max(to, from + 1));
    const height = parseFloat(getComputedStyle(this.text).lineHeight);
    if (Number.isFinite(height)) this.text.scrollTop = Math.max(0, (line - 4) * height);
  }

  #show(details) {
    const places = details.map(place);
    this.bad = new Set(places.filter(Boolean).map(({ line }) => line));
    this.text.setAttribute("aria-invalid", String(details.length > 0));
    this.errors.replaceChildren(...details.map((detail, n) => {
      const at = places[n];
      if (!at) return h("li", {}, detail);
      const text = detail.replace(/^\d+:\d+: /, "");
      return h("li", {}, h("button", { type: "button", class: "place", on: { click: () => this.#go(at) } }, `${at.line}:${at.column}`), " ", text);
    }));
    this.#number();
  }

  async #start() {
    this.go.disabled = true;
    try {
      const { proc_ids: ids } = await send("POST", "/procs", this.text.value);
      this.#show([]);
      toast(ids.length === 1 ? `${ids[0]} is started` : `${ids.length} processes are started`);
      location.hash = ids.length === 1 ? href(ids[0]) : "#/";
    } catch (error) {
      const details = error instanceof ApiError ? error.details : [problem(error)];
      this.#show(details);
      say(`${details.length === 1 ? "One error" : `${details.length} errors`}: ${details.join("; ")}`);
      const first = details.map(place).find(Boolean);
      if (first) this.#go(first);
    } finally {
      this.go.disabled = false;
    }
  }
}
