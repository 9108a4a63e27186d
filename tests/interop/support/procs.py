"""Running processes, from /proc: detects those that an agent left behind."""

import ctypes
import os
from pathlib import Path
import signal

from .wait import eventually

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """Makes this process the subreaper, so orphans of agents become its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def _stat(pid):
    """Returns state and parent of `pid`, or None if it does not exist."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, ppid = text[text.rindex(b")") + 2 :].split()[:2]
    return state.decode(), int(ppid)


def is_alive(pid):
    """Whether `pid` runs; a zombie does not."""
    stat = _stat(pid)
    return stat is not None and stat[0] not in "ZX"


def await_reaping(pid):
    """Waits for the end of `pid`, and reaps it if it is a child of this process: a zombie would
    still show its status."""
    eventually(lambda: not is_alive(pid), f"end of {pid}")
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        eventually(lambda: _stat(pid) is None, f"reaping of {pid}")


def descendants(root=None):
    """Returns the running descendants of `root` (this process by default) as `{pid: command
    line}`."""
    root = os.getpid() if root is None else root
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := _stat(entry)) is not None:
            children.setdefault(stat[1], []).append((int(entry), stat[0]))
    found = {}
    todo = [root]
    while todo:
        for pid, state in children.get(todo.pop(), ()):
            todo.append(pid)
            if state not in "ZX":
                found[pid] = _command_line(pid)
    return found


def _command_line(pid):
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return "?"
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def kill_all(pids):
    """Kills processes that a failed test left, and waits for their end."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    eventually(lambda: not any(is_alive(p) for p in pids), f"end of {pids}")


def reap_orphans(keep):
    """Reaps zombies that became children of this process, except those in `keep`, which other code
    reaps."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) in keep:
            continue
        if _stat(entry) == ("Z", os.getpid()):
            try:
                os.waitpid(int(entry), os.WNOHANG)
            except ChildProcessError:
                pass
