"""Measures load: processes over the wire, ten thousand running, latency, large answers.

`bench/load` runs this module with the release build and prints a table in Markdown. The scheduler
here shares the machine, so it does little: it counts and keeps messages, and decodes them after the
clock has stopped.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path
import resource
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

import msgpack
from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH
from websockets.utils import accept_key

from . import procs
from .http import free_port

ROOT = Path(__file__).resolve().parents[3]
TICK = 1 / os.sysconf("SC_CLK_TCK")
NOFILE = 20_000
TOKEN = "load"
CAPTURES = [["stdout", {"capture": {}}], ["stderr", {"capture": {"encoding": "utf-8"}}]]


class Wire:
    """The scheduler's end of one connection, without a thread or an event loop."""

    def __init__(self, sock):
        self._sock = sock
        self._buffer = bytearray()
        self._head = 0

    @classmethod
    def accept(cls, listener):
        """Accepts a connection up to its registration."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS_CERT_PATH, TLS_KEY_PATH)
        plain, _ = listener.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock = context.wrap_socket(plain, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(65536)
        (key,) = [l.split(b":", 1)[1].strip() for l in head.split(b"\r\n") if l.lower().startswith(b"sec-websocket-key:")]
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept_key(key.decode()).encode() + b"\r\n\r\n"
        )  # fmt: skip
        wire = cls(sock)
        register = wire.message()
        if register["type"] != "Register" or register["access_token"] != TOKEN:
            sys.exit(f"no registration: {register}")
        wire.send("Registered")
        return wire

    def send(self, type, **fields):
        """Sends a message in one frame."""
        data = msgpack.packb({"type": type} | fields)
        if len(data) < 126:
            head = bytes([0x82, len(data)])
        elif len(data) < 1 << 16:
            head = b"\x82\x7e" + len(data).to_bytes(2, "big")
        else:
            head = b"\x82\x7f" + len(data).to_bytes(8, "big")
        self._sock.sendall(head + data)

    def _fill(self, size):
        while len(self._buffer) - self._head < size:
            if self._head > 1 << 20:
                del self._buffer[: self._head]
                self._head = 0
            got = self._sock.recv(1 << 18)
            if not got:
                sys.exit("the agent closed the connection")
            self._buffer += got

    def _take(self, size):
        self._fill(size)
        data = bytes(memoryview(self._buffer)[self._head : self._head + size])
        self._head += size
        return data

    def _frame(self):
        """Returns the next frame's opcode, whether it ends its message, its mask and its length."""
        first, second = self._take(2)
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(self._take(2), "big")
        elif length == 127:
            length = int.from_bytes(self._take(8), "big")
        return first & 0xF, first & 0x80, self._take(4) if second & 0x80 else None, length

    def raw(self):
        """Returns the next message as masked frames."""
        frames = []
        while True:
            opcode, last, mask, length = self._frame()
            data = self._take(length)
            if opcode == 8:
                sys.exit(f"the agent closed the connection: {data!r}")
            if opcode == 9:
                self._sock.sendall(bytes([0x8A, length]) + unmask(mask, data))
            if opcode >= 8:
                continue
            frames.append((mask, data))
            if last:
                return frames

    def message(self):
        """Returns the next message."""
        return decode(self.raw())

    def count(self):
        """Discards the next message; returns its number of bytes and its last bytes."""
        total = 0
        while True:
            opcode, last, mask, length = self._frame()
            left = length
            # Bytes already in the buffer.
            have = min(left, len(self._buffer) - self._head)
            self._head += have
            left -= have
            view = memoryview(bytearray(1 << 20))
            while left:
                got = self._sock.recv_into(view[: min(left, 1 << 20)])
                if not got:
                    sys.exit("the agent closed the connection")
                left -= got
            if opcode < 8:
                total += length
                if last:
                    return total


