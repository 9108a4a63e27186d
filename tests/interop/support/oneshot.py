"""Single runs of the binary on a spec."""

import json
import os
import subprocess
import sys

from .shapes import check_result


def binary():
    """Path of the binary under test."""
    return os.environ["PROCSTAR"]


def procstar(*args, input=b"", env=None, timeout=60, cwd=None, **kw):
    """Runs the binary to its end; outputs are bytes."""
    done = subprocess.run(
        [binary(), *map(str, args)],
        input=input, capture_output=True, env=env, timeout=timeout, cwd=cwd, check=False, **kw,
    )
    sys.stderr.write(done.stderr.decode(errors="replace")[-20_000:])
    return done


def run(procs, *args, **kw):
    """Runs `{id: PROC}` with `--print`, checks the shape of each result, and returns them by ID."""
    done = procstar("--print", *args, "-", input=json.dumps({"specs": procs}).encode(), **kw)
    assert done.returncode == 0, done.returncode
    # Processes may have written before; the results are one line with one newline.
    assert done.stdout.endswith(b"\n")
    line = done.stdout.removesuffix(b"\n").rpartition(b"\n")[2]
    results = json.loads(line[line.index(b'{"') :] if procs else line)
    assert set(results) == set(procs)
    for res in results.values():
        check_result(res)
    return results


def run1(proc, *args, **kw):
    """Runs one PROC and returns its result."""
    return run({"test": proc}, *args, **kw)["test"]


def ok(proc, *args, **kw):
    """Runs one PROC that must exit with 0."""
    res = run1(proc, *args, **kw)
    assert (res["state"], res["errors"]) == ("terminated", []), res["errors"]
    assert res["status"]["exit_code"] == 0, (res["status"], res["fds"])
    return res


def refused(text, *args, **kw):
    """Runs the binary on an invalid spec, which must exit with 2, and returns its messages."""
    if not isinstance(text, (str, bytes)):
        text = json.dumps(text)
    text = text.encode() if isinstance(text, str) else text
    done = procstar("--print", *args, "-", input=text, **kw)
    assert done.returncode == 2, (done.returncode, done.stdout)
    assert done.stdout == b""
    said = done.stderr.decode()
    assert said.strip()
    return said
