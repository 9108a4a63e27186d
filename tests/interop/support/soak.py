"""Mixed work for one agent over a long time: every result is checked, and nothing accumulates.

`tests/soak` runs this module in the suite's environment; `python -m support.soak --help` lists
the options.
"""

import argparse
import asyncio
from collections import Counter, deque
import contextlib
from dataclasses import dataclass
import os
from pathlib import Path
import random
import signal
import sys
import tempfile
import time

import httpx
from websockets.exceptions import ConnectionClosed

from . import procs
from .agent import Agent, RawServer
from .http import free_port
from .specs import TRUE, argv, capture, sh, sleeper
from .survival import worker_pid
from .wait import DEADLINE, aeventually, within

MB = 1 << 20
# Growth that is allowed after the first part. Memory: allocators keep freed memory for a while.
SLACK = 6 * MB
# Seconds without progress after which an operation is stuck, disturbances included.
STUCK = 60.0


@dataclass
class Usage:
    """Resources of keeper and worker while no process runs."""

    keeper_fds: int
    agent_fds: int
    keeper_memory: int
    agent_memory: int
    files: int
    children: int

    @classmethod
    def of(cls, keeper, places):
        """Reads the resources from /proc."""
        agent = worker_pid(keeper)
        files = sum(len(names) for place in places for _, _, names in os.walk(place))
        children = len(procs.descendants(keeper))
        return cls(_fds(keeper), _fds(agent), _memory(keeper), _memory(agent), files, children)

    def grown(self, before):
        """Resources that grew by more than the slack."""
        slack = {"keeper_memory": SLACK, "agent_memory": SLACK}
        return {
            name: (getattr(before, name), value) for name, value in vars(self).items()
            if value > getattr(before, name) + slack.get(name, 0)
        }  # fmt: skip


def _fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def _memory(pid):
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


class Link:
    """The agent's current connection; passes each message to the operation that waits for its
    process."""

    def __init__(self, server):
        self.server = server
        self.wire = None
        self.changed = asyncio.Event()
        self.messages = 0
        self._boxes = {}

    async def run(self):
        """Accepts one connection after another, forever."""
        while True:
            wire = await self.server._new.get()
            # Old messages are not needed.
            wire.messages = deque(maxlen=10)
            self.server.wires.clear()
            self.wire = wire
            self.changed.set()
            self.changed = asyncio.Event()
            while (msg := await wire._queue.get()) is not None:
                self.messages += 1
                assert msg["type"] != "RequestError" or msg["err"] == "no process", msg
                box = self._boxes.get(msg.get("proc_id") or (msg.get("msg") or {}).get("proc_id"))
                if box is not None:
                    box.put_nowait(msg)

    @contextlib.contextmanager
    def box(self, *ids):
        """Collects the messages about these processes."""
        box = asyncio.Queue()
        self._boxes |= dict.fromkeys(ids, box)
        try:
            yield box
        finally:
            for proc_id in ids:
                del self._boxes[proc_id]

    async def ask(self, box, wanted, type, **fields):
        """Sends a request, again on each new connection, until a message is `wanted`; returns
        that message."""
        end = time.monotonic() + STUCK
        while True:
            assert time.monotonic() < end, f"not within {STUCK} s: an answer to {type} {fields}"
            wire, changed = self.wire, self.changed
            try:
                if wire is None:
                    raise asyncio.TimeoutError
                await wire.send(type, **fields)
                while not wire.closed.is_set():
                    with contextlib.suppress(asyncio.TimeoutError):
                        while not wanted(msg := await asyncio.wait_for(box.get(), 0.5)):
                            pass
                        return msg
                    assert time.monotonic() < end, f"not within {STUCK} s: {type} {fields}"
            except (ConnectionClosed, asyncio.TimeoutError):
                pass
            if self.wire is wire:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed.wait(), 1)


def _is_result(msg):
    return msg["type"] == "ProcResult"


def _is_final(msg):
    return msg["type"] == "ProcResult" and msg["res"]["state"] != "running"


def _is_gone(msg):
    # Unknown: the process was deleted, but the answer was lost.
    return msg["type"] in ("ProcDelete", "ProcUnknown")


def _before_execve(res):
    # On a busy machine the signal arrives before the program is executed.
    return res["state"] == "error" and [f["stage"] for f in res["failures"]] == ["killed_in_setup"]


