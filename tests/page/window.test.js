// The window of rows: however bytes come, the rows are those of the whole.
import assert from "node:assert/strict";
import { test } from "node:test";

import { MAX_ROWS, OutputWindow, lineStart } from "../page/output-window.js";

const bytes = (text) => new TextEncoder().encode(text);
const one = { runs: (start, end) => [{ start, end, tag: null }] };
const texts = (window) => window.rows.map(({ text }) => text);

function windowOf(text, columns = 80) {
  const window = new OutputWindow();
  window.columns = columns;
  window.source = one;
  window.replace(bytes(text), 0);
  return window;
}

/** Numbers that look random, the same in each run. */
function* numbers(seed) {
  for (let n = seed; ; n = (n * 1103515245 + 12345) & 0x7fffffff) yield n;
}

test("a line that comes in parts is one row", () => {
  const window = windowOf("one\ntw");
  assert.equal(window.rows.at(-1).open, true);
  window.append(bytes("o\nthree"));
  assert.deepEqual(texts(window), ["one", "two", "three"]);
  assert.deepEqual([window.start, window.end], [0, 13]);
});

test("however output is cut into parts, its rows are those of the whole", () => {
  const whole = "α\tβ\n\u001b[31mred\u001b[0m plain\r\nprogress 1\rprogress 2\n世界 🙂 end\nlast".repeat(20);
  const expected = windowOf(whole, 9);
  const all = bytes(whole);
  const sizes = numbers(7);
  for (let round = 0; round < 50; round += 1) {
    const window = windowOf("", 9);
    for (let at = 0; at < all.length;) {
      const size = 1 + (sizes.next().value % 40);
      window.append(all.subarray(at, at + size));
      at += size;
    }
    assert.deepEqual(texts(window), texts(expected));
    assert.deepEqual(window.rows.map(({ at, end }) => [at, end]), expected.rows.map(({ at, end }) => [at, end]));
    assert.equal(window.end, all.length);
  }
});

test("rows that come before end where the window began", () => {
  const text = "first\nsecond\nthird\nfourth\n";
  const window = new OutputWindow();
  window.source = one;
  window.replace(bytes(text).subarray(13), 13);
  const rows = window.prepend(bytes(text).subarray(3, 13), 3);
  // What begins within a line is left out.
  assert.equal(rows, 1);
  assert.deepEqual(texts(window), ["second", "third", "fourth"]);
  assert.equal(window.start, 6);
  assert.equal(window.prepend(bytes(text).subarray(0, 6), 0), 1);
  assert.equal(window.start, 0);
});

test("the window is cut at the far end", () => {
  const front = windowOf("x\n".repeat(MAX_ROWS + 5));
  assert.equal(front.trimFront(), 5);
  assert.deepEqual([front.rows.length, front.start], [MAX_ROWS, 10]);
  assert.equal(front.trimFront(), 0);
  const back = windowOf("x\n".repeat(MAX_ROWS + 5));
  back.trimBack();
  assert.deepEqual([back.rows.length, back.end], [MAX_ROWS, 2 * MAX_ROWS]);
});

test("each offset has its row", () => {
  const window = windowOf("a\nbcd\ne");
  assert.deepEqual([0, 1, 2, 5, 6, 99].map((offset) => window.rowAt(offset)), [0, 0, 1, 1, 2, 2]);
  assert.equal(new OutputWindow().rowAt(0), -1);
  assert.deepEqual([window.holds(0), window.holds(6), window.holds(7)], [true, true, false]);
});

test("a line without an end is broken off, and does not grow for ever", () => {
  const window = windowOf("x".repeat(70 << 10), 2000);
  assert.equal(window.rows.at(-1).open, true);
  const parts = windowOf("", 200_000);
  for (let n = 0; n < 3; n += 1) parts.append(bytes("y".repeat(40 << 10)));
  assert.deepEqual(parts.rows.map(({ at }) => at), [0, 80 << 10]);
});

test("streams keep their styles apart", () => {
  const window = new OutputWindow();
  const text = "\u001b[31mred\nplain\nstill red\n";
  const tags = [[0, 9, "stdout"], [9, 15, "stderr"], [15, 25, "stdout"]];
  window.source = { runs: (start, end) => tags.filter(([a, b]) => a < end && b > start).map(([a, b, tag]) => ({ start: Math.max(a, start), end: Math.min(b, end), tag })) };
  window.replace(bytes(text), 0);
  assert.deepEqual(window.rows.map(({ spans, tag }) => [tag, spans[0].style.fg]), [["stdout", 1], ["stderr", null], ["stdout", 1]]);
});

test("a place within a line begins at the next one, or at a whole character", () => {
  assert.equal(lineStart(bytes("rest\nnext")), 5);
  assert.equal(lineStart(bytes("no end")), 0);
  assert.equal(lineStart(bytes("é").subarray(1)), 1);
});
