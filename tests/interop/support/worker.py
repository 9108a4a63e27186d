"""A process of the survival test: executes its plan and records what it did.

Run as `python worker.py DIR ID PLAN`, PLAN in JSON. It appends a line to `DIR/ID.runs` at its
start, and writes `DIR/ID.json` atomically just before its end. It needs only the standard library.
"""

import contextlib
import hashlib
import json
import os
import random
import resource
import sys
import time


# Sizes of writes, unless the plan has others.
SIZES = (1, 17, 800, 5000, 70_000)


def chunks(plan, fd):
    """Yields the bytes of each write to an fd, the same ones for the same plan: valid UTF-8 in
    lines, or arbitrary bytes."""
    rng = random.Random(f"{plan['seed']} {fd}")
    while True:
        size = rng.choice(plan.get("sizes", SIZES))
        if plan["kinds"][fd] == "binary":
            yield rng.randbytes(size)
        else:
            yield "".join(rng.choices("abc äöü€\n", k=min(size, 5000))).encode()


def write(fd, data):
    """Writes all bytes, or up to a broken pipe; returns their number."""
    view = memoryview(data)
    # The interpreter ignores SIGPIPE.
    with contextlib.suppress(BrokenPipeError):
        while view:
            view = view[os.write(fd, view) :]
    return len(data) - len(view)


def burn(seconds):
    """Uses this much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def main(directory, ident, plan):
    """Executes the plan: {seed, kinds: {fd: kind}, bytes: {fd: limit}, sizes, seconds, burn,
    end: [how, number]}."""
    base = os.path.join(directory, ident)
    runs = os.open(base + ".runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(runs, f"{os.getpid()}\n".encode())
    rng = random.Random(plan["seed"])
    hashes = {fd: hashlib.sha256() for fd in plan["kinds"]}
    lengths = dict.fromkeys(hashes, 0)
    sources = {fd: chunks(plan, fd) for fd in hashes}
    broken = set()

    def unfinished(fd):
        return fd not in broken and lengths[fd] < plan["bytes"][fd]

    until = time.monotonic() + plan["seconds"]
    burn(plan["burn"])
    # Each round writes a part to each output; the rest is written when the time is over.
    while time.monotonic() < until or any(map(unfinished, hashes)):
        for fd in filter(unfinished, hashes):
            data = next(sources[fd])
            written = write(int(fd), data)
            hashes[fd].update(data[:written])
            lengths[fd] += written
            if written < len(data):
                broken.add(fd)
        if (left := until - time.monotonic()) > 0:
            time.sleep(min(left, rng.uniform(0, 0.1)))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    record = {
        "sha256": {fd: digest.hexdigest() for fd, digest in hashes.items()},
        "length": lengths,
        "broken": sorted(broken),
        "end": plan["end"],
        "cpu": usage.ru_utime + usage.ru_stime,
        "minflt": usage.ru_minflt,
        "maxrss": usage.ru_maxrss * 1024,
    }
    with open(base + ".new", "w", encoding="ascii") as out:
        json.dump(record, out)
    os.rename(base + ".new", base + ".json")
    how, number = plan["end"]
    if how == "signal":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), number)
        time.sleep(1000)
    os._exit(number)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
