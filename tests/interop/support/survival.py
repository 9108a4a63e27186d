"""The survival test: processes run, and results are exact, while the worker is killed at random.

The processes are the reference (`support/worker.py`): each records its output and its end. The
other end is the server of the Python package. `tests/reconnect` runs this module in the suite's
environment; `python -m support.survival --help` lists the options.
"""

import argparse
import asyncio
import base64
from collections import Counter
import contextlib
from dataclasses import dataclass, field
import hashlib
import json
import logging
import os
from pathlib import Path
import random
import signal
import statistics
import sys
import tempfile
import time

from procstar import proto
from procstar.agent.server import Server
from procstar.lib.py import Interval
from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH

from . import procs
from .agent import TOKEN, Agent
from .http import free_port
from .shapes import captured, check_result
from .specs import capture
from .wait import DEADLINE, aeventually

WORKER = Path(__file__).with_name("worker.py")
# An answer that is later than this was requested from a worker, or by a scheduler, that no longer
# exists.
PATIENCE = 1.5
# Period of repetition of a request.
STUBBORN = 120.0
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGUSR2, signal.SIGRTMIN + 3]


def worker_pid(keeper):
    """Pid of the worker, or None between two workers."""
    for child in _children(keeper):
        try:
            if Path(f"/proc/{child}/comm").read_bytes() == b"procstar-worker\n" and procs.is_alive(child):
                return child
        except (FileNotFoundError, ProcessLookupError):
            pass
    return None


def _children(pid):
    # The keeper's first thread starts the worker.
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def kill(pid, signum):
    """Sends a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def kill_instance(keeper):
    """Kills the keeper and its worker, which cannot become the keeper meanwhile."""
    worker = worker_pid(keeper)
    if worker is not None:
        kill(worker, signal.SIGSTOP)
    kill(keeper, signal.SIGKILL)
    if worker is not None:
        kill(worker, signal.SIGKILL)


class Listener:
    """The package's server, which can be replaced by a new one at the same port, as by a restart.

    It records every message that it gets.
    """

    def __init__(self):
        self.port = free_port()
        self.server = None
        self.messages = {}
        self.registrations = 0
        self.sent = 0
        self._websockets = None

    async def start(self):
        """A new server without memory listens."""
        self.server = Server()
        deliver = self.server.processes.on_message

        def note(conn, msg):
            proc_id = getattr(msg, "proc_id", None)
            if isinstance(msg, proto.RequestError):
                for proc_id in msg.msg.get("specs") or [msg.msg.get("proc_id")]:
                    self.messages.setdefault(proc_id, []).append(msg)
            elif proc_id is not None:
                self.messages.setdefault(proc_id, []).append(msg)
            deliver(conn, msg)

        self.server.processes.on_message = note
        add = self.server.connections._add

        def count(*args):
            self.registrations += 1
            return add(*args)

        self.server.connections._add = count
        self._websockets = await self.server.run(
            host="127.0.0.1", port=self.port, tls_cert=(TLS_CERT_PATH, TLS_KEY_PATH), access_token=TOKEN
        )

    async def stop(self):
        """Closes all connections and stops listening."""
        if self._websockets is not None:
            websockets, self._websockets = self._websockets, None
            websockets.close()
            await asyncio.wait_for(websockets.wait_closed(), DEADLINE)

    @property
    def connection(self):
        """The agent's open connection, or None."""
        return next((c for c in self.server.connections.values() if c.open), None)

    async def send(self, message):
        """Sends a request; returns false if there is no connection."""
        if (conn := self.connection) is None:
            return False
        self.sent += 1
        try:
            await conn.send(message)
        # The package raises various errors if the connection is being lost.
        except Exception:  # noqa: BLE001
            return False
        return True

    async def ask(self, proc_id, request, answer, what):
        """Repeats a request until `answer(message)` of a later message is truthy; returns that
        value."""
        end = time.monotonic() + STUBBORN
        while time.monotonic() < end:
            seen = len(self.messages.get(proc_id, ()))
            if not await self.send(request):
                await asyncio.sleep(0.02)
                continue
            again = time.monotonic() + PATIENCE
            while time.monotonic() < again:
                for message in self.messages.get(proc_id, ())[seen:]:
                    if (value := answer(message)) is not None:
                        return value
                seen = len(self.messages.get(proc_id, ()))
                await asyncio.sleep(0.01)
        raise AssertionError(f"{proc_id}: not within {STUBBORN} s: {what}")

    def results(self, proc_id):
        """All results of a process in the order of their arrival."""
        return [m.res for m in self.messages.get(proc_id, ()) if isinstance(m, proto.ProcResult)]


