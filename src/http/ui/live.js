// What happens, as it happens: one connection for the changes of all processes and the stats of those in sight.
//
// Server-sent events are read by fetch, not by EventSource, which could send no token. A browser has six connections to a service for all
// its tabs together, so a tab that nobody sees gives its one back, and goes on after the last event when it is seen again.

import { ApiError, ask, problem } from "./api.js";

const FIRST_WAIT = 200;
const LONGEST_WAIT = 5000;
/** Something comes at least every 15 s: a connection without a sign of life is none. */
const SILENCE = 40_000;
/** A tab that is hidden for longer than this is not kept informed. */
const HIDDEN = 10_000;
/** The set of processes is changed no more often than this: rows may come and go faster than anybody reads. */
const CALM = 1500;
/** What a request names must not get too long for one; IDs may be of any length. */
const NAMES = 6000;
const NAMED = 100;

export class Live extends EventTarget {
  #cursor = null;
  #abort = null;
  #wait = FIRST_WAIT;
  #timer = 0;
  #watch = 0;
  #hidden = 0;
  #parts = null;
  #ids = [];
  #every = 2;
  #stale = false;
  #paused = false;
  #opened = -CALM;
  #calm = 0;
  state = "wait";

  start() {
    document.addEventListener("visibilitychange", () => this.#seen());
    this.#open();
  }

  /** The processes whose stats are wanted, and the interval in seconds. */
  want(ids, every) {
    let room = NAMES;
    const fits = (id) => (room -= encodeURIComponent(id).length + 4) > 0;
    const wanted = [...new Set(ids)].slice(0, NAMED).filter(fits).sort();
    if (every === this.#every && wanted.join("\0") === this.#ids.join("\0")) return;
    this.#ids = wanted;
    this.#every = every;
    this.#stale = true;
    this.#renew();
  }

  /** Tries again at once, with whatever token there is now. */
  retry() {
    this.#wait = FIRST_WAIT;
    this.#open();
  }

  // A snapshot that has begun is taken to its end: it could not be gone on with.
  #renew() {
    if (!this.#stale || this.state !== "open" || this.#parts || !this.#cursor) return;
    const wait = this.#opened + CALM - performance.now();
    if (wait <= 0) this.#open();
    else this.#calm ||= setTimeout(() => { this.#calm = 0; this.#renew(); }, wait);
  }

  #seen() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      this.#hidden = setTimeout(() => {
        this.#paused = true;
        this.#close();
        this.#notify("rest");
      }, HIDDEN);
    } else if (this.#paused) {
      this.#paused = false;
      this.retry();
      this.#notify("wake");
    }
  }

  #notify(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  #become(state, why = "") {
    if (this.state === state && !why) return;
    this.state = state;
    this.#notify("state", { state, why });
  }

  #close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watch);
    this.#abort?.abort();
    this.#abort = null;
  }

  #heard(abort) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => abort.abort(new TypeError("silence")), SILENCE);
  }

  async #open() {
    this.#close();
    const abort = new AbortController();
    this.#abort = abort;
    this.#stale = false;
    this.#opened = performance.now();
    this.#parts = null;
    const query = new URLSearchParams({ summary: "true", stats: String(this.#every) });
    for (const id of this.#ids) query.append("id", id);
    const headers = { Accept: "text/event-stream" };
    if (this.#cursor) headers["Last-Event-ID"] = this.#cursor;
    try {
      this.#heard(abort);
      const answer = await ask("GET", `/events?${query}`, { headers, signal: abort.signal });
      await this.#read(answer.body.getReader(), abort);
      throw new TypeError("the service has ended the stream");
    } catch (error) {
      // Another connection has taken its place, or none is wanted.
      if (this.#abort !== abort) return;
      this.#close();
      if (error instanceof ApiError && error.status === 403) return this.#become("refused", problem(error));
      this.#become("lost", problem(error));
      this.#timer = setTimeout(() => this.#open(), this.#wait * (0.75 + Math.random() / 2));
      this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
    }
  }

  async #read(reader, abort) {
    const decoder = new TextDecoder();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.#abort !== abort) return;
      this.#heard(abort);
      const from = Math.max(0, text.length - 1);
      text += decoder.decode(value, { stream: true });
      let end = text.indexOf("\n\n", from);
      let start = 0;
      while (end >= 0) {
        this.#event(text.slice(start, end));
        if (this.#abort !== abort) return;
        start = end + 2;
        end = text.indexOf("\n\n", start);
      }
      if (start) text = text.slice(start);
      this.#renew();
    }
  }

  #event(block) {
    // It is heard: what goes wrong from here on is a new trouble.
    if (this.state !== "open") this.#become("open");
    this.#wait = FIRST_WAIT;
    const line = block.split("\n").find((text) => text.startsWith("data: "));
    if (!line) return;
    const event = JSON.parse(line.slice(6));
    if (event.cursor) this.#cursor = event.cursor;
    if (event.event === "reset") {
      this.#cursor = null;
    } else if (event.event === "snapshot") {
      this.#parts ??= [];
      this.#parts.push(...Object.entries(event.procs));
      if (event.more) return this.#notify("loading", this.#parts.length);
      const procs = this.#parts;
      this.#parts = null;
      this.#notify("snapshot", { procs, shutdown: event.shutdown_state });
    } else {
      this.#notify("event", event);
    }
  }
}
