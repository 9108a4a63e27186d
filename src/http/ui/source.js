// Where bytes of output come from: one stream, or several in the order in which they were written. Only what is shown is fetched.

import { ApiError, ask, data, outputPath, procPath } from "./api.js";

/** The bytes of a range; what is not there yet is left out. `signal` ends it. */
async function fetchRange(id, fd, start, end, signal) {
  if (end <= start) return new Uint8Array();
  try {
    const answer = await ask("GET", `${outputPath(id, fd)}/data`, { headers: { Range: `bytes=${start}-${end - 1}` }, signal });
    const body = new Uint8Array(await answer.arrayBuffer());
    // Without a 206 it is the whole: an empty capture has no ranges.
    return answer.status === 206 ? body : body.subarray(start, end);
  } catch (error) {
    if (error instanceof ApiError && error.status === 416) return new Uint8Array();
    throw error;
  }
}

/**
 * What output is read from.
 * @typedef {Stream | Mixed} Source
 */

/** @typedef {import("../types").ProcResult} ProcResult */

/** One captured stream. */
export class Stream {
  constructor(id, fd, result) {
    this.id = id;
    this.fd = fd;
    this.name = fd;
    this.length = 0;
    this.update(result);
  }

  /**
   * Takes what a result says of it.
   * @param {ProcResult} result
   */
  update(result) {
    this.running = result.state === "running";
    this.dropped = result.captures[this.fd]?.dropped ?? 0;
    this.grown(result.captures[this.fd]?.length ?? 0);
    if (!this.running) this.length = result.captures[this.fd]?.length ?? 0;
  }

  grown(length) {
    this.length = Math.max(this.length, length);
  }

  /** The bytes from `start` to `end`. */
  read(start, end, signal) {
    return fetchRange(this.id, this.fd, start, Math.min(end, this.length), signal);
  }

  /** The stretches of one kind in a range: here one. */
  runs(start, end) {
    return [{ start, end, tag: null }];
  }

  /** Asks how much there is by now. */
  async measure() {
    try {
      // The length comes with a range. It does not come with the whole, which may be compressed.
      const answer = await ask("GET", `${outputPath(this.id, this.fd)}/data`, { headers: { Range: "bytes=-1" } });
      this.grown(Number(answer.headers.get("Content-Range")?.split("/")[1] ?? 0));
    } catch {
      // The last known length has to do.
    }
  }

  /** Calls `more(bytes, offset)` with what is written from `start` on, until the end. */
  async follow(start, more, signal) {
    const answer = await ask("GET", `${outputPath(this.id, this.fd)}/follow?from=${start}`, { signal });
    let at = Number(answer.headers.get("Procstar-Offset") ?? start);
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      await more(value, at);
      at += value.length;
      this.grown(at);
    }
  }
}

/** Several streams, interleaved by their chunk times. Offsets are of the whole, one chunk after another. */
export class Mixed {
  constructor(id, result) {
    this.id = id;
    this.fd = "+";
    this.name = "output";
    this.dropped = 0;
    this.update(result);
  }

  update(result) {
    this.running = result.state === "running";
    this.chunks = [];
    let at = 0;
    for (const [time, fd, offset, length] of result.chunk_times ?? []) {
      this.chunks.push({ at, time, fd, offset, length });
      at += length;
    }
    this.length = at;
  }

  /** The first chunk that ends after `offset`. */
  #first(offset) {
    let [low, high] = [0, this.chunks.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.chunks[middle].at + this.chunks[middle].length <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #within(start, end) {
    const found = [];
    for (let n = this.#first(start); n < this.chunks.length && this.chunks[n].at < end; n += 1) found.push(this.chunks[n]);
    return found;
  }

  async read(start, end, signal) {
    end = Math.min(end, this.length);
    if (end <= start) return new Uint8Array();
    const whole = new Uint8Array(end - start);
    const parts = new Map();
    for (const { at, fd, offset, length } of this.#within(start, end)) {
      const from = Math.max(start, at);
      const to = Math.min(end, at + length);
      if (!parts.has(fd)) parts.set(fd, []);
      parts.get(fd).push({ from: offset + from - at, to: offset + to - at, at: from - start });
    }
    // The chunks of one stream that are near each other here are next to each other there.
    await Promise.all([...parts].map(async ([fd, stretches]) => {
      const [from, to] = [stretches[0].from, stretches.at(-1).to];
      const bytes = await fetchRange(this.id, fd, from, to, signal);
      for (const one of stretches) whole.set(bytes.subarray(one.from - from, one.to - from), one.at);
    }));
    return whole;
  }

  runs(start, end) {
    const runs = [];
    for (const { at, fd, length } of this.#within(start, end)) {
      const last = runs.at(-1);
      if (last && last.tag === fd) last.end = Math.min(end, at + length);
      else runs.push({ start: Math.max(start, at), end: Math.min(end, at + length), tag: fd });
    }
    return runs;
  }

  /** The streams that have output, and no chunks: each capture asks for them by itself. */
  missing(captures) {
    const known = new Set(this.chunks.map(({ fd }) => fd));
    return known.size ? Object.keys(captures).filter((fd) => captures[fd].length > 0 && !known.has(fd)) : [];
  }

  /** When what is at an offset was read, in seconds since the start. */
  time(offset) {
    return this.chunks[Math.min(this.#first(offset), this.chunks.length - 1)]?.time ?? 0;
  }

  /** Asks how much there is by now. */
  measure() {
    return this.refresh().catch(() => {});
  }

  /**
   * Fetches the result, which alone has order and time.
   * @param {AbortSignal} [signal]
   */
  async refresh(signal) {
    const { procs } = await data("GET", `${procPath(this.id)}?output=none`, { signal });
    // A later one may have come by another way.
    if (this.running) this.update(procs[this.id]);
  }
}

/**
 * The streams of a result that can be shown, and whether they can be shown together.
 * @param {ProcResult} result
 */
export function streams(result) {
  const captured = Object.keys(result.captures);
  const inOrder = (result.chunk_times !== null) && captured.filter((fd) => !result.captures[fd].compression).length > 1;
  // Offsets of chunks count what was dropped; no result says where that begins.
  const whole = captured.every((fd) => result.captures[fd].dropped === 0);
  return { captured, mixed: Boolean(inOrder && whole) };
}
