"""Short functions that write specs."""

import shlex

TRUE = "/usr/bin/true"
SLEEP = "/usr/bin/sleep"
SH = "/bin/sh"


def capture(mode="memory", encoding="utf-8", attached=True):
    """The FD of a capture."""
    return {"capture": {"mode": mode, "encoding": encoding, "attached": attached}}


def file(path, flags=None, **kw):
    """The FD of a file; without `flags` the key is absent."""
    return {"file": {"path": str(path)} | ({} if flags is None else {"flags": flags}) | kw}


def sh(script, *fds, **kw):
    """A PROC that runs a shell script; both outputs are captured unless `fds` are given."""
    fds = fds or (("stdin", {"null": {}}), ("stdout", capture()), ("stderr", capture()))
    return {"argv": [SH, "-c", script], "fds": [list(f) for f in fds]} | kw


def argv(*args, **kw):
    """A PROC of this argv."""
    return {"argv": [str(a) for a in args]} | kw


def sleeper(seconds=1000):
    """A PROC that runs until it gets a signal."""
    return argv(SLEEP, seconds)


def until(path, then=":"):
    """A PROC that runs until `path` exists, then runs `then`."""
    return sh(f"while [ ! -e {shlex.quote(str(path))} ]; do sleep 0.02; done; {then}")


def specs(**procs):
    """A whole spec file."""
    return {"specs": procs}