def unmask(mask, data):
    """Removes the mask of a payload."""
    if mask is None or mask == b"\0\0\0\0":
        return data
    size = len(data)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(whole, "little")).to_bytes(size, "little")


def decode(frames):
    """Decodes a message of masked frames."""
    return msgpack.unpackb(b"".join(unmask(mask, data) for mask, data in frames), strict_map_key=False)


class Run:
    """An agent under test with its scheduler."""

    def __init__(self, binary, *args, nofile=NOFILE):
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        self.http = free_port()
        env = os.environ | {"PROCSTAR_AGENT_CERT": str(TLS_CERT_PATH), "PROCSTAR_AGENT_TOKEN": TOKEN}
        argv = [binary, "--agent", "--agent-host", "localhost", "--agent-port", str(port), "--serve", "--serve-port", str(self.http), *args]
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))  # noqa: E731
        null = subprocess.DEVNULL
        # The run ends with a kill of the keeper, which the worker logs.
        self.proc = subprocess.Popen(argv, env=env, stdin=null, stderr=null, preexec_fn=limit)

    def __enter__(self):
        self.wire = Wire.accept(self.listener)
        self.pids = [self.proc.pid, worker_of(self.proc.pid)]
        return self

    def __exit__(self, *_):
        below = list(procs.descendants(self.proc.pid))
        self.proc.kill()
        self.proc.wait()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        self.listener.close()

    def cpu(self):
        """CPU seconds of keeper and worker, without their children."""
        return sum(stat_of(pid) for pid in self.pids)

    def memory(self, key="RssAnon"):
        """Bytes of this kind of memory in keeper and worker."""
        return sum(status_of(pid, key) for pid in self.pids)

    def fds(self):
        """Number of their open files."""
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids)

    def delete(self, ids):
        """Deletes processes and waits for the answers."""
        for i in ids:
            self.wire.send("ProcDeleteRequest", proc_id=i)
        for _ in ids:
            message = self.wire.message()
            if message["type"] != "ProcDelete":
                sys.exit(f"no deletion: {message}")


def worker_of(keeper):
    """PID of the worker."""
    for child in Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_bytes() == b"procstar-worker\n":
            return int(child)
    return sys.exit("there is no worker")


