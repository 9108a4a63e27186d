// Captured output of one process: chooses a stream, draws the rows in sight, and connects the reader, the follower and the finder
// with what the user does. The slider stands for the whole stream.

import { ask, outputPath, problem, token } from "./api.js";
import { button, eachFrame, h, say, setText, toast } from "./dom.js";
import { bytes, duration, fdName } from "./format.js";
import { OutputFinder } from "./output-finder.js";
import { OutputFollower } from "./output-follower.js";
import { OutputReader } from "./output-reader.js";
import { Mixed, Stream, streams } from "./source.js";
import { paint } from "./text.js";

/** The columns of a row if lines are not wrapped: longer ones are broken there. */
const UNWRAPPED = 2000;
/** Rows beyond each edge, so that a quick scroll shows no blank. */
const SPARE = 20;
/** The height of a line, in pixels, until the style sheet has it. */
const LINE = 18;

/** Why a capture is not complete. */
const REASONS = {
  held_open: "A descendant still held this descriptor open when the process ended: its later output is missing.",
  error: "Reading or storing the output failed: see the log.",
  not_started: "The process was not started.",
  overwritten: "The process truncated or overwrote its own output: earlier output may be missing.",
  gone: "The file of this output was removed or replaced.",
  changed: "The file of this output was changed after the end: its content is not shown.",
};

let wrapped = true;

