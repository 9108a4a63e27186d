"""The work of a scheduler over many connections: starts processes, requests results, waits.

Each process records its run in a file, so that a test can compare the agent's messages with it.
"""

import asyncio
from collections import Counter
import contextlib
import shlex
import time

from websockets.exceptions import ConnectionClosed

from .specs import sh
from .wait import DEADLINE


class Work:
    """`count` processes that run up to `seconds`."""

    def __init__(self, directory, count, *, seconds=1.0):
        self.runs = directory / "runs"
        self.specs = {
            f"w{n}": sh(f"echo w{n} >> {shlex.quote(str(self.runs))}; sleep {seconds * n / count:.3f}; echo w{n}; seq {n * 50}")
            for n in range(count)
        }
        # Number of requests for a result, by number of the connection.
        self._asked = {}
        self._started = {}

    def results(self, wires):
        """The first final result of each process, by ID."""
        found = {}
        for wire in wires:
            for msg in wire.messages:
                if msg["type"] == "ProcResult" and msg["res"]["state"] != "running":
                    found.setdefault(msg["proc_id"], msg["res"])
        return found

    def ran(self):
        """Number of starts of each process."""
        return Counter(self.runs.read_text().split()) if self.runs.exists() else Counter()

    async def start(self, wire, *ids):
        """Starts each process by a request of its own, and requests its result at once."""
        for proc_id in ids:
            await wire.send("ProcStartRequest", specs={proc_id: self.specs[proc_id]})
            self._started.setdefault(id(wire), []).append(proc_id)
            await self.ask(wire, proc_id)

    async def ask(self, wire, proc_id):
        """Requests a result."""
        self._asked.setdefault(id(wire), []).append(proc_id)
        await wire.send("ProcResultRequest", proc_id=proc_id)

    async def finish(self, server, *, deadline=DEADLINE):
        """Accepts connections until every process has been started and has a final result."""
        end = time.monotonic() + deadline
        current = server.wires[-1]
        while len(self.results(server.wires)) < len(self.specs):
            missing = set(self.specs) - set(self.results(server.wires))
            assert time.monotonic() < end, f"not within {deadline} s: results of {sorted(missing)}"
            if server.wires[-1] is not current:
                current = server.wires[-1]
                there = set(current.register["proc_ids"])
                with contextlib.suppress(ConnectionClosed):
                    # The requests of these starts were lost; repeat them.
                    await self.start(current, *(i for i in self.specs if i not in there))
                    for proc_id in self.specs:
                        if proc_id in there and proc_id in missing:
                            await self.ask(current, proc_id)
            await asyncio.sleep(0.01)

    async def check(self, server):
        """Checks that each process ran once and that its results are right and in order; deletes
        all."""
        assert self.ran() == Counter(list(self.specs)), "each process ran once"
        for proc_id, res in self.results(server.wires).items():
            n = int(proc_id[1:])
            text = "".join(f"{line}\n" for line in (proc_id, *range(1, n * 50 + 1)))
            assert (res["state"], res["status"]["exit_code"]) == ("terminated", 0)
            assert res["fds"]["stdout"] == {"type": "text", "text": text, "encoding": "utf-8"}, proc_id
        for wire in server.wires:
            self._check_wire(wire)
        wire = server.wires[-1]
        for proc_id in self.specs:
            await wire.send("ProcDeleteRequest", proc_id=proc_id)
        deleted = []
        while len(deleted) < len(self.specs):
            msg = await wire.next()
            if msg["type"] == "ProcDelete":
                deleted.append(msg["proc_id"])
        assert deleted == list(self.specs), "answers are in the order of their requests"
        assert await wire.barrier() == []

    def _check_wire(self, wire):
        asked, started = self._asked.get(id(wire), []), self._started.get(id(wire), [])
        results = [msg for msg in wire.messages if msg["type"] == "ProcResult"]
        counts = Counter(msg["proc_id"] for msg in results)
        for proc_id, times in counts.items():
            # Two unasked results, the first perhaps on an earlier connection, and one for each
            # request.
            own = 2 if proc_id in started else 1
            assert times <= own + asked.count(proc_id), (proc_id, times)
            states = [msg["res"]["state"] for msg in results if msg["proc_id"] == proc_id]
            assert states == sorted(states), f"{proc_id}: running after its end: {states}"
            if proc_id in started:
                assert states[0] == "running"
        assert not [msg for msg in wire.messages if msg["type"] in ("RequestError", "ProcUnknown")]
        if wire.closed.is_set():
            return
        assert all(counts[i] == 2 + asked.count(i) for i in started), "two results of each, and every answer"