def stat_of(pid):
    """CPU seconds of all threads of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def status_of(pid, key):
    """A figure of /proc/PID/status in bytes."""
    (line,) = [l for l in Path(f"/proc/{pid}/status").read_text().splitlines() if l.startswith(key + ":")]
    return int(line.split()[1]) * 1024


def true(**more):
    """Spec of a process that exits at once."""
    return {"argv": ["/usr/bin/true"], "fds": CAPTURES} | more


def check(messages, count):
    """Checks that each process has two results, the second a successful one."""
    final = {}
    seen = {}
    for frames in messages:
        message = decode(frames)
        if message["type"] != "ProcResult":
            sys.exit(f"not a result: {message}")
        seen[message["proc_id"]] = seen.get(message["proc_id"], 0) + 1
        final[message["proc_id"]] = message["res"]
    good = sum(r["state"] == "terminated" and r["status"]["status"] == 0 for r in final.values())
    if good != count or set(seen.values()) != {2}:
        sys.exit(f"{good} of {count} results are right")


def loop_of(tmp):
    """Builds the C loop."""
    path = tmp / "spawn_loop"
    subprocess.run(["cc", "-O2", "-o", path, ROOT / "bench" / "spawn_loop.c"], check=True)
    return path


def timed(argv, **kw):
    """Runs a command and returns its seconds."""
    start = time.monotonic()
    subprocess.run(argv, check=True, **kw)
    return time.monotonic() - start


def over_the_wire(binary, loop, count, rounds):
    """N processes over TLS, by one request, and by one request each."""
    for many in (False, True):
        ours, base, used = [], [], []
        for _ in range(rounds):
            base.append(timed([loop, str(count)], cwd=loop.parent) / count * 1000)
            with Run(binary) as run:
                specs = {f"p{i}": true() for i in range(count)}
                cpu, start = run.cpu(), time.monotonic()
                if many:
                    for i, spec in specs.items():
                        run.wire.send("ProcStartRequest", specs={i: spec})
                else:
                    run.wire.send("ProcStartRequest", specs=specs)
                messages = [run.wire.raw() for _ in range(2 * count)]
                ours.append((time.monotonic() - start) / count * 1000)
                used.append((run.cpu() - cpu) / count * 1000)
                check(messages, count)
        mine, loop_ms = statistics.median(ours), statistics.median(base)
        ratio = statistics.median(a / b for a, b in zip(ours, base))
        yield (
            f"{count} x /usr/bin/true over TLS, {'one request each' if many else 'one request'}",
            f"{mine:.3f} ms per process; our CPU {statistics.median(used):.3f} ms",
            f"{ratio:.2f} of the C loop ({loop_ms:.3f} ms)",
        )


def latency(binary, seconds):
    """Latency from a request to the first result, at 100 requests a second."""
    with Run(binary) as run:
        took = []
        sent = {}
        begin = time.monotonic()
        n = 0
        while (now := time.monotonic()) < begin + seconds:
            due = begin + n / 100
            if due > now:
                time.sleep(due - now)
            ident = f"p{n}"
            sent[ident] = time.monotonic()
            run.wire.send("ProcStartRequest", specs={ident: true()})
            first = run.wire.message()
            took.append((time.monotonic() - sent[ident]) * 1000)
            if first["type"] != "ProcResult" or first["proc_id"] != ident:
                sys.exit(f"not the first result: {first}")
            if run.wire.message()["res"]["state"] != "terminated":
                sys.exit("not terminated")
            n += 1
        took.sort()
    yield (
        f"first result after a request, {n / seconds:.0f} requests/s over TLS",
        f"median {statistics.median(took):.2f} ms, 99 % {took[len(took) * 99 // 100]:.2f} ms, most {took[-1]:.2f} ms",
        "",
    )


def alive(binary, count):
    """Many running processes at once, and the memory that remains after them."""
    with Run(binary) as run:
        # A first start allocates memory once, which is not counted here.
        run.wire.send("ProcStartRequest", specs={"first": true()})
        check([run.wire.raw(), run.wire.raw()], 1)
        run.delete(["first"])
        memory, fds = run.memory(), run.fds()
        ids = [f"p{i}" for i in range(count)]
        start = time.monotonic()
        run.wire.send("ProcStartRequest", specs={i: {"argv": ["/bin/sleep", "1000"], "fds": CAPTURES} for i in ids})
        for _ in ids:
            if run.wire.message()["res"]["state"] != "running":
                sys.exit("one does not run")
        took = time.monotonic() - start
        held, held_fds = run.memory(), run.fds()
        for i in ids:
            run.wire.send("ProcSignalRequest", proc_id=i, signum=9)
        for _ in ids:
            if run.wire.message()["res"]["status"]["signum"] != 9:
                sys.exit("one was not killed")
        run.delete(ids)
        # Memory is returned to the system after a moment of idleness.
        end = time.monotonic() + 5
        while time.monotonic() < end and run.memory() > memory + (1 << 19):
            time.sleep(0.1)
        left, left_fds = run.memory() - memory, run.fds() - fds
    yield (
        f"{count} processes alive at once, open-file limit {NOFILE}",
        f"all run, after {took:.1f} s; {(held - memory) / count / 1024:.1f} KiB of our memory and {(held_fds - fds) / count:.2f} fds each",
        f"deleted: {left / 1024:+.0f} KiB in all, {left_fds:+d} fds",
    )


def finished(binary, count, probes):
    """Memory of one process beside many exited ones that are not deleted."""

    def each(run, name):
        start, cpu = time.monotonic(), run.cpu()
        for i in range(probes):
            run.wire.send("ProcStartRequest", specs={f"{name}{i}": true()})
            run.wire.raw()
            run.wire.raw()
        took = (time.monotonic() - start) / probes * 1000
        used = (run.cpu() - cpu) / probes * 1000
        run.delete([f"{name}{i}" for i in range(probes)])
        return took, used

    with Run(binary) as run:
        few = each(run, "a")
        run.wire.send("ProcStartRequest", specs={f"p{i}": true() for i in range(count)})
        check([run.wire.raw() for _ in range(2 * count)], count)
        many = each(run, "b")
        few_again = run.delete([f"p{i}" for i in range(count)]) or each(run, "c")
    few = tuple(statistics.mean(pair) for pair in zip(few, few_again))
    yield (
        f"one process, one after another, beside {count} ended ones",
        f"{many[0]:.2f} ms, our CPU {many[1]:.3f} ms",
        f"{many[0] / few[0]:.2f} of that beside none ({few[0]:.2f} ms), in CPU {many[1] / few[1]:.2f}",
    )


def busy(binary, loop, count, rounds):
    """Starts and latency while busy loops occupy the cores."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        ours, base, answers = [], [], []
        for _ in range(rounds):
            base.append(timed([loop, str(count)], cwd=loop.parent) / count * 1000)
            with Run(binary) as run:
                pipe = subprocess.PIPE
                prober = subprocess.Popen([sys.executable, "-uc", PROBE, str(run.http)], stdout=pipe, stdin=pipe, text=True)
                prober.stdout.readline()
                start = time.monotonic()
                run.wire.send("ProcStartRequest", specs={f"p{i}": true() for i in range(count)})
                messages = [run.wire.raw() for _ in range(2 * count)]
                ours.append((time.monotonic() - start) / count * 1000)
                out, _ = prober.communicate("\n")
                answers += [float(x) for x in out.split()]
                check(messages, count)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    answers.sort()
    ratio = statistics.median(a / b for a, b in zip(ours, base))
    yield (
        f"{count} x /usr/bin/true over TLS while 6 busy loops run",
        f"{statistics.median(ours):.2f} ms per process",
        f"{ratio:.2f} of the C loop ({statistics.median(base):.2f} ms)",
    )
    yield (
        "GET /healthz meanwhile",
        f"median {statistics.median(answers):.1f} ms, 99 % {answers[len(answers) * 99 // 100]:.1f} ms ({len(answers)} requests)",
        "",
    )