@dataclass
class Figures:
    """Statistics of a run."""

    processes: int = 0
    kills: int = 0
    stops: int = 0
    restarts: int = 0
    upgrades: int = 0
    output: int = 0
    starts_sent_again: int = 0
    deleted_again: int = 0
    seconds: float = 0.0
    # Seconds from the end of a worker to the next registration: of those that lived a second, and
    # of all.
    settled: list = field(default_factory=list)
    young: list = field(default_factory=list)
    ends: Counter = field(default_factory=Counter)

    def __str__(self):
        def times(values):
            if not values:
                return "none"
            tail = sorted(values)[int(len(values) * 0.95) - 1 if len(values) > 1 else 0]
            return f"median {statistics.median(values):.3f} s, 95 % {tail:.3f} s, most {max(values):.3f} s ({len(values)})"

        return "\n".join([
            f"processes            {self.processes} ({', '.join(f'{n} by {e}' for e, n in sorted(self.ends.items()))})",
            f"output               {self.output:,} bytes, every hash as recorded",
            f"worker killed        {self.kills} times; stopped {self.stops} times; server restarted {self.restarts} times",
            f"upgraded in place    {self.upgrades} times",
            f"registered again     {times(self.settled)} after the death of a worker of 1 s or more",
            f"                     {times(self.young)} after the death of a younger one",
            f"requests sent again  {self.starts_sent_again} starts, {self.deleted_again} deletions",
            f"time                 {self.seconds:.1f} s",
        ])  # fmt: skip


