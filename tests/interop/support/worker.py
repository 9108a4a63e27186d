"""A process of the survival test: executes its plan and records what it did.

Run as `python worker.py DIR ID PLAN`, PLAN in JSON. It appends a line to `DIR/ID.runs` at its
start, and writes `DIR/ID.json` atomically just before its end. It needs only the standard library.
"""

import hashlib
import json
import os
import random
import resource
import sys
import time


def chunk(rng, kind):
    """Bytes to write: valid UTF-8 in lines, or arbitrary bytes."""
    size = rng.choice((1, 17, 800, 5000, 70_000))
    if kind == "binary":
        return rng.randbytes(size)
    return ("".join(rng.choices("abc äöü€\n", k=min(size, 5000)))).encode()


def write(fd, data):
    """Writes all bytes."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def burn(seconds):
    """Uses this much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def main(directory, ident, plan):
    """Executes the plan: {seed, kinds: {fd: kind}, bytes: {fd: limit}, seconds, burn, end: [how,
    number]}."""
    base = os.path.join(directory, ident)
    runs = os.open(base + ".runs", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(runs, f"{os.getpid()}\n".encode())
    rng = random.Random(plan["seed"])
    hashes = {fd: hashlib.sha256() for fd in plan["kinds"]}
    lengths = dict.fromkeys(hashes, 0)
    until = time.monotonic() + plan["seconds"]
    burn(plan["burn"])
    # Each round writes a part to each output; the rest is written when the time is over.
    while time.monotonic() < until or any(lengths[fd] < plan["bytes"][fd] for fd in hashes):
        for fd, digest in hashes.items():
            if lengths[fd] < plan["bytes"][fd]:
                data = chunk(rng, plan["kinds"][fd])
                write(int(fd), data)
                digest.update(data)
                lengths[fd] += len(data)
        if (left := until - time.monotonic()) > 0:
            time.sleep(min(left, rng.uniform(0, 0.1)))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    record = {
        "sha256": {fd: digest.hexdigest() for fd, digest in hashes.items()},
        "length": lengths,
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