# Sends requests until its standard input has a line; prints milliseconds.
PROBE = """
import http.client, select, sys, time
conn = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
while True:
    start = time.monotonic()
    conn.request("GET", "/healthz")
    if conn.getresponse().read() is None: sys.exit(1)
    print((time.monotonic() - start) * 1000)
    if select.select([sys.stdin], [], [], 0.02)[0]: break
"""


def large(binary, mib):
    """A large output in one answer of the protocol, and in one result to a pipe."""
    size = mib << 20
    with Run(binary) as run:
        spec = {"argv": ["/bin/sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x"], "fds": [["stdout", {"capture": {"attached": False}}]]}
        run.wire.send("ProcStartRequest", specs={"a": spec})
        run.wire.raw()
        run.wire.raw()
        cpu = run.cpu()
        start = time.monotonic()
        run.wire.send("ProcFdDataRequest", proc_id="a", fd="stdout", start=0, stop=None)
        got = run.wire.count()
        took = time.monotonic() - start
        if got < size:
            sys.exit(f"{got} bytes of {size}")
        yield (
            f"{mib} MiB in one protocol answer over TLS",
            f"{size / took / 1e9:.2f} GB/s; our CPU {(run.cpu() - cpu) / (size / 1e9):.2f} s/GB",
            f"{run.memory('VmHWM') >> 20} MiB resident at most, keeper and worker together",
        )
    with tempfile.TemporaryDirectory() as tmp:
        path = Path(tmp) / "spec.json"
        text = {"argv": ["/bin/sh", "-c", f"head -c {size} /dev/zero | tr '\\0' x"], "fds": [["stdout", {"capture": {"encoding": "utf-8"}}]]}
        path.write_text(json.dumps({"specs": {"a": text}}))
        proc = subprocess.Popen([binary, "--print", path], stdout=subprocess.PIPE, bufsize=0)
        first = proc.stdout.read(65536)
        start = time.monotonic()
        total, peak = len(first), 0
        view = memoryview(bytearray(1 << 20))
        worker = worker_of(proc.pid)
        while got := proc.stdout.readinto(view):
            total += got
            if total & 0x3FFFFFFF < got:
                with contextlib.suppress(OSError, ValueError):
                    peak = max(peak, status_of(proc.pid, "VmHWM") + status_of(worker, "VmHWM"))
        took = time.monotonic() - start
        if proc.wait() or total < size:
            sys.exit(f"{total} bytes of {size}")
        yield (f"{mib} MiB in one result, to a pipe", f"{total / took / 1e9:.2f} GB/s", f"{peak >> 20} MiB resident at most, keeper and worker together")


