// All processes, as far as the list shows them, in the order in which the service reported them.

import { eachFrame } from "./dom.js";

/** The most points of a history. When there are more, every second one is left out, so that it spans the whole life. */
const POINTS = 240;

/** A first look so soon after the start, in seconds, speaks of the time before it too. */
const EARLY = 5;

/** Adds a point of `[seconds since the start, CPU seconds, resident bytes]`. */
export function addPoint(history, point) {
  const last = history.at(-1);
  if (last && point[0] <= last[0]) return;
  history.push(point);
  if (history.length > POINTS) {
    let kept = 0;
    for (let n = 0; n < history.length; n += 1) {
      if (n % 2 === 0 || n === history.length - 1) history[kept++] = history[n];
    }
    history.length = kept;
  }
}

/** The share of a CPU that was used between each two points, in percent: `[seconds, percent]`. */
export function cpuShares(history) {
  const shares = [];
  // What was used before an early first look is known as well.
  const all = history.length && history[0][0] > 0 && history[0][0] <= EARLY ? [[0, 0, 0], ...history] : history;
  for (let n = 1; n < all.length; n += 1) {
    const [t0, c0] = all[n - 1];
    const [t1, c1] = all[n];
    if (t1 - t0 >= 0.05) shares.push([t1, Math.max(0, ((c1 - c0) / (t1 - t0)) * 100)]);
  }
  return shares;
}

/** @typedef {import("../types").ResultSummary} Summary */
/** @typedef {import("../types").EventBody} EventBody */

class Proc {
  /** @type {Summary["state"]} */
  state;
  /** @type {Summary["reason"]} */
  reason;
  /** @type {Summary["errors"]} */
  errors;
  /** @type {Summary["pid"]} */
  pid;
  /** @type {Summary["status"]} */
  status;
  /** @type {Summary["labels"]} */
  labels;
  /** @type {Summary["command"]} */
  command;
  /** @type {Summary["cpu"]} */
  cpu;
  /** @type {Summary["maxrss"]} */
  maxrss;

  constructor(id, number) {
    this.id = id;
    this.number = number;
    this.history = [];
    this.live = null;
  }

  /**
   * Takes a newer summary.
   * @param {Summary} summary
   */
  update(summary) {
    Object.assign(this, {
      state: summary.state, reason: summary.reason, errors: summary.errors, pid: summary.pid, status: summary.status,
      labels: summary.labels, command: summary.command, cpu: summary.cpu, maxrss: summary.maxrss,
    });
    this.startMs = Date.parse(summary.times.start);
    this.elapsed = summary.times.elapsed;
    // This machine's clock and the browser's need not agree; how old it is by the service is what counts.
    this.seenMs = performance.now();
    this.stopMs = summary.times.stop ? Date.parse(summary.times.stop) : null;
    if (summary.history && (summary.history.length || summary.state !== "running")) {
      const known = this.history.filter(([at]) => !summary.history.length || at > summary.history.at(-1)[0]);
      this.history = [...summary.history, ...known];
    }
    if (this.state !== "running") this.live = null;
    this.searchText = `${this.id}\n${this.command ?? ""}\n${this.pid ?? ""}\n${Object.entries(this.labels).map(([k, v]) => `${k}=${v}`).join("\n")}\n${this.errors.join("\n")}`.toLowerCase();
  }

  /** Seconds since the start, to the end or until now. */
  age() {
    return this.state === "running" ? this.elapsed + (performance.now() - this.seenMs) / 1000 : this.elapsed;
  }
}

export class Store extends EventTarget {
  procs = new Map();
  /** Until the first snapshot nobody knows whether there is anything. */
  loaded = false;
  shutdown = "active";
  connection = null;
  #next = 0;
  #changed = eachFrame(() => this.dispatchEvent(new Event("change")));