class Soak:
    """One agent, its scheduler, and the clients that give it work."""

    def __init__(self, directory, *, seed=None):
        self.dir = Path(directory)
        self.runs = self.dir / "runs"
        self.seed = random.randrange(1 << 32) if seed is None else seed
        self.rng = random.Random(self.seed)
        self.done = Counter()
        self.reconnections = 0
        self._number = 0
        self._until = 0.0

    async def run(self, first, rest):
        """Works `first` seconds and then `rest` seconds; returns the resources after each part."""
        print(f"seed {self.seed}", flush=True)
        places = [self.dir / "captures", Path("/dev/shm") / f"procstar-{os.getuid()}"]
        places[0].mkdir()
        port = free_port()
        env = {"PROCSTAR_CAPTURE_DIR": str(places[0])}
        async with RawServer(close_timeout=1) as self.server:
            agent = Agent(self.server.port, "--serve", "--serve-port", port, env=env, level="warn")
            async with agent:
                self.link = Link(self.server)
                reader = asyncio.ensure_future(self.link.run())
                await aeventually(lambda: self.link.wire, "a connection")
                self.base = f"http://127.0.0.1:{port}"
                keeper = agent.pid
                await self._work(first)
                before = await self._look(keeper, places, None)
                await self._work(rest)
                after = await self._look(keeper, places, before)
                assert not reader.done(), reader.exception()
                reader.cancel()
                agent.signal(signal.SIGTERM)
                code, log = await agent.exit()
                assert code == 0, (code, log)
                assert "panicked" not in log, log
        ran = Counter(self.runs.read_text().split())
        assert len(ran) == ran.total(), f"ran twice: {[i for i, n in ran.items() if n > 1]}"
        return before, after

    async def _look(self, keeper, places, before):
        """Waits until everything is idle and returns the resources; with `before`, waits until
        they are no more."""
        # Other instances have memory captures of their own.
        name = next((p.name for p in places[1].glob("*") if p.name.startswith(f"{keeper}-")), None)
        looked = [places[0], places[1] / name] if name else [places[0]]
        usage = Usage.of(keeper, looked)

        def at_rest():
            nonlocal usage
            usage = Usage.of(keeper, looked)
            return usage.children == 1 and (before is None or not usage.grown(before))

        with contextlib.suppress(AssertionError):
            await aeventually(at_rest, "rest", deadline=10)
        async with httpx.AsyncClient(base_url=self.base) as http:
            assert (await http.get("/procs")).json()["data"] == {"procs": {}}, "all are deleted"
        return usage

    async def _work(self, seconds):
        self._until = time.monotonic() + seconds
        kinds = [
            self.short, self.short, self.many, self.output, self.output, self.limited, self.signaled, self.timeout, self.failing,
            self.pipe, self.by_http, self.by_http, self.output_by_http,
        ]  # fmt: skip
        limits = httpx.Limits(max_keepalive_connections=4)
        async with httpx.AsyncClient(base_url=self.base, timeout=STUCK, limits=limits) as self.http:
            disturb = asyncio.ensure_future(self._disturb())
            try:
                await asyncio.gather(*(self._worker(kind) for kind in kinds))
            finally:
                disturb.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await disturb
        # A disturbance may have been interrupted.
        if self.server._server is None:
            await self.server.start()
        await aeventually(lambda: self.link.wire and not self.link.wire.closed.is_set(), "the connection")

    async def _worker(self, kind):
        while time.monotonic() < self._until:
            await kind()
            self.done[kind.__name__] += 1

    async def _disturb(self):
        while True:
            await asyncio.sleep(self.rng.uniform(1, 5))
            self.reconnections += 1
            if self.rng.random() < 0.5:
                await within(self.link.wire.ws.close(), "a Close")
            else:
                await self.server.stop()
                await asyncio.sleep(self.rng.uniform(0, 0.5))
                await self.server.start()

    # -- kinds of work

    def _id(self):
        self._number += 1
        return f"s{self._number}"

    def _marked(self, proc_id, script, *fds, **kw):
        return sh(f"echo {proc_id} >> {self.runs}; {script}", *fds, **kw)

    async def _through(self, specs, between=None):
        """Starts processes and calls `between(box, note)`; returns the final results by ID.

        Final results are sent unasked, except after a lost connection: then this asks for them.
        """
        found = {}

        def note(msg):
            if _is_final(msg):
                assert found.setdefault(msg["proc_id"], msg["res"])["status"] == msg["res"]["status"]

        def started(msg):
            note(msg)
            return _is_result(msg)

        with self.link.box(*specs) as box:
            await self.link.ask(box, started, "ProcStartRequest", specs=specs, idempotent=True)
            wire = self.link.wire
            if between is not None:
                await between(box, note)
            end = time.monotonic() + STUCK
            while missing := [proc_id for proc_id in specs if proc_id not in found]:
                assert time.monotonic() < end, f"not within {STUCK} s: ends of {missing}"
                with contextlib.suppress(asyncio.TimeoutError):
                    note(await asyncio.wait_for(box.get(), 0.5))
                    continue
                if self.link.wire is not wire:
                    wire = self.link.wire
                    for proc_id in missing:
                        await self.link.ask(
                            box, lambda msg, i=proc_id: started(msg) and msg["proc_id"] == i, "ProcResultRequest", proc_id=proc_id
                        )
        return found

    async def _delete(self, *ids):
        for proc_id in ids:
            with self.link.box(proc_id) as box:
                await self.link.ask(box, _is_gone, "ProcDeleteRequest", proc_id=proc_id)

    async def short(self):
        """A process that exits at once."""
        proc_id = self._id()
        res = (await self._through({proc_id: self._marked(proc_id, f"echo {proc_id}; exit 3")}))[proc_id]
        assert (res["status"]["exit_code"], res["fds"]["stdout"]["text"]) == (3, f"{proc_id}\n"), res
        await self._delete(proc_id)

    async def many(self):
        """30 processes in one request."""
        specs = {proc_id: argv(TRUE, fds=[["stdout", capture("tempfile")]]) for proc_id in (self._id() for _ in range(30))}
        results = await self._through(specs)
        assert all(res["status"]["exit_code"] == 0 and res["fds"]["stdout"]["text"] == "" for res in results.values())
        await self._delete(*specs)

    async def output(self):
        """A large output, read by range."""
        proc_id, last = self._id(), self.rng.randrange(1, 100_000)
        out = capture(self.rng.choice(("memory", "tempfile")), attached=False)
        spec = self._marked(proc_id, f"seq {last}", ("stdout", out))
        res = (await self._through({proc_id: spec}))[proc_id]
        want = "".join(f"{n}\n" for n in range(1, last + 1)).encode()
        assert res["fds"]["stdout"]["length"] == len(want)
        start = self.rng.randrange(len(want))
        stop = self.rng.randrange(start, len(want) + 1)
        with self.link.box(proc_id) as box:
            msg = await self.link.ask(
                box, lambda m: m["type"] == "ProcFdData", "ProcFdDataRequest", proc_id=proc_id, fd="stdout", start=start, stop=stop
            )
        assert msg["data"] == want[start:stop], (proc_id, start, stop)
        await self._delete(proc_id)

    async def limited(self):
        """More output than is kept, compressed."""
        proc_id = self._id()
        limited = {"capture": {"mode": "memory", "encoding": "utf-8", "keep": {"head": 100, "tail": 200}}}
        packed = {"capture": {"mode": "memory", "encoding": "utf-8", "compress": "zstd"}}
        spec = self._marked(proc_id, "seq 30000; seq 5000 >&2", ("stdout", limited), ("stderr", packed))
        res = (await self._through({proc_id: spec}))[proc_id]
        kept = res["captures"]["stdout"]
        assert (kept["length"], kept["length"] + kept["dropped"]) == (300, 168_894), kept
        assert res["captures"]["stderr"]["complete"] is True, res["captures"]
        await self._delete(proc_id)

    async def signaled(self):
        """A long process, ended by a signal."""
        proc_id, signum = self._id(), self.rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2, 40))

        async def kill(box, note):
            await asyncio.sleep(self.rng.uniform(0, 2))
            # The signal may be lost with a connection, and so may the end on the next one, after
            # which the
            # process is unknown.
            end = time.monotonic() + STUCK
            while time.monotonic() < end:
                wire = self.link.wire
                with contextlib.suppress(ConnectionClosed, asyncio.TimeoutError):
                    await wire.send("ProcSignalRequest", proc_id=proc_id, signum=int(signum))
                    while True:
                        msg = await asyncio.wait_for(box.get(), 1)
                        if msg["type"] == "RequestError" or _is_final(msg):
                            return note(msg)
                await asyncio.sleep(0.05)
            raise AssertionError(f"{proc_id}: not ended by signal {signum} within {STUCK} s")

        res = (await self._through({proc_id: sleeper()}, kill))[proc_id]
        assert (res["status"]["signum"], res["reason"]) == (int(signum), "signaled") or _before_execve(res), res
        await self._delete(proc_id)

    async def timeout(self):
        """A process that exceeds its timeout."""
        proc_id = self._id()
        res = (await self._through({proc_id: sleeper() | {"timeout": self.rng.uniform(0.05, 1)}}))[proc_id]
        assert res["reason"] == "timeout" and (res["status"]["signum"] == signal.SIGTERM or _before_execve(res)), res
        await self._delete(proc_id)

    async def failing(self):
        """A process that cannot be started, and one of the same request that can."""
        bad, good = self._id(), self._id()
        results = await self._through({bad: argv("/no/such/program", fds=[["stdout", capture()]]), good: argv(TRUE)})
        assert results[bad]["state"] == "error" and results[bad]["status"]["exit_code"] == 127
        assert results[good]["status"]["exit_code"] == 0
        await self._delete(bad, good)

    async def pipe(self):
        """Two processes that are joined by a pipe."""
        writer, reader = self._id(), self._id()
        results = await self._through({
            writer: sh("seq 20000", ("stdout", "pipe-write")),
            reader: sh("wc -l", ("stdin", {"pipe-read": {"proc_id": writer, "fd": "stdout"}}), ("stdout", capture())),
        })  # fmt: skip
        assert results[reader]["fds"]["stdout"]["text"].strip() == "20000"
        await self._delete(writer, reader)

    async def _http_result(self, proc_id, **params):
        end = time.monotonic() + STUCK
        while time.monotonic() < end:
            rsp = await self.http.get(f"/procs/{proc_id}", params=params)
            assert rsp.status_code == 200, rsp.text
            (res,) = rsp.json()["data"]["procs"].values()
            if res["state"] != "running":
                return res
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {STUCK} s: end of {proc_id}")

    async def by_http(self):
        """Short processes by HTTP."""
        ids = [self._id() for _ in range(3)]
        specs = {proc_id: self._marked(proc_id, f"sleep 0.0{self.rng.randrange(10)}; echo {proc_id}") for proc_id in ids}
        rsp = await self.http.post("/procs", json={"specs": specs})
        assert rsp.status_code == 200, rsp.text
        for proc_id in ids:
            res = await self._http_result(proc_id)
            assert (res["status"]["exit_code"], res["fds"]["stdout"]["text"]) == (0, f"{proc_id}\n"), res
            rsp = await self.http.delete(f"/procs/{proc_id}")
            assert rsp.status_code == 200, rsp.text

    async def output_by_http(self):
        """Output by HTTP: whole, compressed in transit, and a part."""
        proc_id, last = self._id(), self.rng.randrange(1, 50_000)
        spec = self._marked(proc_id, f"seq {last}", ("stdout", capture("tempfile")))
        assert (await self.http.post("/procs", json={"specs": {proc_id: spec}})).status_code == 200
        await self._http_result(proc_id)
        want = "".join(f"{n}\n" for n in range(1, last + 1)).encode()
        path = f"/procs/{proc_id}/output/stdout/data"
        assert (await self.http.get(path)).content == want
        rsp = await self.http.get(path, headers={"range": "bytes=1-50"})
        assert (rsp.status_code, rsp.content) == (206, want[1:51]) or last == 1
        assert (await self.http.delete(f"/procs/{proc_id}")).status_code == 200


def report(soak, before, after):
    """Text that describes a run."""
    rows = [("", "after the first part", "at the end")]
    for name, value in vars(after).items():
        first = getattr(before, name)
        if name.endswith("memory"):
            first, value = f"{first / MB:.1f} MiB", f"{value / MB:.1f} MiB"
        rows.append((name.replace("_", " "), first, value))
    table = "\n".join(f"{a:16} {b!s:>22} {c!s:>14}" for a, b, c in rows)
    done = ", ".join(f"{n} {kind}" for kind, n in sorted(soak.done.items()))
    return f"{soak._number} processes ({done})\n{soak.link.messages} messages, {soak.reconnections} reconnections\n{table}"


def main():
    """Runs the module alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--first", type=float, default=60, help="seconds of the first part")
    parser.add_argument("--seed", type=int)
    args = parser.parse_args()
    procs.become_subreaper()
    with tempfile.TemporaryDirectory() as directory:
        soak = Soak(directory, seed=args.seed)
        before, after = asyncio.run(soak.run(args.first, args.minutes * 60 - args.first))
    print(report(soak, before, after))
    if grown := after.grown(before):
        sys.exit(f"soak: grown: {grown}")
    print("soak: every result was right, and nothing has grown")


if __name__ == "__main__":
    main()
