// Rows of text, searching, formats and the store.
import assert from "node:assert/strict";
import { test } from "node:test";

import * as format from "../page/format.js";
import { isExact, search } from "../page/search.js";
import { Mixed, streams } from "../page/source.js";
import { Store, addPoint, cpuShares, parseLabels } from "../page/store.js";
import { graphics, rowsOf } from "../page/text.js";

const bytes = (text) => new TextEncoder().encode(text);
// The store draws once a frame; here there are none.
globalThis.requestAnimationFrame ??= () => 1;

test("bytes become rows, broken where they are too long", () => {
  const { rows } = rowsOf(bytes("abcdef\nx\ty\r\n"), 100, null, 4);
  assert.deepEqual(rows.map(({ text, at, end, broken }) => [text, at, end, broken]), [
    ["abcd", 100, 104, true], ["ef", 104, 107, false], ["x", 107, 108, true], ["\t", 108, 109, true], ["y", 109, 112, false],
  ]);
});

test("controls, bad UTF-8 and turned text are shown, not done", () => {
  const { rows } = rowsOf(Uint8Array.of(0x07, 0xff, 0xe2, 0x80, 0xae, 0x0a), 0, null, 80);
  assert.equal(rows[0].text, "␇\ufffd<U+202E>");
});

test("a carriage return overwrites what comes before it", () => {
  const { rows } = rowsOf(bytes("10 %\r20 %\n"), 0, null, 80);
  assert.equal(rows[0].text, "20 %");
});

test("colours of terminals", () => {
  const plain = graphics({ fg: null, bg: null, flags: 0 }, "0");
  assert.deepEqual([graphics(plain, "1;31").fg, graphics(plain, "1;31").flags], [1, 1]);
  assert.equal(graphics(plain, "38;5;196").fg, "rgb(255,0,0)");
  assert.equal(graphics(plain, "38;2;1;2;3").fg, "rgb(1,2,3)");
  assert.equal(graphics(graphics(plain, "31"), "39").fg, null);
});

function sourceOf(text) {
  const all = bytes(text);
  return { length: all.length, read: async (start, end) => all.subarray(start, end) };
}

test("a search finds the next match in either direction, and none beyond the ends", async () => {
  const source = sourceOf("Error one\nerror two\nERROR");
  const none = () => {};
  assert.equal(await search(source, "error", 0, false, none), 0);
  assert.equal(await search(source, "error", 1, false, none), 10);
  assert.equal(await search(source, "ERROR", 0, false, none), 20);
  assert.equal(await search(source, "error", 20, true, none), 10);
  assert.equal(await search(source, "missing", 0, false, none), null);
  assert.deepEqual([isExact("error"), isExact("Error")], [false, true]);
});

test("a match may lie across two blocks", async () => {
  const source = sourceOf(`${"x".repeat((4 << 20) - 2)}needle`);
  assert.equal(await search(source, "needle", 0, false, () => {}), (4 << 20) - 2);
  assert.equal(await search(source, "needle", source.length, true, () => {}), (4 << 20) - 2);
});

test("sizes, times and shares", () => {
  assert.deepEqual([0, 999, 1000, 12_345, 9_990_000, null].map(format.bytes), ["0 B", "999 B", "1.00 KB", "12.3 KB", "9.99 MB", "–"]);
  assert.deepEqual([0.25, 9.5, 75, 3600, 90_061, null].map(format.duration), ["250 ms", "9.5 s", "1 min 15 s", "1 h", "1 d 1 h", "–"]);
  assert.deepEqual([3.14, 99.6, null].map(format.percent), ["3.1 %", "100 %", "–"]);
});

test("states in words", () => {
  const of = (record) => format.state({ errors: [], ...record }).text;
  assert.equal(of({ state: "running", live: { kernel: "T" } }), "suspended");
  assert.equal(of({ state: "error", reason: "lost" }), "lost");
  assert.equal(of({ state: "terminated", reason: "timeout", status: { signal: "SIGTERM" } }), "timeout, SIGTERM");
  assert.deepEqual(format.state({ state: "terminated", status: { exit_code: 0 } }), { kind: "ok", text: "exit 0" });
});

test("pieces of several streams are one text in the order in which they were read", async () => {
  const mixed = new Mixed("p", { state: "terminated", captures: {}, chunk_times: [[0, "stdout", 0, 3], [1, "stderr", 0, 2], [2, "stdout", 3, 4]] });
  assert.equal(mixed.length, 9);
  assert.deepEqual(mixed.runs(1, 8), [{ start: 1, end: 3, tag: "stdout" }, { start: 3, end: 5, tag: "stderr" }, { start: 5, end: 8, tag: "stdout" }]);
  assert.deepEqual([mixed.time(0), mixed.time(4), mixed.time(8)], [0, 1, 2]);
  assert.deepEqual(mixed.missing({ stdout: { length: 7 }, "3": { length: 1 } }), ["3"]);
});

test("streams can be shown together if each has its pieces whole", () => {
  const capture = { length: 1, dropped: 0, compression: null };
  const both = { stdout: capture, stderr: capture };
  assert.equal(streams({ captures: both, chunk_times: [] }).mixed, true);
  assert.equal(streams({ captures: both, chunk_times: null }).mixed, false);
  assert.equal(streams({ captures: { stdout: capture }, chunk_times: [] }).mixed, false);
  assert.equal(streams({ captures: { ...both, stderr: { ...capture, dropped: 4 } }, chunk_times: [] }).mixed, false);
});

test("a history spans the whole life with a bounded number of points", () => {
  const history = [];
  for (let n = 0; n < 10_000; n += 1) addPoint(history, [n, n / 2, 1]);
  assert.ok(history.length <= 240);
  assert.deepEqual([history[0][0], history.at(-1)[0]], [0, 9999]);
  assert.ok(cpuShares(history).every(([, share]) => Math.abs(share - 50) < 1e-6));
});

const summary = (more) => ({ state: "running", reason: null, errors: [], pid: 7, status: null, labels: {}, command: "sleep 1", cpu: 0, maxrss: null,
  times: { start: "2026-01-01T00:00:00Z", stop: null, elapsed: 1 }, history: [], ...more });

test("the store follows snapshots and events, and filters", () => {
  const store = new Store();
  const live = new EventTarget();
  store.listen(live);
  const reported = [];
  store.addEventListener("proc", ({ detail }) => reported.push([detail.id, detail.what]));
  const send = (kind, detail) => live.dispatchEvent(new CustomEvent(kind, { detail }));
  send("snapshot", { procs: [["a", summary({ labels: { job: "x" } })], ["b", summary({})]], shutdown: "active" });
  send("event", { event: "ended", id: "a", result: summary({ state: "terminated", status: { exit_code: 1 }, labels: { job: "x" } }) });
  send("event", { event: "deleted", id: "b" });
  assert.deepEqual(reported, [["a", "ended"], ["b", "deleted"]]);
  assert.deepEqual(store.counts(), { all: 1, running: 0, terminated: 1, error: 0 });
  assert.deepEqual(store.filter({ labels: parseLabels("job=x") }).map(({ id }) => id), ["a"]);
  assert.deepEqual(store.filter({ text: "SLEEP" }).length, 1);
  assert.deepEqual(store.filter({ labels: parseLabels("job=y") }), []);
});