class Loop:
    """One run: processes, and disturbances beside them."""

    def __init__(self, directory, *, processes, kills, stops=0, restarts=0, upgrades=0, seed=None, spread=None, args=()):
        self.dir = Path(directory)
        self.seed = random.randrange(1 << 32) if seed is None else seed
        self.rng = random.Random(self.seed)
        self.figures = Figures(processes=processes, kills=kills, stops=stops, restarts=restarts, upgrades=upgrades)
        # The starts are spread over about the time of the disturbances.
        self.spread = kills * 1.4 + stops + restarts + upgrades if spread is None else spread
        self.args = args
        self.listener = Listener()
        self.agent = None

    async def run(self):
        """Runs it and returns the statistics."""
        began = time.monotonic()
        print(f"seed {self.seed}", flush=True)
        await self.listener.start()
        try:
            async with Agent(self.listener.port, *self.args) as self.agent:
                await self._registered(0)
                tasks = [asyncio.ensure_future(self._process(n)) for n in range(self.figures.processes)]
                tasks.append(asyncio.ensure_future(self._disturb()))
                try:
                    await asyncio.gather(*tasks)
                finally:
                    for task in tasks:
                        task.cancel()
                await self._delete_rest()
                await self._end()
        finally:
            await self.listener.stop()
        self.figures.seconds = time.monotonic() - began
        return self.figures

    # -- disturbances

    async def _disturb(self):
        figures = self.figures
        todo = ["kill"] * figures.kills + ["stop"] * figures.stops + ["restart"] * figures.restarts
        todo += ["upgrade"] * figures.upgrades
        self.rng.shuffle(todo)
        for what in todo:
            # Sometimes at once: the agent may not have registered, or not even started.
            await asyncio.sleep(self.rng.choice((0, self.rng.uniform(0, 0.3), *[self.rng.uniform(0, 2.4)] * 3)))
            if self.rng.random() < 0.5:
                await self._amid_a_request()
            await getattr(self, "_" + what)()

    async def _amid_a_request(self):
        """Waits until the worker handles a request: the moments that matter take a few
        milliseconds."""
        before = self.listener.sent
        with contextlib.suppress(AssertionError):
            await aeventually(lambda: self.listener.sent > before, "a request", deadline=1)
        await asyncio.sleep(self.rng.uniform(0, 0.004))

    async def _kill(self):
        pid = await aeventually(lambda: worker_pid(self.agent.pid), "a worker", deadline=DEADLINE)
        before = self.listener.registrations
        settled = self.listener.connection is not None and age(pid) >= 1
        kill(pid, signal.SIGKILL)
        died = time.monotonic()
        # Half of the time, wait for the registration; otherwise the next kill may hit a worker
        # before it.
        if settled or self.rng.random() < 0.7:
            await self._registered(before)
            (self.figures.settled if settled else self.figures.young).append(time.monotonic() - died)

    async def _stop(self):
        pid = await aeventually(lambda: worker_pid(self.agent.pid), "a worker", deadline=DEADLINE)
        kill(pid, signal.SIGSTOP)
        await asyncio.sleep(self.rng.uniform(0.05, 1.5))
        kill(pid, signal.SIGCONT)

    async def _upgrade(self):
        kill(self.agent.pid, signal.SIGHUP)

    async def _restart(self):
        await self.listener.stop()
        await asyncio.sleep(self.rng.uniform(0, 0.5))
        await self.listener.start()

    async def _registered(self, before):
        await aeventually(lambda: self.listener.registrations > before, "registration", deadline=2 * DEADLINE)

    # -- one process

    def _plan(self, n):
        rng = random.Random(f"{self.seed} {n}")
        kinds, limits, fds = {}, {}, [["stdin", {"null": {}}]]
        for fd, name in (("1", "stdout"), ("2", "stderr")):
            kinds[fd] = rng.choice(("text", "binary"))
            large = rng.random() < 0.25
            limits[fd] = rng.randrange(200_000, 4_000_000) if large else rng.choice((0, 1, rng.randrange(30_000)))
            encoding = "utf-8" if kinds[fd] == "text" else None
            fds.append([name, capture(rng.choice(("memory", "tempfile")), encoding, attached=not large)])
        end = ["exit", rng.choice((0, 0, 0, 1, 7, 255))] if rng.random() < 0.7 else ["signal", int(rng.choice(SIGNALS))]
        plan = {
            "seed": rng.randrange(1 << 32),
            "kinds": kinds,
            "bytes": limits,
            "seconds": rng.choice((0, rng.uniform(0, 1), rng.uniform(0, 8))),
            "burn": rng.choice((0, 0, 0.1, 0.3)),
            "end": end,
        }
        return plan, fds, rng.uniform(0, self.spread)

    async def _process(self, n):
        proc_id = f"p{n}"
        plan, fds, delay = self._plan(n)
        await asyncio.sleep(delay)
        argv = [sys.executable, "-I", "-S", str(WORKER), str(self.dir), proc_id, json.dumps(plan)]
        await self._start(proc_id, {"argv": argv, "fds": fds})
        res = self._final(proc_id)
        while res is None:
            # The result is sent unasked, except to a restarted scheduler or by a worker that was
            # killed.
            with contextlib.suppress(AssertionError):
                await aeventually(lambda: self._final(proc_id), "end", deadline=PATIENCE)
            if (res := self._final(proc_id)) is None:
                await self.listener.send(proto.ProcResultRequest(proc_id))
        record = json.loads((self.dir / f"{proc_id}.json").read_text())
        self._check_result(proc_id, res, record)
        for fd, name in (("1", "stdout"), ("2", "stderr")):
            data = await self._output(proc_id, name, record["length"][fd])
            assert hashlib.sha256(data).hexdigest() == record["sha256"][fd], (proc_id, name, len(data), record)
            self.figures.output += len(data)
        self._check_history(proc_id)
        self.figures.ends["signals" if plan["end"][0] == "signal" else "exit"] += 1
        await self._delete(proc_id)

    async def _start(self, proc_id, spec):
        request = proto.ProcStartRequest(specs={proc_id: spec})
        end = time.monotonic() + STUBBORN
        sent = 0
        while not self.listener.results(proc_id):
            assert time.monotonic() < end, f"{proc_id}: not started"
            if not await self.listener.send(request):
                await asyncio.sleep(0.02)
                continue
            sent += 1
            # The answer, or a refusal because the ID is in use, or nothing: then ask whether the
            # agent has it.
            with contextlib.suppress(AssertionError):
                await aeventually(lambda: self.listener.results(proc_id), "start", deadline=PATIENCE)
            while not self.listener.results(proc_id):
                if await self._is_known(proc_id) is False:
                    break
        self.figures.starts_sent_again += max(sent - 1, 0)

    async def _is_known(self, proc_id):
        def answer(message):
            if isinstance(message, proto.ProcUnknown):
                return False
            return True if isinstance(message, proto.ProcResult) else None

        # An agent reports an unknown ID once in a connection, and the package's server must have
        # the ID
        # from a registration or a request.
        conn = self.listener.connection
        seen = len(self.listener.messages.get(proc_id, ()))
        if conn is None or not await self.listener.send(proto.ProcidListRequest()):
            await asyncio.sleep(0.02)
            return None
        if proc_id not in self.listener.server.processes:
            # Asks for nothing: an unexpected answer would make the package drop the connection.
            with contextlib.suppress(AssertionError):
                await aeventually(lambda: proc_id in self.listener.server.processes, "list", deadline=PATIENCE)
            if proc_id not in self.listener.server.processes:
                return False
        if not await self.listener.send(proto.ProcResultRequest(proc_id)):
            return None
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for message in self.listener.messages.get(proc_id, ())[seen:]:
                if (known := answer(message)) is not None:
                    return known
            await asyncio.sleep(0.01)
        return None

    def _final(self, proc_id):
        return next((r for r in self.listener.results(proc_id) if r["state"] != "running"), None)

    async def _output(self, proc_id, fd, length):
        """Reads the whole output by ranges, which any worker can answer at any time."""
        data = b""
        while len(data) < length or length == 0:
            start = len(data)
            stop = start + self.rng.choice((50_000, 1_000_000))

            def answer(msg, start=start):
                ours = isinstance(msg, proto.ProcFdData) and (msg.fd, msg.start) == (fd, start)
                return msg.data if ours else None

            request = proto.ProcFdDataRequest(proc_id=proc_id, fd=fd, start=start, stop=stop)
            piece = await self.listener.ask(proc_id, request, answer, f"{fd} from {start}")
            data += piece
            if not piece:
                break
        return data

    async def _delete(self, proc_id):
        def gone(message):
            return True if isinstance(message, (proto.ProcDelete, proto.ProcUnknown)) else None

        request = proto.ProcDeleteRequest(proc_id)
        end = time.monotonic() + STUBBORN
        while time.monotonic() < end:
            seen = len(self.listener.messages[proc_id])
            if proc_id not in self.listener.server.processes:
                if any(map(gone, self.listener.messages[proc_id])) or await self._is_known(proc_id) is False:
                    return
                continue
            await self.listener.send(request)
            with contextlib.suppress(AssertionError):
                await aeventually(lambda: any(map(gone, self.listener.messages[proc_id][seen:])), "deletion", deadline=PATIENCE)
                return
        raise AssertionError(f"{proc_id}: not deleted")

    async def _delete_rest(self):
        """A deletion that was reported just when the worker died may not have reached the
        keeper."""
        await aeventually(lambda: self.listener.connection, "connection")
        while True:
            await self.listener.send(proto.ProcidListRequest())
            left = [i for i in self.listener.server.processes if i in self.listener.messages]
            if not left:
                return
            self.figures.deleted_again += len(left)
            for proc_id in left:
                await self._delete(proc_id)

    async def _end(self):
        """The agent drains and leaves no process behind."""
        keeper, worker = self.agent.pid, worker_pid(self.agent.pid)
        self.agent.signal(signal.SIGUSR1)
        code, _ = await self.agent.exit()
        assert code == 0, code
        assert not procs.is_alive(keeper) and not procs.is_alive(worker)

    # -- what must hold

    def _check_result(self, proc_id, res, record):
        check_result({k: v for k, v in res.items() if k != "procstar"})
        assert (res["state"], res["errors"]) == ("terminated", []), (proc_id, res["state"], res["errors"])
        status = res["status"]
        how, number = record["end"]
        wanted = (number, None) if how == "exit" else (None, number)
        assert (status["exit_code"], status["signum"]) == wanted, (proc_id, status, record)
        # The process measured itself a moment before its end.
        rusage = res["rusage"]
        cpu = rusage["utime"] + rusage["stime"]
        assert record["cpu"] - 0.02 <= cpu <= record["cpu"] + 1, (proc_id, cpu, record)
        assert cpu > 0
        assert record["minflt"] <= rusage["minflt"], (proc_id, rusage, record)
        # Null if the keeper may have used as much memory when it started the process.
        if rusage["maxrss"] is not None:
            assert record["maxrss"] <= rusage["maxrss"] <= record["maxrss"] * 1.5, (proc_id, rusage, record)
        for fd, name in (("1", "stdout"), ("2", "stderr")):
            entry = res["fds"][name]
            if entry["type"] == "detached":
                assert entry["length"] == record["length"][fd], (proc_id, entry, record)
            else:
                assert hashlib.sha256(captured(res, name)).hexdigest() == record["sha256"][fd], (proc_id, name)

    def _check_history(self, proc_id):
        """The process was started once, and all messages about it agree."""
        runs = (self.dir / f"{proc_id}.runs").read_text().split()
        assert len(runs) == 1, (proc_id, "started more than once", runs)
        results = self.listener.results(proc_id)
        assert {r["pid"] for r in results} == {int(runs[0])}, (proc_id, runs)
        states = [r["state"] for r in results]
        assert states == sorted(states), (proc_id, states)
        final = {json.dumps(_fixed(r), sort_keys=True) for r in results if r["state"] != "running"}
        assert len(final) == 1, (proc_id, final)
        assert len({r["times"]["start"] for r in results}) == 1, proc_id


