// The field that searches output: it marks what it finds in the rows in sight, and goes to the next match, wherever that is.

import { problem } from "./api.js";
import { button, h, say, setText } from "./dom.js";
import { bytes } from "./format.js";
import { isExact, search } from "./search.js";

/**
 * What a finder needs of the view that it searches in.
 * @typedef {object} View
 * @property {() => number} top The offset of the first byte in sight.
 * @property {(offset: number) => Promise<string>} reveal Shows an offset, and returns the text of its row.
 * @property {() => void} searching A search begins.
 * @property {() => void} left The user leaves the field.
 * @property {() => void} highlight What is to be marked has changed.
 */

export class OutputFinder {
  /** What to mark, in lower case unless it is `exact`. */
  text = "";
  /** The offset of the last match. @type {number | null} */
  hit = null;
  /** @type {AbortController | null} */
  #abort = null;
  #view;

  /**
   * @param {View} view
   * @param {() => import("./source.js").Source} source
   */
  constructor(view, source) {
    this.#view = view;
    this.source = source;
    this.field = h("input", { type: "search", class: "field", placeholder: "Search output", "aria-label": "Search output", autocomplete: "off", spellcheck: "false" });
    this.field.addEventListener("keydown", (event) => this.#key(event));
    this.field.addEventListener("input", () => this.highlight());
    this.found = h("output", { class: "found" });
    this.element = h("div", { class: "searching", role: "search" }, this.field,
      button("↑", () => this.find(true), { class: "button quiet", "aria-label": "Previous match", title: "Previous match (N)" }),
      button("↓", () => this.find(false), { class: "button quiet", "aria-label": "Next match", title: "Next match (n)" }),
      this.found);
  }

  get isExact() {
    return isExact(this.field.value);
  }

  #key(event) {
    if (event.key !== "Escape" && event.key !== "Enter") return;
    event.preventDefault();
    if (event.key === "Enter") this.find(event.shiftKey);
    else if (this.field.value) this.clear();
    else this.#view.left();
  }

  /** Marks the field's text in the rows in sight. */
  highlight() {
    this.text = this.isExact ? this.field.value : this.field.value.toLowerCase();
    this.#view.highlight();
  }

  /** Forgets the last match: another stream is shown. */
  reset() {
    this.hit = null;
    setText(this.found, "");
    this.highlight();
  }

  clear() {
    this.stop();
    this.field.value = "";
    this.reset();
  }

  stop() {
    this.#abort?.abort();
  }

  focus() {
    this.field.focus();
    this.field.select();
  }

  /** Goes to the next match, or with `back` to the previous one; from the other end where there is none. */
  async find(back) {
    const text = this.field.value;
    const source = this.source();
    if (!text || !source) return;
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    this.#view.searching();
    const from = this.hit === null ? this.#view.top() : this.hit + (back ? 0 : 1);
    const progress = (at) => setText(this.found, `searching, ${Math.round((at / source.length) * 100)} %`);
    try {
      let hit = await search(source, text, from, back, progress, abort.signal);
      let around = "";
      if (hit === null) {
        hit = await search(source, text, back ? source.length : 0, back, progress, abort.signal);
        around = back ? " (from the end)" : " (from the beginning)";
      }
      if (this.#abort !== abort) return;
      if (hit === null) {
        setText(this.found, "not found");
        say("Not found");
        return;
      }
      this.hit = hit;
      const row = await this.#view.reveal(hit);
      if (this.#abort !== abort) return;
      const where = `at ${bytes(hit)} of ${bytes(source.length)}${around}`;
      setText(this.found, where);
      say(`Found ${where}: ${row.trim().slice(0, 200)}`);
    } catch (error) {
      if (this.#abort === abort && !abort.signal.aborted) setText(this.found, problem(error));
    }
  }
}
