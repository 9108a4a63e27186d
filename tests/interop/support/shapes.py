"""The shape of a result: its keys, their types, and values that must agree."""

import base64
from datetime import datetime, timedelta
import re
import signal

RESULT = set("state errors pid proc_stat proc_statm cgroup_accounting times status rusage fds".split())
STATUS = set("status exit_code signum signal core_dump".split())
TIMES = set("start now stop elapsed".split())
RUSAGE = set("utime stime maxrss minflt majflt nswap inblock oublock nvcsw nivcsw".split())
PROC_STAT = set(
    """pid comm state ppid pgrp session tty_nr tpgid flags minflt cminflt majflt cmajflt utime stime
    cutime cstime priority nice num_threads starttime vsize rss rsslim signal blocked sigignore sigcatch
    wchan exit_signal processor rt_priority policy delayacct_blkio_ticks guest_time cguest_time
    exit_code""".split()
)
PROC_STATM = set("size resident shared text data".split())
FD = {
    "text": {"type", "text", "encoding"},
    "data": {"type", "data", "encoding"},
    "detached": {"type", "length", "encoding"},
}


_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|\+00:00)")


def parse_time(text):
    """Parses an RFC 3339 time in UTC; drops digits after the microsecond."""
    match = _TIME.fullmatch(text)
    assert match, text
    return datetime.fromisoformat(f"{match[1]}.{(match[2] or '')[:6]:0<6}+00:00")


def captured(res, fd="stdout"):
    """Returns the bytes (attached) of a captured fd."""
    entry = res["fds"][fd]
    if entry["type"] == "text":
        return entry["text"].encode()
    return base64.b64decode(entry["data"], validate=True)


def signal_name(num):
    """Name of a standard signal as in the kernel's headers."""
    return {6: "SIGABRT", 16: "SIGSTKFLT", 17: "SIGCHLD", 29: "SIGIO"}.get(num) or signal.Signals(num).name


def check_result(res):
    """Asserts the properties of every result, and returns the result."""
    assert RESULT <= set(res), RESULT - set(res)
    assert res["state"] in ("running", "terminated", "error")
    assert all(isinstance(e, str) for e in res["errors"])
    assert res["errors"] or res["state"] != "error"
    assert TIMES <= set(res["times"])
    check_times(res["times"], ended=res["status"] is not None)
    _check_fds(res["fds"])
    if res["proc_stat"] is not None:
        assert PROC_STAT <= set(res["proc_stat"]), PROC_STAT - set(res["proc_stat"])
        _check_proc_stat(res["proc_stat"])
    if res["state"] == "running":
        assert res["status"] is None and res["rusage"] is None
        assert isinstance(res["pid"], int)
    else:
        assert res["proc_statm"] is None
    if res["proc_statm"] is not None:
        assert PROC_STATM <= set(res["proc_statm"])
    if res["status"] is not None:
        _check_status(res["status"])
        assert RUSAGE <= set(res["rusage"])
    if res["state"] == "terminated":
        assert isinstance(res["pid"], int)
        assert res["proc_stat"]["pid"] == res["pid"]
    return res


def check_times(times, *, ended):
    """Asserts that the times agree with each other."""
    start, now = parse_time(times["start"]), parse_time(times["now"])
    assert (times["stop"] is not None) == ended
    assert times["elapsed"] >= 0
    end = parse_time(times["stop"]) if ended else now
    slack = timedelta(seconds=0.1)
    assert start - slack <= end <= now + slack, times
    # The first is from the wall clock, the second from a monotonic clock.
    assert abs((end - start).total_seconds() - times["elapsed"]) < 0.5, times


def _check_fds(fds):
    assert isinstance(fds, dict)
    for name, entry in fds.items():
        assert name in ("stdin", "stdout", "stderr") or int(name) > 2
        if entry is not None:
            assert set(entry) == FD[entry["type"]], entry


def _check_status(status):
    assert set(status) == STATUS, status
    if status["signum"] is None:
        assert status["status"] == status["exit_code"] * 256
        assert status["signal"] is None
        assert status["core_dump"] is False
    else:
        assert status["exit_code"] is None
        assert status["status"] & 0x7F == status["signum"]
        assert status["signal"].startswith("SIG")
        assert status["core_dump"] is bool(status["status"] & 0x80)


def _check_proc_stat(stat):
    assert isinstance(stat["comm"], str)
    assert len(stat["tty_nr"]) == 2
    assert stat["tpgid"] is None or stat["tpgid"] >= 0
    for key in ("signal", "blocked", "sigignore", "sigcatch"):
        assert isinstance(stat[key], list)
        assert all(n.startswith("SIG") for n in stat[key])
    for key in ("utime", "stime", "cutime", "cstime", "guest_time", "cguest_time"):
        assert isinstance(stat[key], (int, float)) and stat[key] >= 0
    assert stat["exit_signal"] in (None, "SIGCHLD")
    parse_time(stat["starttime"])