  /** Applies an event of a live connection. */
  listen(live) {
    live.addEventListener("snapshot", ({ detail }) => this.#replace(detail));
    live.addEventListener("event", ({ detail }) => this.#apply(detail));
  }

  #replace({ procs, shutdown }) {
    const before = this.procs;
    this.procs = new Map();
    for (const [id, summary] of procs) {
      const known = before.get(id);
      // One that was started at another time has only the ID in common.
      const same = known && known.startMs === Date.parse(summary.times.start);
      const proc = same ? known : new Proc(id, this.#next++);
      proc.update(summary);
      this.procs.set(id, proc);
      if (known && known.state !== proc.state) this.#notify("proc", { id, what: "ended" });
    }
    for (const id of before.keys()) if (!this.procs.has(id)) this.#notify("proc", { id, what: "deleted" });
    this.shutdown = shutdown;
    this.loaded = true;
    this.#changed();
    this.dispatchEvent(new Event("loaded"));
  }

  #notify(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  /** @param {EventBody} event */
  #apply(event) {
    switch (event.event) {
      case "started":
      case "updated":
      case "ended": {
        const known = this.procs.get(event.id);
        const proc = known ?? new Proc(event.id, this.#next++);
        proc.update(event.result);
        if (!known) this.procs.set(event.id, proc);
        this.#notify("proc", { id: event.id, what: event.event });
        break;
      }
      case "deleted":
        this.procs.delete(event.id);
        this.#notify("proc", { id: event.id, what: "deleted" });
        break;
      case "shutdown":
        this.shutdown = event.shutdown_state;
        break;
      case "stats":
        this.#stats(event);
        break;
      default:
        return;
    }
    this.#changed();
  }

  /** @param {EventBody} event */
  #stats(event) {
    this.connection = event.connection;
    const procs = /** @type {Record<string, import("../types").ResultStats>} */ (event.procs);
    for (const [id, now] of Object.entries(procs)) {
      const proc = this.procs.get(id);
      if (!proc || proc.state !== "running") continue;
      proc.elapsed = now.elapsed;
      proc.seenMs = performance.now();
      addPoint(proc.history, [now.elapsed, now.cpu, now.rss]);
      const share = cpuShares(proc.history.slice(-2)).at(-1);
      proc.live = { cpu: now.cpu, rss: now.rss, threads: now.threads, kernel: now.state, captured: now.captured, share: share?.[1] ?? proc.live?.share ?? null };
      this.#notify("stats", { id, now });
    }
    this.#notify("agent", event.connection);
  }

  counts() {
    const counts = { all: this.procs.size, running: 0, terminated: 0, error: 0 };
    for (const proc of this.procs.values()) counts[proc.state] += 1;
    return counts;
  }

  /** Those that a filter admits, sorted. */
  filter({ text = "", state = "", labels = [], order = "newest" }) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    for (const proc of this.procs.values()) {
      if (state && proc.state !== state) continue;
      if (!words.every((word) => proc.searchText.includes(word))) continue;
      if (!labels.every(([key, value]) => Object.hasOwn(proc.labels, key) && (value === null || proc.labels[key] === value))) continue;
      found.push(proc);
    }
    const orders = {
      newest: (a, b) => b.startMs - a.startMs || b.number - a.number,
      oldest: (a, b) => a.startMs - b.startMs || a.number - b.number,
      id: (a, b) => (a.id < b.id ? -1 : 1),
      longest: (a, b) => b.age() - a.age(),
      cpu: (a, b) => (b.live?.share ?? -1) - (a.live?.share ?? -1) || (b.cpu ?? 0) - (a.cpu ?? 0) || a.number - b.number,
      memory: (a, b) => (b.live?.rss ?? b.maxrss ?? b.history.at(-1)?.[2] ?? 0) - (a.live?.rss ?? a.maxrss ?? a.history.at(-1)?.[2] ?? 0) || a.number - b.number,
    };
    return found.sort(orders[order] ?? orders.newest);
  }
}

/** `key=value` and `key`, apart by spaces or commas, as the service takes them. */
export function parseLabels(text) {
  return text.split(/[\s,]+/).filter(Boolean).map((part) => {
    const at = part.indexOf("=");
    return at < 0 ? [part, null] : [part.slice(0, at), part.slice(at + 1)];
  });
}
