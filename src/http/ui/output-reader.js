// Fetches what a window of output shows: one place at a time, and given up when the user goes elsewhere.

import { ApiError, problem } from "./api.js";
import { OutputWindow, lineStart } from "./output-window.js";

export const CHUNK = 256 << 10;
/** How long to wait after a failure, in milliseconds. */
const RETRY = 1000;

/**
 * What a reader needs of the view that it reads for.
 * @typedef {object} View
 * @property {boolean} visible
 * @property {() => number} columns How many columns a row may have.
 * @property {(where: { atEnd: boolean, offset: number, place: number }) => void} replaced The window shows another place.
 * @property {(rows: number) => void} prepended So many rows are new before the others.
 * @property {(rows: number) => void} appended There is more at the end, and so many rows were cut at the front.
 * @property {() => void} layOut Makes the rows again, from where the user is.
 * @property {() => void} draw
 */

export class OutputReader {
  /** @type {import("./source.js").Source | null} */
  source = null;
  window = new OutputWindow();
  /** Of what is being read; another one says that the user has gone elsewhere. @type {AbortController | null} */
  abort = null;
  /** Whether a place or more of it is being fetched. */
  busy = false;
  /** What went wrong last, and whether it will again. */
  trouble = "";
  final = false;
  #retry = 0;
  #view;

  /** @param {View} view */
  constructor(view) {
    this.#view = view;
  }

  /** Reads this stream from now on; the window stays as it is until a place of it is shown. */
  open(source) {
    this.source = source;
    this.window.source = source;
  }

  cancel() {
    this.abort?.abort();
    this.abort = null;
    this.busy = false;
    clearTimeout(this.#retry);
  }

  /** Shows what is at an offset, `place` of the height below the top; `atEnd` shows the end. */
  async jump(offset, { atEnd = false, place = 0 } = {}) {
    this.cancel();
    const abort = new AbortController();
    this.abort = abort;
    this.busy = true;
    this.trouble = "";
    this.window.columns = this.#view.columns();
    try {
      const { source } = this;
      const middle = Math.min(offset, source.length);
      let from = Math.max(0, middle - CHUNK / 2);
      if (atEnd) from = Math.max(0, source.length - CHUNK);
      const some = await source.read(from, Math.min(source.length, middle + CHUNK), abort.signal);
      if (this.abort !== abort) return;
      const skip = from > 0 ? lineStart(some) : 0;
      this.window.replace(some.subarray(skip), from + skip);
      this.busy = false;
      this.#view.replaced({ atEnd, offset, place });
    } catch (error) {
      this.failed(error, abort, () => this.jump(offset, { atEnd, place }));
    }
  }

  /** Fetches what is before the window, when the user gets near. */
  growFront() {
    return this.#grow(this.window.start > 0, async ({ source, window, abort }) => {
      const from = Math.max(0, window.start - CHUNK);
      const some = await source.read(from, window.start, abort.signal);
      if (this.abort !== abort) return;
      const rows = window.prepend(some, from);
      window.trimBack();
      this.busy = false;
      this.#view.prepended(rows);
    });
  }

  /** Fetches what is after the window. */
  growBack() {
    return this.#grow(this.window.end < this.source.length, async ({ source, window, abort }) => {
      const some = await source.read(window.end, window.end + CHUNK, abort.signal);
      if (this.abort !== abort) return;
      window.append(some);
      this.busy = false;
      this.#view.appended(window.trimFront());
    });
  }

  async #grow(isMore, fetch) {
    const { abort, source, window } = this;
    if (this.busy || !abort || !isMore) return;
    this.busy = true;
    try {
      await fetch({ source, window, abort });
    } catch (error) {
      this.failed(error, abort, () => this.#view.layOut());
    }
  }

  /** Says what went wrong, and calls `again` after a while, unless it would go wrong again. */
  failed(error, abort, again) {
    if (this.abort !== abort || abort.signal.aborted) return;
    this.busy = false;
    this.trouble = problem(error);
    clearTimeout(this.#retry);
    // What is wrong with the request will be so again: the process may have been deleted.
    this.final = error instanceof ApiError && error.status >= 400 && error.status < 500;
    this.#view.draw();
    if (this.final) return;
    this.#retry = setTimeout(() => {
      this.trouble = "";
      if (this.#view.visible) again();
    }, RETRY);
  }
}
