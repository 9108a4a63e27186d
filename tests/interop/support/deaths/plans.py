"""The processes of a run: random short, medium and long ones, with every kind of capture.

Each process records its end just before it: `DIR/ID.runs` has a line for each start, and
`DIR/ID.done` or `DIR/ID.json` appears when all is written.
"""

from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
import random
import signal
import sys

from .. import worker

SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGUSR2, signal.SIGRTMIN + 3]
# A shell, because it starts and ends ten times as fast as Python. SIGPIPE kills it.
SHORT = (
    'ulimit -c 0; echo $$ >> "$1.runs"; {sleep}; '
    'printf %s "$2"; printf %s "$3" >&2; : > "$1.done"; {end}; while :; do sleep 1; done'
)
# Captures by relative frequency.
CAPTURES = {"tempfile": 6, "memory": 6, "chunk times": 4, "keep": 4, "compress": 1, "named": 2, "named keep": 1}
# The engine reads these from a pipe, which breaks if keeper and worker are killed.
THROUGH_KEEPER = ("memory", "chunk times", "keep")


@dataclass
class Stream:
    """A captured output of a process."""

    capture: str
    spec: dict
    # Sizes of the kept ends, or None.
    keep: tuple | None = None
    # The file that the spec names, or None.
    path: Path | None = None
    # What a short process writes.
    text: bytes = b""

    def kept(self, written):
        """What the capture keeps of all written bytes."""
        if self.keep is None or len(written) <= sum(self.keep):
            return written
        head, tail = self.keep
        return written[:head] + (written[-tail:] if tail else b"")


@dataclass
class Record:
    """What a process recorded."""

    written: dict
    broken: list
    # Wall clock just before its end.
    when: float
    cpu: float | None = None


class Plan:
    """A process: what it will do, and what it has recorded."""

    def __init__(self, directory, number, seed, longest):
        self.id = f"p{number}"
        self.base = Path(directory) / self.id
        rng = random.Random(f"{seed} {number}")
        self.longest = longest
        self.short = rng.random() < 0.6
        self.end = ("exit", rng.choice((0, 0, 0, 1, 7, 255))) if rng.random() < 0.7 else ("signal", int(rng.choice(SIGNALS)))
        self.streams = {name: self._stream(rng, name) for name in ("stdout", "stderr")}
        fds = [["stdin", {"null": {}}], *([name, {"capture": s.spec}] for name, s in self.streams.items())]
        self.spec = {"argv": self._short(rng) if self.short else self._long(rng), "fds": fds}

    def _stream(self, rng, name):
        capture = rng.choices(list(CAPTURES), list(CAPTURES.values()))[0]
        mode = {"tempfile": "tempfile", "memory": "memory"}.get(capture) or rng.choice(("tempfile", "memory"))
        spec = {"mode": mode, "encoding": None, "attached": self.short}
        stream = Stream(capture, spec)
        if capture == "chunk times":
            spec["chunk_times"] = True
        if capture == "compress":
            # A mode of its own, because results do not have compressed bytes in another form.
            spec |= {"compress": rng.choice(("gzip", "zstd")), "attached": False}
        if capture.startswith("named"):
            stream.path = self.base.with_suffix("." + name)
            spec |= {"mode": "tempfile", "file": {"path": str(stream.path)}}
        if capture.endswith("keep"):
            stream.keep = (rng.choice((0, 10, 2000, 70_000)), rng.choice((1, 100, 3000, 100_000)))
            spec["keep"] = dict(zip(("head", "tail"), stream.keep))
        return stream

    def _short(self, rng):
        sleep = rng.choice(("", f"sleep {rng.uniform(0, 0.3):.3f}", f"sleep {rng.uniform(0, 1):.3f}"))
        for stream in self.streams.values():
            stream.text = "".join(rng.choices("abc äöü€\n", k=rng.choice((0, 1, rng.randrange(3000))))).encode()
        how, number = self.end
        end = f"exit {number}" if how == "exit" else f"kill -{number} $$"
        script = SHORT.format(sleep=sleep or ":", end=end)
        return ["/bin/sh", "-c", script, "sh", str(self.base), *(s.text.decode() for s in self.streams.values())]

    def _long(self, rng):
        kinds = {fd: rng.choice(("text", "binary")) for fd in ("1", "2")}
        plan = {"seed": rng.randrange(1 << 32), "kinds": kinds, "end": self.end, "burn": rng.choice((0, 0, 0.1, 0.3))}
        if rng.random() < 0.25:
            # Writes all the time.
            seconds = rng.uniform(0.2, 1) * self.longest
            plan |= {"sizes": [1, 17, 200], "bytes": dict.fromkeys(kinds, int(1500 * seconds))}
        else:
            seconds = rng.choice((0, rng.uniform(0, 1), rng.uniform(0, min(8, self.longest))))
            large = (rng.randrange(200_000, 2_000_000), rng.randrange(30_000), rng.choice((0, 1)))
            plan["bytes"] = {fd: rng.choices(large, (1, 2, 1))[0] for fd in kinds}
        self.plan = plan | {"seconds": seconds}
        program = Path(worker.__file__)
        return [sys.executable, "-I", "-S", str(program), str(self.base.parent), self.id, json.dumps(self.plan)]

    # -- afterwards

    def runs(self):
        """The pid of each time the process was started."""
        path = self.base.with_suffix(".runs")
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def record(self):
        """What the process recorded, or None if it ended otherwise than planned."""
        path = self.base.with_suffix(".done" if self.short else ".json")
        if not path.exists():
            return None
        when = path.stat().st_mtime
        if self.short:
            return Record({name: s.text for name, s in self.streams.items()}, [], when)
        found = json.loads(path.read_text())
        written = {}
        for fd, name in (("1", "stdout"), ("2", "stderr")):
            written[name] = b"".join(_up_to(worker.chunks(self.plan, fd), found["length"][fd]))
            digest = hashlib.sha256(written[name]).hexdigest()
            assert digest == found["sha256"][fd], f"{self.id}: the process did not write what its plan says"
        return Record(written, [{"1": "stdout", "2": "stderr"}[fd] for fd in found["broken"]], when, found["cpu"])

    def remove(self):
        """Removes the files of a process that needs no diagnosis."""
        for path in self.base.parent.glob(f"{self.id}.*"):
            path.unlink()


def _up_to(chunks, length):
    """The chunks up to this many bytes."""
    while length > 0:
        data = next(chunks)[:length]
        length -= len(data)
        yield data
