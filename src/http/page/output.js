// Captured output: a window of rows around what is in sight, grown at its ends while it is scrolled and cut at the far one. So a capture of a
// gigabyte costs what a small one does. The slider stands for the whole.

import { ApiError, ask, outputPath, problem, token } from "./api.js";
import { button, eachFrame, h, say, setText, toast } from "./dom.js";
import { bytes, duration, fdName } from "./format.js";
import { isExact, search } from "./search.js";
import { Mixed, Stream, streams } from "./source.js";
import { paint, rowsOf } from "./text.js";

const CHUNK = 256 << 10;
/** The most rows of a window. */
const ROWS = 40_000;
/** The columns of a row where lines are not wrapped: longer ones are broken there. */
const LONG = 2000;
/** What a line that is not ended may have before it is ended here. */
const OPEN = 64 << 10;
/** Where more comes within a second than anybody reads, what is between is left out. */
const FLOOD = 8 << 20;
const SPARE = 20;
const RETRY = 1000;

let wrapped = true;

function join(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** Where the first whole line begins in bytes that begin anywhere. */
function lineStart(some) {
  const newline = some.subarray(0, OPEN).indexOf(0x0a);
  if (newline >= 0 && newline + 1 < some.length) return newline + 1;
  let at = 0;
  while (at < 3 && (some[at] & 0xc0) === 0x80) at += 1;
  return at;
}

export class OutputView {
  constructor(id, result) {
    this.id = id;
    this.result = result;
    this.rows = [];
    this.start = 0;
    this.end = 0;
    this.tail = null;
    this.styles = new Map();
    this.drawn = new Map();
    this.find = "";
    this.hit = null;
    // Of what runs, the end is what matters.
    this.wish = result.state === "running" ? "follow" : "stay";
    this.render = eachFrame(() => this.#render());
    this.#build();
    this.#choose(this.choices[0]?.value);
  }

  // -- What there is to see and to press

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
    this.query = h("input", { type: "search", class: "field", placeholder: "Search output", "aria-label": "Search output", autocomplete: "off", spellcheck: "false" });
    this.query.addEventListener("keydown", (event) => {
      if (event.key === "Escape") {
        event.preventDefault();
        if (this.query.value) this.#forget();
        else this.scroller.focus();
      } else if (event.key === "Enter") {
        event.preventDefault();
        this.#search(event.shiftKey);
      }
    });
    this.query.addEventListener("input", () => { this.#look(); });
    this.found = h("output", { class: "found" });
    const wrap = h("input", { type: "checkbox", on: { change: () => { wrapped = wrap.checked; this.#again(); } } });
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
    this.element = h("div", { class: "viewer" },
      h("div", { class: "tools" },
        h("fieldset", { class: "choices" }, h("legend", { class: "unseen" }, "Stream"), ...this.choices.map(({ element }) => element)),
        this.follow,
        h("div", { class: "searching", role: "search" }, this.query, button("↑", () => this.#search(true), { class: "button quiet", "aria-label": "Previous match", title: "Previous match (N)" }),
          button("↓", () => this.#search(false), { class: "button quiet", "aria-label": "Next match", title: "Next match (n)" }), this.found),
        h("label", { class: "check" }, wrap, "Wrap"), this.downloads),
      this.note, this.scroller, this.nothing,
      h("div", { class: "foot" }, this.slider, this.status));
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.resized = new ResizeObserver(() => this.#resized());
  }

  shown() {
    this.visible = true;
    this.resized.observe(this.scroller);
    this.#again();
  }

  hide() {
    this.visible = false;
    this.resized.disconnect();
    this.#cancel();
  }

  unmount() {
    this.hide();
    this.searching?.abort();
  }

  #choose(value) {
    if (value === undefined) return;
    for (const choice of this.choices) choice.input.checked = choice.value === value;
    this.source = value === "+" ? new Mixed(this.id, this.result) : new Stream(this.id, value, this.result);
    this.scroller.setAttribute("aria-label", value === "+" ? "Interleaved output" : `Output: ${fdName(value)}`);
    this.lines.classList.toggle("mixed", value === "+");
    this.find = "";
    this.hit = null;
    setText(this.found, "");
    this.#look();
    const files = value === "+" ? streams(this.result).captured : [value];
    this.downloads.replaceChildren(...files.map((fd) => this.#download(fd)));
    this.wish = this.source.running ? "follow" : "stay";
    if (this.visible) this.#jump(this.source.running ? this.source.length : 0, this.source.running);
  }

  #download(fd) {
    const name = `${(this.id || "process").replace(/[^\w.-]+/g, "_").replace(/^\.+/, "_")}.${fd}.txt`;
    const text = this.source.fd === "+" ? `Download ${fdName(fd)}` : "Download";
    const path = `${outputPath(this.id, fd)}/data`;
    if (!token.get()) return h("a", { class: "button quiet", href: path, download: name }, text);
    // What a browser opens by itself bears no token.
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

  // -- What is told of it

  /** Takes a newer result. */
  learn(result) {
    const ran = this.source?.running;
    this.result = result;
    if (!this.source) return;
    this.source.learn(result);
    if (this.source.fd === "+" && this.source.dropped !== undefined && !streams(result).mixed) return this.#choose(this.choices[0].value);
    if (this.visible && this.wish === "follow" && (this.source.running || ran)) this.#goOn();
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
    if (total !== this.total && this.wish === "follow" && this.visible) this.#goOn();
    this.total = total;
  }

  // -- The window

  #cancel() {
    this.abort?.abort();
    this.abort = null;
    this.busy = false;
    this.following = false;
    clearTimeout(this.retry);
  }

  #columns() {
    if (!wrapped) return LONG;
    const one = this.probe.getBoundingClientRect().width / 100 || 8;
    const { clientWidth } = this.scroller;
    const gutter = this.source.fd === "+" ? 15 : 0;
    return Math.max(20, Math.floor((clientWidth - 20) / one) - gutter);
  }

  #lineHeight() {
    return parseFloat(getComputedStyle(this.scroller).getPropertyValue("--line")) || 18;
  }

  /** Rows of bytes that begin at `base`; the last one may be open. */
  #rows(some, base, style, final) {
    const all = [];
    const runs = this.source.runs(base, base + some.length);
    for (const [n, { start, end, tag }] of runs.entries()) {
      const last = n === runs.length - 1;
      const before = n === 0 && style ? style : this.styles.get(tag);
      const { rows, style: after } = rowsOf(some.subarray(start - base, end - base), start, before, this.columns, { final: final || !last, tag });
      this.styles.set(tag, after);
      if (!last && rows.length) rows.at(-1).open = false;
      for (const row of rows) all.push(row);
    }
    return all;
  }

  #append(some) {
    const open = this.rows.at(-1)?.open && this.tail ? this.rows.pop() : null;
    const all = open ? join(this.tail, some) : some;
    const base = open ? open.at : this.end;
    const rows = this.#rows(all, base, open?.style, false);
    for (const row of rows) this.rows.push(row);
    this.end += some.length;
    const last = this.rows.at(-1);
    this.tail = null;
    if (last?.open) {
      if (this.end - last.at > OPEN) last.open = false;
      else this.tail = all.slice(last.at - base);
    }
    this.drawn.clear();
  }

  #replace(some, start) {
    this.rows = [];
    this.drawn.clear();
    this.styles.clear();
    this.tail = null;
    this.start = this.end = start;
    this.#append(some);
  }

  /** Shows what is at an offset; `atEnd` shows the end, and goes on from there where more may come. */
  async #jump(offset, atEnd = false, place = 0) {
    this.#cancel();
    const abort = new AbortController();
    this.abort = abort;
    this.busy = true;
    this.columns = this.#columns();
    try {
      const { source } = this;
      const middle = Math.min(offset, source.length);
      let from = Math.max(0, middle - CHUNK / 2);
      if (atEnd) from = Math.max(0, source.length - CHUNK);
      const some = await source.read(from, Math.min(source.length, middle + CHUNK), abort.signal);
      if (this.abort !== abort) return;
      const skip = from > 0 ? lineStart(some) : 0;
      this.#replace(some.subarray(skip), from + skip);
      this.busy = false;
      this.#stretch();
      if (atEnd) this.#toEnd();
      else this.#toRow(this.#rowAt(offset), place);
      this.#render();
      if (this.wish === "follow") this.#goOn();
    } catch (error) {
      this.#failed(error, abort, () => this.#jump(offset, atEnd, place));
    }
  }

  #failed(error, abort, again) {
    if (this.abort !== abort || abort.signal.aborted) return;
    this.busy = this.following = false;
    this.trouble = problem(error);
    clearTimeout(this.retry);
    // What is wrong with the request will be so again: the process may have been deleted.
    this.final = error instanceof ApiError && error.status >= 400 && error.status < 500;
    this.#render();
    if (this.final) return;
    this.retry = setTimeout(() => { this.trouble = ""; if (this.visible) again(); }, RETRY);
  }

  /** Lays out anew from where the reader is. */
  #again() {
    if (!this.source) return this.#render();
    const first = this.rows[this.#top()];
    if (this.wish === "follow" || !first) this.#jump(this.wish === "follow" ? this.source.length : 0, this.wish === "follow");
    else this.#jump(first.at);
  }

  #resized() {
    if (!this.visible || !this.source) return;
    if (wrapped && this.columns && this.#columns() !== this.columns) this.#again();
    else this.render();
  }

  /** Gets what comes before or after the window, when the reader gets near. */
  async #grow(back) {
    if (this.busy || !this.abort) return;
    const { abort, source } = this;
    // What comes at the end is the follower's.
    if (back ? this.start === 0 : this.end >= source.length || this.wish === "follow") return;
    this.busy = true;
    try {
      if (back) {
        const from = Math.max(0, this.start - CHUNK);
        const some = await source.read(from, this.start, abort.signal);
        if (this.abort !== abort) return;
        const skip = from > 0 ? lineStart(some) : 0;
        const rows = this.#rows(some.subarray(skip), from + skip, null, true);
        if (rows.length) rows.at(-1).open = false;
        this.rows = rows.concat(this.rows);
        this.start = from + skip;
        this.drawn.clear();
        this.#trim(false);
        this.#stretch();
        this.scroller.scrollTop += rows.length * this.line;
      } else {
        const some = await source.read(this.end, this.end + CHUNK, abort.signal);
        if (this.abort !== abort) return;
        this.#append(some);
        const cut = this.#trim(true);
        this.#stretch();
        if (cut) this.scroller.scrollTop -= cut * this.line;
      }
      this.busy = false;
      this.#render();
      // It has waited for this.
      if (this.wish === "follow") this.#goOn();
    } catch (error) {
      this.#failed(error, abort, () => this.#again());
    }
  }

  /** Cuts the window at the far end; tells how many rows fell out before what is left. */
  #trim(front) {
    const over = this.rows.length - ROWS;
    if (over <= 0) return 0;
    this.drawn.clear();
    if (front) {
      this.rows.splice(0, over);
      this.start = this.rows[0].at;
      return over;
    }
    this.rows.length = ROWS;
    this.end = this.rows.at(-1).end;
    this.rows.at(-1).open = false;
    this.tail = null;
    return 0;
  }

  #stretch() {
    this.line = this.#lineHeight();
    this.sheet.style.height = `${this.rows.length * this.line}px`;
  }

  #toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #toRow(n, place = 0) {
    this.scroller.scrollTop = n * this.line - place * this.scroller.clientHeight;
  }

  #top() {
    return Math.min(this.rows.length - 1, Math.max(0, Math.floor(this.scroller.scrollTop / (this.line || 18))));
  }

  /** The row that holds an offset. */
  #rowAt(offset) {
    let [low, high] = [0, this.rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].end <= offset) low = middle + 1;
      else high = middle;
    }
    return Math.min(low, this.rows.length - 1);
  }

  // -- Following

  #toggle() {
    if (this.wish === "follow") {
      this.#pause("button");
      say("Paused");
    } else {
      this.wish = "follow";
      this.#measure().then(() => this.#jump(this.source.length, true));
      say("Following");
    }
  }

  #pause(by) {
    this.wish = "stay";
    this.pausedBy = by;
    if (this.following) this.#cancel();
    // What is there can still be looked at.
    this.abort ??= new AbortController();
    this.render();
  }

  /** How much there is by now. */
  async #measure() {
    if (this.source.fd === "+") return this.source.refresh().catch(() => {});
    try {
      // The length is told with a range; with the whole it is not where that would be compressed.
      const answer = await ask("GET", `${outputPath(this.id, this.source.fd)}/data`, { headers: { Range: "bytes=-1" } });
      this.source.grown(Number(answer.headers.get("Content-Range")?.split("/")[1] ?? 0));
    } catch {
      // Then what was known has to do.
    }
  }

  #more(some) {
    this.#append(some);
    this.#trim(true);
    this.#stretch();
    this.#toEnd();
    this.render();
  }

  async #goOn() {
    this.again = this.following;
    if (this.following || this.busy || !this.visible) return;
    const abort = this.abort ?? new AbortController();
    this.abort = abort;
    this.following = true;
    try {
      if (this.source.fd === "+") await this.#catchUp(abort);
      else await this.#stream(abort);
      if (this.abort !== abort) return;
      this.following = false;
      // Whoever scrolls from here on reads what there is.
      if (!this.source.running) this.wish = "stay";
      this.render();
    } catch (error) {
      this.#failed(error, abort, () => this.#measure().then(() => this.#goOn()));
    }
  }

  async #catchUp(abort) {
    do {
      this.again = false;
      await this.#takeNew(abort);
      // What was told meanwhile is not lost.
    } while (this.again && this.abort === abort);
  }

  async #takeNew(abort) {
    if (this.source.running) await this.source.refresh(abort.signal);
    while (this.end < this.source.length && this.abort === abort) {
      if (this.source.length - this.end > FLOOD) {
        queueMicrotask(() => this.#jump(this.source.length, true));
        return;
      }
      const some = await this.source.read(this.end, this.end + CHUNK, abort.signal);
      if (this.abort !== abort) return;
      if (!some.length) break;
      this.#more(some);
    }
  }

  async #stream(abort) {
    let [since, came] = [performance.now(), 0];
    const flood = new AbortController();
    const signal = AbortSignal.any([abort.signal, flood.signal]);
    try {
      await this.source.follow(this.end, (some, at) => {
        if (this.abort !== abort) return;
        came += some.length;
        const now = performance.now();
        if (now - since > 1000) [since, came] = [now, 0];
        if (came > FLOOD || at !== this.end) {
          flood.abort();
          return;
        }
        this.#more(some);
      }, signal);
    } catch (error) {
      if (!flood.signal.aborted) throw error;
    }
    if (flood.signal.aborted && this.abort === abort) {
      await this.#measure();
      if (this.abort === abort) queueMicrotask(() => this.#jump(this.source.length, true));
    }
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    const atEnd = scrollTop + clientHeight >= scrollHeight - 4;
    if (this.wish === "follow" && !atEnd && !this.busy && this.source?.running && scrollTop < this.lastTop) this.#pause("scroll");
    else if (this.wish === "stay" && this.pausedBy === "scroll" && atEnd && this.source?.running && this.end >= this.source.length) {
      this.wish = "follow";
      this.#goOn();
    }
    this.lastTop = scrollTop;
    this.render();
  }

  // -- Searching

  /** Marks what is searched for in the rows in sight. */
  #look() {
    const text = this.query?.value ?? "";
    this.find = text && !isExact(text) ? text.toLowerCase() : text;
    this.drawn.clear();
    this.render?.();
  }

  #forget() {
    this.searching?.abort();
    this.query.value = "";
    this.hit = null;
    setText(this.found, "");
    this.#look();
  }

  async #search(back) {
    const text = this.query.value;
    if (!text || !this.source) return;
    this.searching?.abort();
    const abort = new AbortController();
    this.searching = abort;
    if (this.wish === "follow") this.#pause("button");
    const { source } = this;
    const top = this.rows[this.#top()]?.at ?? 0;
    const from = this.hit === null ? top : this.hit + (back ? 0 : 1);
    const progress = (at) => setText(this.found, `searching, ${Math.round((at / source.length) * 100)} %`);
    try {
      let hit = await search(source, text, from, back, progress, abort.signal);
      let around = "";
      if (hit === null) {
        hit = await search(source, text, back ? source.length : 0, back, progress, abort.signal);
        around = back ? " (from the end)" : " (from the beginning)";
      }
      if (this.searching !== abort) return;
      if (hit === null) {
        setText(this.found, "not found");
        say("Not found");
        return;
      }
      this.hit = hit;
      const told = `at ${bytes(hit)} of ${bytes(source.length)}${around}`;
      this.drawn.clear();
      if (hit >= this.start && hit < this.end) {
        const n = this.#rowAt(hit);
        const { scrollTop, clientHeight } = this.scroller;
        if (n * this.line < scrollTop || (n + 1) * this.line > scrollTop + clientHeight) this.#toRow(n, 0.3);
        this.#render();
      } else {
        await this.#jump(hit, false, 0.3);
      }
      if (this.searching !== abort) return;
      setText(this.found, told);
      say(`Found ${told}: ${this.rows[this.#rowAt(hit)]?.text.trim().slice(0, 200) ?? ""}`);
    } catch (error) {
      if (this.searching === abort && !abort.signal.aborted) setText(this.found, problem(error));
    }
  }

  #slide() {
    const to = Number(this.slider.value);
    if (this.wish === "follow") this.#pause("button");
    clearTimeout(this.sliding);
    this.sliding = setTimeout(() => {
      this.sliding = 0;
      this.#jump(to);
    }, 60);
  }

  // -- Drawing

  #render() {
    if (!this.source) {
      this.nothing.hidden = false;
      this.scroller.hidden = this.slider.hidden = this.follow.hidden = true;
      setText(this.nothing, "No descriptor of this process is captured.");
      return;
    }
    const { source } = this;
    const empty = source.length === 0 && this.rows.length === 0;
    this.nothing.hidden = !empty;
    this.scroller.classList.toggle("bare", empty);
    if (empty) setText(this.nothing, source.running ? "Nothing has been written so far." : "Nothing was written.");
    const first = Math.max(0, this.#top() - SPARE);
    const last = Math.min(this.rows.length, this.#top() + Math.ceil(this.scroller.clientHeight / (this.line || 18)) + SPARE);
    const hit = this.hit === null ? -1 : this.#rowAt(this.hit);
    const shown = [];
    for (let n = first; n < last; n += 1) {
      const row = this.rows[n];
      let element = this.drawn.get(row);
      if (!element) {
        element = this.#row(row, n === hit && this.hit >= row.at && this.hit < row.end);
        this.drawn.set(row, element);
      }
      shown.push(element);
    }
    // What is in place stays: a selection lives on.
    const { lines } = this;
    if (lines.childElementCount !== shown.length || shown.some((element, n) => lines.children[n] !== element)) lines.replaceChildren(...shown);
    for (const row of this.drawn.keys()) if (!shown.includes(this.drawn.get(row))) this.drawn.delete(row);
    lines.style.transform = `translateY(${first * (this.line || 18)}px)`;
    this.#tell();
    const near = SPARE * 4;
    if (this.#top() + Math.ceil(this.scroller.clientHeight / (this.line || 18)) + near > this.rows.length) this.#grow(false);
    else if (first < near) this.#grow(true);
  }

  #row(row, hit) {
    const element = h("div", { class: "line" });
    if (row.tag !== null) {
      element.dataset.fd = row.tag;
      element.append(h("span", { class: "when" }, `${this.source.time(row.at).toFixed(3).padStart(9)} ${{ stdout: "out", stderr: "err" }[row.tag] ?? row.tag} `));
    }
    if (hit) element.classList.add("hit");
    element.append(...paint(row, this.find, isExact(this.query.value)));
    return element;
  }

  #tell() {
    const { source } = this;
    const partly = this.start > 0 || this.end < source.length;
    const top = this.rows[this.#top()]?.at ?? 0;
    this.slider.hidden = !partly;
    if (partly && !this.sliding) {
      this.slider.max = String(source.length);
      this.slider.value = String(this.wish === "follow" ? source.length : top);
      this.slider.setAttribute("aria-valuetext", `${bytes(top)} of ${bytes(source.length)}`);
    }
    this.follow.hidden = !source.running;
    const follows = this.wish === "follow";
    setText(this.follow, follows ? "Pause" : "Follow");
    this.follow.dataset.on = String(follows);
    const parts = [partly && !follows ? `${bytes(top)} of ${bytes(source.length)}` : bytes(source.length)];
    if (source.running) parts.push(follows ? "following" : "paused");
    if (source.running && !follows && source.length > this.end) parts.push(`${bytes(source.length - this.end)} more below`);
    if (!source.running && this.result.times.stop) parts.push(`ended after ${duration(this.result.times.elapsed)}`);
    if (this.trouble) parts.push(this.final ? this.trouble : `${this.trouble}, trying again`);
    setText(this.status, parts.join(" · "));
    const report = this.result.captures[source.fd];
    const notes = [];
    if (report?.dropped) notes.push(`${bytes(report.dropped)} between the first and the last bytes were dropped, by the capture's limit.`);
    if (report?.reason && report.reason !== "limit") notes.push({ survivor: "A descendant still held this descriptor when the process had ended: what it wrote later is not here.", error: "Reading or keeping the output failed: the agent's log says why.", setup: "The process was not started.", truncated: "The process truncated its own output: what it wrote before is lost.", gone: "The file of this output was removed or replaced.", changed: "The file of this output was changed after the end: what it holds is not shown." }[report.reason] ?? report.reason);
    const missing = source.fd === "+" && !source.running ? source.missing(this.result.captures) : [];
    if (missing.length) notes.push(`Not among these, for its capture asks for no pieces: ${missing.map(fdName).join(", ")}.`);
    this.note.hidden = !notes.length;
    setText(this.note, notes.join(" "));
  }

  // -- Keys

  #end() {
    this.wish = this.source.running ? "follow" : "stay";
    this.#measure().then(() => this.#jump(this.source.length, true));
  }

  key(key) {
    if (!this.source) return false;
    switch (key) {
      case "f": if (this.source.running) this.#toggle(); return true;
      case "g": case "Home": this.#pause("button"); this.#jump(0); return true;
      case "G": case "End": this.#end(); return true;
      case "/": this.query.focus(); this.query.select(); return true;
      case "n": this.#search(false); return true;
      case "N": this.#search(true); return true;
      case "w": this.wrap.click(); return true;
      case "o": {
        const at = this.choices.findIndex(({ value }) => value === this.source.fd);
        const next = this.choices[(at + 1) % this.choices.length];
        this.#choose(next.value);
        say(this.scroller.getAttribute("aria-label"));
        return true;
      }
      default: return false;
    }
  }
}