/** A link that downloads a stream, or a button if a token is needed: a link sends none. */
function download(id, fd, text) {
  const name = `${(id || "process").replace(/[^\w.-]+/g, "_").replace(/^\.+/, "_")}.${fd}.txt`;
  const path = `${outputPath(id, fd)}/data`;
  if (!token.get()) return h("a", { class: "button quiet", href: path, download: name }, text);
  return button(text, async () => {
    try {
      const blob = await (await ask("GET", path)).blob();
      const url = URL.createObjectURL(blob);
      h("a", { href: url, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch (error) {
      toast(problem(error), "bad");
    }
  }, { class: "button quiet" });
}

/** What a user has to know of a capture that is not whole, in sentences. */
export function remarks(source, result) {
  const report = result.captures[source.fd];
  const notes = [];
  if (report?.dropped) notes.push(`${bytes(report.dropped)} between the first and the last bytes were dropped, by the capture's limit.`);
  if (report?.reason && report.reason !== "truncated") notes.push(REASONS[report.reason] ?? report.reason);
  const missing = source.fd === "+" && !source.running ? source.missing(result.captures) : [];
  if (missing.length) notes.push(`Not among these, for its capture has no chunk times: ${missing.map(fdName).join(", ")}.`);
  return notes.join(" ");
}

export class OutputView {
  visible = false;
  /** The elements of rows that are drawn. @type {Map<import("./text.js").Row, HTMLElement>} */
  #drawn = new Map();
  #lineHeight = LINE;
  #lastTop = 0;
  #sliding = 0;
  /** The length of all streams together, as last reported. */
  #total = 0;

  /**
   * @param {string} id
   * @param {import("../types").ProcResult} result
   */
  constructor(id, result) {
    this.id = id;
    this.result = result;
    this.render = eachFrame(() => this.#render());
    this.reader = new OutputReader(this);
    this.follower = new OutputFollower(this.reader, this);
    this.finder = new OutputFinder(this, () => this.source);
    this.#build();
    this.#choose(this.choices[0]?.value);
  }

  get source() {
    return this.reader.source;
  }

  get #window() {
    return this.reader.window;
  }

  #build() {
    const { captured, mixed } = streams(this.result);
    const names = [...captured.map((fd) => [fd, fdName(fd)]), ...(mixed ? [["+", "interleaved"]] : [])];
    const order = ["stdout", "stderr"];
    names.sort(([a], [b]) => (order.indexOf(a) + 9) % 9 - (order.indexOf(b) + 9) % 9);
    this.choices = names.map(([value, text]) => {
      const input = h("input", { type: "radio", name: "stream", value, on: { change: () => this.#choose(value) } });
      return { value, input, element: h("label", { class: "choice" }, input, h("span", {}, text)) };
    });
    this.follow = button("", () => this.#toggle(), { class: "button follow", title: "Follow the end, or pause (f)" });
    const wrap = h("input", { type: "checkbox", on: { change: () => { wrapped = wrap.checked; this.layOut(); } } });
    wrap.checked = wrapped;
    this.wrap = wrap;
    this.downloads = h("span", { class: "downloads" });
    this.slider = h("input", { type: "range", class: "slider", min: "0", step: "1", "aria-label": "Place in the output", on: { input: () => this.#slide() } });
    this.status = h("p", { class: "status" });
    this.note = h("p", { class: "note", hidden: true });
    this.lines = h("div", { class: "lines" });
    this.sheet = h("div", { class: "sheet" }, this.lines);
    this.probe = h("span", { class: "probe", "aria-hidden": "true" }, "0".repeat(100));
    this.nothing = h("p", { class: "nothing", hidden: true });
    this.scroller = h("div", { class: "output", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Output" }, this.sheet, this.probe);
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.resized = new ResizeObserver(() => this.#resized());
    this.element = h("div", { class: "viewer" },
      h("div", { class: "tools" },
        h("fieldset", { class: "choices" }, h("legend", { class: "unseen" }, "Stream"), ...this.choices.map(({ element }) => element)),
        this.follow, this.finder.element, h("label", { class: "check" }, wrap, "Wrap"), this.downloads),
      this.note, this.scroller, this.nothing,
      h("div", { class: "foot" }, this.slider, this.status));
  }

  shown() {
    this.visible = true;
    this.resized.observe(this.scroller);
    this.layOut();
  }

  hide() {
    this.visible = false;
    this.resized.disconnect();
    this.reader.cancel();
  }

  unmount() {
    this.hide();
    this.finder.stop();
  }

  #choose(value) {
    // Of a running process, the end is what matters.
    this.follower.wanted = this.result.state === "running";
    if (value === undefined) return;
    for (const choice of this.choices) choice.input.checked = choice.value === value;
    this.reader.open(value === "+" ? new Mixed(this.id, this.result) : new Stream(this.id, value, this.result));
    this.scroller.setAttribute("aria-label", value === "+" ? "Interleaved output" : `Output: ${fdName(value)}`);
    this.lines.classList.toggle("mixed", value === "+");
    this.finder.reset();
    const files = value === "+" ? streams(this.result).captured : [value];
    this.downloads.replaceChildren(...files.map((fd) => download(this.id, fd, value === "+" ? `Download ${fdName(fd)}` : "Download")));
    if (this.visible) this.reader.jump(this.source.running ? this.source.length : 0, { atEnd: this.source.running });
  }

  // -- News of the process

  /** Takes a newer result. */
  update(result) {
    const ran = this.source?.running;
    this.result = result;
    if (!this.source) return;
    this.source.update(result);
    if (this.source.fd === "+" && !streams(result).mixed) {
      this.#choose(this.choices[0].value);
      return;
    }
    if (this.visible && this.follower.wanted && (this.source.running || ran)) this.follower.resume();
    this.render();
  }

  /** Takes how much is captured by now. */
  captured(lengths) {
    if (!this.source) return;
    if (this.source.fd !== "+") {
      this.source.grown(lengths[this.source.fd] ?? 0);
      this.render();
      return;
    }
    const total = Object.values(lengths).reduce((sum, length) => sum + length, 0);
    if (total !== this.#total && this.follower.wanted && this.visible) this.follower.resume();
    this.#total = total;
  }

  // -- What the reader, the follower and the finder ask of a view

  columns() {
    if (!wrapped) return UNWRAPPED;
    const one = this.probe.getBoundingClientRect().width / 100 || 8;
    const gutter = this.source.fd === "+" ? 15 : 0;
    return Math.max(20, Math.floor((this.scroller.clientWidth - 20) / one) - gutter);
  }

  replaced({ atEnd, offset, place }) {
    this.#drawn.clear();
    this.#stretch();
    if (atEnd) this.#toEnd();
    else this.#toRow(this.#window.rowAt(offset), place);
    this.#render();
    if (this.follower.wanted) this.follower.resume();
  }

  prepended(rows) {
    this.#stretch();
    this.scroller.scrollTop += rows * this.#lineHeight;
    this.#grown();
  }

  appended(cut) {
    this.#stretch();
    if (cut) this.scroller.scrollTop -= cut * this.#lineHeight;
    this.#grown();
  }

  #grown() {
    this.#render();
    // Following has waited for this.
    if (this.follower.wanted) this.follower.resume();
  }

  more(some) {
    this.#window.append(some);
    this.#window.trimFront();
    this.#stretch();
    this.#toEnd();
    this.render();
  }

  /** Makes the rows again, from where the user is. */
  layOut() {
    if (!this.source) {
      this.#render();
      return;
    }
    const first = this.#window.rows[this.#top()];
    if (first && !this.follower.wanted) this.reader.jump(first.at);
    else this.reader.jump(this.follower.wanted ? this.source.length : 0, { atEnd: this.follower.wanted });
  }

  draw() {
    this.#render();
  }

  top() {
    return this.#window.rows[this.#top()]?.at ?? 0;
  }

  searching() {
    if (this.follower.wanted) this.follower.pause("button");
  }

  left() {
    this.scroller.focus();
  }

  highlight() {
    this.#drawn.clear();
    this.render();
  }

  async reveal(offset) {
    this.#drawn.clear();
    if (this.#window.holds(offset)) {
      const n = this.#window.rowAt(offset);
      const { scrollTop, clientHeight } = this.scroller;
      const [top, bottom] = [n * this.#lineHeight, (n + 1) * this.#lineHeight];
      if (top < scrollTop || bottom > scrollTop + clientHeight) this.#toRow(n, 0.3);
      this.#render();
    } else {
      await this.reader.jump(offset, { place: 0.3 });
    }
    return this.#window.rows[this.#window.rowAt(offset)]?.text ?? "";
  }

  // -- What the user does

  #toggle() {
    if (this.follower.wanted) this.follower.pause("button");
    else this.follower.toEnd(true);
    say(this.follower.wanted ? "Following" : "Paused");
  }

  #slide() {
    const to = Number(this.slider.value);
    if (this.follower.wanted) this.follower.pause("button");
    clearTimeout(this.#sliding);
    this.#sliding = setTimeout(() => {
      this.#sliding = 0;
      this.reader.jump(to);
    }, 60);
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    const { follower, source } = this;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 4;
    const running = Boolean(source?.running);
    if (follower.wanted && !atEnd && !this.reader.busy && running && scrollTop < this.#lastTop) {
      follower.pause("scroll");
    } else if (!follower.wanted && follower.pausedBy === "scroll" && atEnd && running && this.#window.end >= source.length) {
      follower.wanted = true;
      follower.resume();
    }
    this.#lastTop = scrollTop;
    this.render();
  }

  #resized() {
    if (!this.visible || !this.source) return;
    if (wrapped && this.columns() !== this.#window.columns) this.layOut();
    else this.render();
  }

  key(key) {
    if (!this.source) return false;
    switch (key) {
      case "f": if (this.source.running) this.#toggle(); return true;
      case "g": case "Home": this.follower.pause("button"); this.reader.jump(0); return true;
      case "G": case "End": this.follower.toEnd(this.source.running); return true;
      case "/": this.finder.focus(); return true;
      case "n": this.finder.find(false); return true;
      case "N": this.finder.find(true); return true;
      case "w": this.wrap.click(); return true;
      case "o": this.#nextStream(); return true;
      default: return false;
    }
  }

  #nextStream() {
    const at = this.choices.findIndex(({ value }) => value === this.source.fd);
    this.#choose(this.choices[(at + 1) % this.choices.length].value);
    say(this.scroller.getAttribute("aria-label"));
  }

  // -- Places in the scroller

  #stretch() {
    this.#lineHeight = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--line")) || LINE;
    this.sheet.style.height = `${this.#window.rows.length * this.#lineHeight}px`;
  }

  #toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #toRow(n, place = 0) {
    this.scroller.scrollTop = n * this.#lineHeight - place * this.scroller.clientHeight;
  }

  /** The number of the first row in sight. */
  #top() {
    const top = Math.floor(this.scroller.scrollTop / this.#lineHeight);
    return Math.min(this.#window.rows.length - 1, Math.max(0, top));
  }

  // -- Drawing

  #render() {
    const { source } = this;
    if (!source) {
      this.nothing.hidden = false;
      this.scroller.hidden = this.slider.hidden = this.follow.hidden = true;
      setText(this.nothing, "No descriptor of this process is captured.");
      return;
    }
    const empty = source.length === 0 && this.#window.rows.length === 0;
    this.nothing.hidden = !empty;
    this.scroller.classList.toggle("bare", empty);
    if (empty) setText(this.nothing, source.running ? "Nothing has been written so far." : "Nothing was written.");
    const height = Math.ceil(this.scroller.clientHeight / this.#lineHeight);
    const first = Math.max(0, this.#top() - SPARE);
    this.#renderRows(first, Math.min(this.#window.rows.length, this.#top() + height + SPARE));
    this.#renderStatus();
    const near = SPARE * 4;
    // The rows at the end are the follower's to fetch.
    if (this.#top() + height + near > this.#window.rows.length) {
      if (!this.follower.wanted) this.reader.growBack();
    } else if (first < near) {
      this.reader.growFront();
    }
  }

  #renderRows(first, last) {
    const { lines } = this;
    const shown = this.#window.rows.slice(first, last).map((row) => {
      const element = this.#drawn.get(row) ?? this.#row(row);
      this.#drawn.set(row, element);
      return element;
    });
    // What is in place stays: a selection lives on.
    if (lines.childElementCount !== shown.length || shown.some((element, n) => lines.children[n] !== element)) lines.replaceChildren(...shown);
    const kept = new Set(shown);
    for (const [row, element] of this.#drawn) if (!kept.has(element)) this.#drawn.delete(row);
    lines.style.transform = `translateY(${first * this.#lineHeight}px)`;
  }

  #row(row) {
    const element = h("div", { class: "line" });
    if (row.tag !== null) {
      const fd = { stdout: "out", stderr: "err" }[row.tag] ?? row.tag;
      element.dataset.fd = row.tag;
      element.append(h("span", { class: "when" }, `${this.source.time(row.at).toFixed(3).padStart(9)} ${fd} `));
    }
    const { hit } = this.finder;
    if (hit !== null && hit >= row.at && hit < row.end) element.classList.add("hit");
    element.append(...paint(row, this.finder.text, this.finder.isExact));
    return element;
  }

  #renderStatus() {
    const { source } = this;
    const { start, end } = this.#window;
    const follows = this.follower.wanted;
    const partly = start > 0 || end < source.length;
    const place = `${bytes(this.top())} of ${bytes(source.length)}`;
    this.slider.hidden = !partly;
    if (partly && !this.#sliding) {
      this.slider.max = String(source.length);
      this.slider.value = String(follows ? source.length : this.top());
      this.slider.setAttribute("aria-valuetext", place);
    }
    this.follow.hidden = !source.running;
    setText(this.follow, follows ? "Pause" : "Follow");
    this.follow.dataset.on = String(follows);
    const parts = [partly && !follows ? place : bytes(source.length)];
    if (source.running) parts.push(follows ? "following" : "paused");
    if (source.running && !follows && source.length > end) parts.push(`${bytes(source.length - end)} more below`);
    if (!source.running && this.result.times.stop) parts.push(`ended after ${duration(this.result.times.elapsed)}`);
    const { trouble, final } = this.reader;
    if (trouble) parts.push(final ? trouble : `${trouble}, trying again`);
    setText(this.status, parts.join(" · "));
    const note = remarks(source, this.result);
    this.note.hidden = !note;
    setText(this.note, note);
  }
}
