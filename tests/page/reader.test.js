// The reader and the follower, with a source and a view that only record.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ApiError } from "../page/api.js";
import { OutputFollower } from "../page/output-follower.js";
import { OutputReader } from "../page/output-reader.js";
import { Mixed, Stream } from "../page/source.js";

const bytes = (text) => new TextEncoder().encode(text);

/** A view that writes down what is asked of it. */
class FakeView {
  visible = true;
  asked = [];
  columns() { return 80; }
  replaced(where) { this.asked.push(["replaced", where.atEnd, where.offset]); }
  prepended(rows) { this.asked.push(["prepended", rows]); }
  appended(cut) { this.asked.push(["appended", cut]); }
  layOut() { this.asked.push(["layOut"]); }
  draw() { this.asked.push(["draw"]); }
  more(some) { this.asked.push(["more", new TextDecoder().decode(some)]); this.reader.window.append(some); }
}

/** A stream of which the test decides when something is read, and what. */
function stream(text, running = false) {
  const source = new Stream("p", "stdout", { state: running ? "running" : "terminated", captures: { stdout: { length: text.length, dropped: 0 } } });
  source.reads = [];
  source.read = async (start, end, signal) => {
    source.reads.push([start, end]);
    signal?.throwIfAborted();
    if (source.failure) throw source.failure;
    return bytes(text).subarray(start, Math.min(end, source.length));
  };
  source.measure = async () => {};
  return source;
}

function world(source) {
  const view = new FakeView();
  const reader = new OutputReader(view);
  const follower = new OutputFollower(reader, view);
  Object.assign(view, { reader, follower });
  reader.open(source);
  return { view, reader, follower };
}

test("a jump shows the place, and grows in both directions", async () => {
  const text = Array.from({ length: 20_000 }, (_, n) => `line ${n} ${"-".repeat(40)}\n`).join("");
  const { view, reader } = world(stream(text));
  await reader.jump(text.length / 2);
  assert.deepEqual(view.asked.pop(), ["replaced", false, text.length / 2]);
  assert.ok(reader.window.start > 0 && reader.window.end < text.length);
  const before = reader.window.rows.length;
  await reader.growFront();
  assert.equal(view.asked.at(-1)[0], "prepended");
  await reader.growBack();
  assert.deepEqual(view.asked.at(-1), ["appended", 0]);
  assert.ok(reader.window.rows.length > before);
  // Whole lines, one after the other.
  const numbers = reader.window.rows.filter(({ open }) => !open).map(({ text }) => Number(text.split(" ")[1]));
  assert.ok(numbers.every((number, n) => n === 0 || number === numbers[n - 1] + 1));
});

test("the later of two jumps is shown, and the other given up", async () => {
  const { view, reader } = world(stream("a\nb\nc\n"));
  const first = reader.jump(0);
  const { abort } = reader;
  await Promise.all([first, reader.jump(2)]);
  assert.equal(abort.signal.aborted, true);
  assert.deepEqual(view.asked, [["replaced", false, 2]]);
});

test("nothing is fetched twice at once, nor beyond an end", async () => {
  const source = stream("a\nb\n");
  const { reader } = world(source);
  await reader.jump(0);
  await Promise.all([reader.growBack(), reader.growFront()]);
  assert.equal(source.reads.length, 1);
});

test("what fails is tried again, unless it would fail again", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const source = stream("a\n");
  const { view, reader } = world(source);
  source.failure = new TypeError("fetch failed");
  await reader.jump(0);
  assert.deepEqual([reader.trouble, reader.final, reader.busy], ["the service does not answer", false, false]);
  source.failure = null;
  t.mock.timers.tick(1000);
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(view.asked.at(-1), ["replaced", false, 0]);
  assert.equal(reader.trouble, "");
  source.failure = new ApiError(404, ["unknown process p"]);
  await reader.jump(0);
  assert.deepEqual([reader.trouble, reader.final], ["unknown process p", true]);
  const reads = source.reads.length;
  t.mock.timers.tick(60_000);
  await new Promise((done) => setImmediate(done));
  assert.equal(source.reads.length, reads);
});

test("following passes on what is written, until the end", async () => {
  const source = stream("", true);
  source.follow = async (from, more) => {
    assert.equal(from, 0);
    await more(bytes("one\n"), 0);
    await more(bytes("two\n"), 4);
    source.running = false;
  };
  const { view, reader, follower } = world(source);
  follower.wanted = true;
  await reader.jump(0, { atEnd: true });
  await follower.resume();
  assert.deepEqual(view.asked.filter(([what]) => what === "more"), [["more", "one\n"], ["more", "two\n"]]);
  assert.deepEqual([follower.wanted, follower.isRunning], [false, false]);
});

test("a pause ends the request, and a second resume begins no second one", async () => {
  const source = stream("", true);
  let requests = 0;
  source.follow = (from, more, signal) => new Promise((_, fail) => {
    requests += 1;
    signal.addEventListener("abort", () => fail(signal.reason));
  });
  const { reader, follower } = world(source);
  follower.wanted = true;
  const following = follower.resume();
  await follower.resume();
  assert.deepEqual([requests, follower.isRunning], [1, true]);
  follower.pause("scroll");
  await following;
  assert.deepEqual([follower.isRunning, follower.wanted, follower.pausedBy, reader.trouble], [false, false, "scroll", ""]);
});

test("a flood is skipped: the end is shown instead of all that lies between", async () => {
  const source = stream("", true);
  source.follow = async (from, more) => { await more(new Uint8Array(9 << 20), 0); };
  source.measure = async () => source.grown(9 << 20);
  source.read = async (start, end) => new Uint8Array(end - start).fill(0x0a);
  const { view, follower } = world(source);
  follower.wanted = true;
  await follower.resume();
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(view.asked.filter(([what]) => what === "more"), []);
  assert.deepEqual(view.asked.at(-1), ["replaced", true, 9 << 20]);
});

test("several streams are asked again if there was news while they were read", async () => {
  const mixed = new Mixed("p", { state: "running", captures: {}, chunk_times: [] });
  const rounds = [];
  const { view, follower } = world(mixed);
  mixed.refresh = async () => {
    rounds.push(mixed.length);
    // News comes while the first answer is on its way.
    if (rounds.length === 1) follower.resume();
    mixed.update({ state: rounds.length < 2 ? "running" : "terminated", chunk_times: [[0, "stdout", 0, 2], [0.1, "stderr", 0, rounds.length]] });
  };
  mixed.read = async (start, end) => bytes("abcd").subarray(start, Math.min(end, mixed.length));
  follower.wanted = true;
  await follower.resume();
  assert.equal(rounds.length, 2);
  assert.equal(view.asked.filter(([what]) => what === "more").map(([, text]) => text).join(""), "abcd");
});