def _fixed(res):
    """The part of a final result that never changes."""
    fixed = {k: v for k, v in res.items() if k != "procstar"}
    return fixed | {"times": {k: v for k, v in fixed["times"].items() if k != "now"}}


def age(pid):
    """Seconds since the start of a process; 0 if it does not exist."""
    try:
        start = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - start / os.sysconf("SC_CLK_TCK")


async def at_rest(seconds=3.0):
    """Returns resident memory in bytes and wake-ups of keeper and worker while idle."""
    listener = Listener()
    await listener.start()
    async with Agent(listener.port) as agent:
        await aeventually(lambda: listener.connection, "registration")
        pids = {"keeper": agent.pid, "worker": worker_pid(agent.pid)}
        await asyncio.sleep(seconds / 3)
        before = {name: switches(pid) for name, pid in pids.items()}
        await asyncio.sleep(seconds)
        found = {name: (resident(pid), switches(pid) - before[name]) for name, pid in pids.items()}
    await listener.stop()
    return found


def resident(pid):
    """Resident memory: total, anonymous and of files."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon", "RssFile")}


def switches(pid):
    """Number of voluntary context switches of all threads."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            text = Path(f"/proc/{pid}/task/{task}/status").read_text()
            total += int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def print_rest(found):
    """Prints the figures of `at_rest`."""
    for name, (memory, woken) in found.items():
        sizes = ", ".join(f"{k} {v / 1e6:.1f} MB" for k, v in memory.items())
        print(f"{name:20} {sizes}; {woken} voluntary switches in 3 s of rest")
    print(f"{'together':20} {sum(m['VmRSS'] for m, _ in found.values()) / 1e6:.1f} MB resident")


def main():
    """Parses the command line and runs the test."""
    parser = argparse.ArgumentParser(prog="tests/reconnect", description="Kills workers while processes run, and compares.")
    parser.add_argument("--processes", type=int, default=200)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stops", type=int, default=20, help="number of suspensions of the worker")
    parser.add_argument("--restarts", type=int, default=10, help="number of restarts of the server")
    parser.add_argument("--upgrades", type=int, default=20, help="number of upgrades in place, by SIGHUP")
    parser.add_argument("--seed", type=int)
    args = vars(parser.parse_args())
    # The package warns of each lost connection, and this test loses many.
    logging.disable(logging.WARNING)
    procs.become_subreaper()
    for name in [n for n in os.environ if n.startswith("PROCSTAR_")]:
        del os.environ[name]

    async def run():
        with tempfile.TemporaryDirectory() as directory:
            print(await Loop(directory, **args).run())
        print_rest(await at_rest())

    asyncio.run(run())
    assert not procs.descendants(), procs.descendants()


if __name__ == "__main__":
    main()