def maxrss(binary):
    """maxrss of a small process of an agent that uses much memory."""
    with Run(binary) as run:
        figures = []
        for i in range(5):
            # The keeper trims its memory before a start after a pause, not before each start of a
            # burst.
            time.sleep(0.1)
            run.wire.send("ProcStartRequest", specs={f"p{i}": true()})
            run.wire.raw()
            figures.append(run.wire.message()["res"]["rusage"]["maxrss"])
        run.wire.send("ProcStartRequest", specs={f"b{i}": true() for i in range(300)})
        results = [run.wire.message()["res"] for _ in range(600)]
        burst = [res["rusage"]["maxrss"] for res in results if res["rusage"]]
    # It is null if it may be that of the keeper.
    measured = [
        f"{statistics.median(known) / 1e6:.2f} MB" if known else "unknown"
        for known in ([value for value in values if value is not None] for values in (figures, burst))
    ]
    alone = int(subprocess.check_output([sys.executable, "-c", MAXRSS]))
    figure = f"{measured[0]}, {measured[1]} in a burst of 300"
    yield ("`maxrss` of /usr/bin/true", figure, f"{alone / 1e6:.2f} MB where a small process starts it")


# The process's own maxrss, without the value inherited over exec: /bin/sh is small.
MAXRSS = """
import os, subprocess
out = subprocess.check_output(["/bin/sh", "-c", "grep VmHWM /proc/self/status"], text=True)
print(int(out.split()[1]) * 1024)
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller numbers, to see that it works")
    parser.add_argument("--only", metavar="ROW", action="append", help="wire, latency, alive, finished, busy, large or maxrss; may be repeated")
    args = parser.parse_args()
    binary = os.environ["PROCSTAR"]
    count, many, rounds, seconds, mib = (100, 300, 1, 2, 64) if args.quick else (3000, 10_000, 5, 20, 2048)
    with tempfile.TemporaryDirectory() as tmp:
        loop = loop_of(Path(tmp))
        rows = {
            "maxrss": lambda: maxrss(binary),
            "wire": lambda: over_the_wire(binary, loop, count, rounds),
            "latency": lambda: latency(binary, seconds),
            "alive": lambda: alive(binary, many),
            "finished": lambda: finished(binary, many, 3 * count // 10),
            "busy": lambda: busy(binary, loop, count // 6, min(rounds, 3)),
            "large": lambda: large(binary, mib),
        }
        if unknown := set(args.only or ()) - set(rows):
            parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(rows)}")
        print("| what | figure | ratio, same run |\n| --- | --- | --- |")
        for name in args.only or rows:
            for row in rows[name]():
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
