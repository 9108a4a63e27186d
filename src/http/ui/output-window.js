// The rows of one stretch of output, which is grown at its ends while it is scrolled and cut at the far one. So a capture of a
// gigabyte costs what a small one does. Nothing of the document is in here.

import { rowsOf } from "./text.js";

/** The most rows of a window. */
export const MAX_ROWS = 40_000;
/** A line that has not ended after this many bytes is ended here. */
const MAX_OPEN_LINE = 64 << 10;

/**
 * @typedef {import("./text.js").Row} Row
 * @typedef {{ runs(start: number, end: number): { start: number, end: number, tag: string | null }[] }} Runs
 */

function join(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/**
 * Where the first whole line begins in bytes that begin anywhere: after a newline, or else at a whole character.
 * @param {Uint8Array} some
 */
export function lineStart(some) {
  const newline = some.subarray(0, MAX_OPEN_LINE).indexOf(0x0a);
  if (newline >= 0 && newline + 1 < some.length) return newline + 1;
  let at = 0;
  while (at < 3 && (some[at] & 0xc0) === 0x80) at += 1;
  return at;
}

export class OutputWindow {
  /** @type {Row[]} */
  rows = [];
  /** The offsets of the first byte in the window, and of the first one after it. */
  start = 0;
  end = 0;
  /** How many columns a row may have. */
  columns = 80;
  /** Says of which streams the bytes are. @type {Runs} */
  source = null;
  /** The bytes of the last row, while it is open. */
  #tail = null;
  /** The style in which each stream goes on. */
  #styles = new Map();

  /** Shows other bytes, which begin at offset `start`. */
  replace(some, start) {
    this.rows = [];
    this.#styles.clear();
    this.#tail = null;
    this.start = this.end = start;
    this.append(some);
  }

  /** Adds the bytes that follow the window. */
  append(some) {
    const open = this.rows.at(-1)?.open && this.#tail ? this.rows.pop() : null;
    const all = open ? join(this.#tail, some) : some;
    const base = open ? open.at : this.end;
    for (const row of this.#layOut(all, base, open?.style, false)) this.rows.push(row);
    this.end += some.length;
    const last = this.rows.at(-1);
    this.#tail = null;
    if (last?.open) {
      if (this.end - last.at > MAX_OPEN_LINE) last.open = false;
      else this.#tail = all.slice(last.at - base);
    }
  }

  /** Adds bytes that begin at offset `from` and end where the window begins; returns how many rows they are. */
  prepend(some, from) {
    const skip = from > 0 ? lineStart(some) : 0;
    const rows = this.#layOut(some.subarray(skip), from + skip, null, true);
    if (rows.length) rows.at(-1).open = false;
    this.rows = rows.concat(this.rows);
    this.start = from + skip;
    return rows.length;
  }

  /** Cuts rows at the front that are too many; returns how many. */
  trimFront() {
    const over = this.rows.length - MAX_ROWS;
    if (over <= 0) return 0;
    this.rows.splice(0, over);
    this.start = this.rows[0].at;
    return over;
  }

  /** Cuts rows at the back that are too many. */
  trimBack() {
    if (this.rows.length <= MAX_ROWS) return;
    this.rows.length = MAX_ROWS;
    this.end = this.rows.at(-1).end;
    this.rows.at(-1).open = false;
    this.#tail = null;
  }

  /** Whether an offset is in the window. */
  holds(offset) {
    return offset >= this.start && offset < this.end;
  }

  /** The number of the row that holds an offset, or of the nearest one; -1 if there are no rows. */
  rowAt(offset) {
    let [low, high] = [0, this.rows.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].end <= offset) low = middle + 1;
      else high = middle;
    }
    return Math.min(low, this.rows.length - 1);
  }

  /** Rows of bytes that begin at offset `base`; the last one may be open. */
  #layOut(some, base, style, final) {
    const all = [];
    const runs = this.source.runs(base, base + some.length);
    for (const [n, { start, end, tag }] of runs.entries()) {
      const last = n === runs.length - 1;
      const before = n === 0 && style ? style : this.#styles.get(tag);
      const bytes = some.subarray(start - base, end - base);
      const { rows, style: after } = rowsOf(bytes, start, before, this.columns, { final: final || !last, tag });
      this.#styles.set(tag, after);
      if (!last && rows.length) rows.at(-1).open = false;
      for (const row of rows) all.push(row);
    }
    return all;
  }
}
