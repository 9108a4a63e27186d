// Follows the end of output: one stream by a request that does not end, several by asking when there is more. Where more comes than
// anybody reads, what is between is left out.

import { CHUNK } from "./output-reader.js";
import { Mixed } from "./source.js";

/** So many bytes within a second are a flood. */
const FLOOD = 8 << 20;

export class OutputFollower {
  /** Whether the user wants to see the end. */
  wanted = false;
  /** What has ended that: "button" or "scroll". Scrolling back to the end takes back the latter alone. */
  pausedBy = null;
  /** The reader's `abort` at the time when following began. @type {AbortController | null} */
  #running = null;
  /** Whether there was news while the last was being read. */
  #again = false;
  #reader;
  #view;

  /**
   * @param {import("./output-reader.js").OutputReader} reader
   * @param {{ visible: boolean, more: (some: Uint8Array) => void, draw: () => void }} view
   */
  constructor(reader, view) {
    this.#reader = reader;
    this.#view = view;
  }

  get #source() {
    return this.#reader.source;
  }

  get isRunning() {
    return this.#running !== null && this.#running === this.#reader.abort;
  }

  /** Stays where the user is. */
  pause(by) {
    this.wanted = false;
    this.pausedBy = by;
    if (this.isRunning) this.#reader.cancel();
    // What is there can still be looked at.
    this.#reader.abort ??= new AbortController();
    this.#view.draw();
  }

  /** Goes to the end; `wanted` says whether to stay there. */
  async toEnd(wanted) {
    this.wanted = wanted;
    await this.#source.measure();
    await this.#reader.jump(this.#source.length, { atEnd: true });
  }

  /** Reads on, if that is wanted and not being done. */
  async resume() {
    this.#again = this.isRunning;
    if (this.isRunning || this.#reader.busy || !this.#view.visible) return;
    const abort = this.#reader.abort ?? new AbortController();
    this.#reader.abort = abort;
    this.#running = abort;
    try {
      if (this.#source instanceof Mixed) await this.#catchUp(this.#source, abort);
      else await this.#stream(this.#source, abort);
      if (!this.#isCurrent(abort)) return;
      this.#running = null;
      // Scrolling from here on shows what there is.
      if (!this.#source.running) this.wanted = false;
      this.#view.draw();
    } catch (error) {
      if (this.#isCurrent(abort)) this.#running = null;
      this.#reader.failed(error, abort, () => this.#source.measure().then(() => this.resume()));
    }
  }

  #isCurrent(abort) {
    return this.#reader.abort === abort;
  }

  /**
   * @param {Mixed} source
   * @param {AbortController} abort
   */
  async #catchUp(source, abort) {
    do {
      this.#again = false;
      await this.#takeNew(source, abort);
      // News that came meanwhile is not lost.
    } while (this.#again && this.#isCurrent(abort));
  }

  /**
   * @param {Mixed} source
   * @param {AbortController} abort
   */
  async #takeNew(source, abort) {
    const { window } = this.#reader;
    if (source.running) await source.refresh(abort.signal);
    while (window.end < source.length && this.#isCurrent(abort)) {
      if (source.length - window.end > FLOOD) {
        this.#skip();
        return;
      }
      const some = await source.read(window.end, window.end + CHUNK, abort.signal);
      if (!this.#isCurrent(abort)) return;
      if (!some.length) break;
      this.#view.more(some);
    }
  }

  /**
   * @param {import("./source.js").Stream} source
   * @param {AbortController} abort
   */
  async #stream(source, abort) {
    const { window } = this.#reader;
    let [since, came] = [performance.now(), 0];
    const flood = new AbortController();
    const signal = AbortSignal.any([abort.signal, flood.signal]);
    try {
      await source.follow(window.end, (some, at) => {
        if (!this.#isCurrent(abort)) return;
        came += some.length;
        const now = performance.now();
        if (now - since > 1000) [since, came] = [now, 0];
        if (came > FLOOD || at !== window.end) {
          flood.abort();
          return;
        }
        this.#view.more(some);
      }, signal);
    } catch (error) {
      if (!flood.signal.aborted) throw error;
    }
    if (flood.signal.aborted && this.#isCurrent(abort)) {
      await source.measure();
      if (this.#isCurrent(abort)) this.#skip();
    }
  }

  /** Goes to the end, leaving out what is between. */
  #skip() {
    queueMicrotask(() => this.#reader.jump(this.#source.length, { atEnd: true }));
  }
}
