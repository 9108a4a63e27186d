"""Results: identity, resources, end, and reasons of failed starts."""

import getpass
import json
import os
from pathlib import Path
import socket
import subprocess
import uuid

import pytest

from support import procs
from support.oneshot import procstar, run, run1
from support.shapes import check_result, parse_time
from support.specs import argv, capture, sh, sleeper
from support.survival import worker_pid, kill
from support.wait import eventually

SCRIPT = "exec sleep 1000"
# A shell that uses CPU time, then waits for a child that does, and then for the file.
BUSY = """i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done
/bin/sh -c 'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; head -c 100000 /dev/zero >/dev/null'
while [ ! -e {} ]; do sleep 0.02; done"""


def test_every_result_identifies_its_process():
    """This includes the result of a failed start."""
    proc = argv("/bin/sh", "-c", "exit 0", cwd="/tmp", labels={"team": "a", "job": "7"})
    results = run({"a": proc, "b": {"argv": ["zz", "x"], "exe": "/nope"}}, "--group-id", "g")
    for res in results.values():
        agent = res["agent"]
        assert (agent["host"], agent["user"]) == (socket.gethostname(), getpass.getuser())
        assert agent["version"] in procstar("--version").stdout.decode()
        assert res["group_id"] == "g" and res["env"] is None
        assert res["proc_stat"]["ppid"] == agent["pid"]
    a, b = results["a"], results["b"]
    assert (a["argv"], a["exe"], a["cwd"]) == (["/bin/sh", "-c", "exit 0"], "/bin/sh", "/tmp")
    assert list(a["labels"].items()) == [("team", "a"), ("job", "7")]
    assert (b["argv"], b["exe"], b["labels"]) == (["zz", "x"], "/nope", {})


def test_times_are_consistent():
    """Start and stop by the wall clock, elapsed time by a monotonic clock."""
    res = run1(argv("/bin/sleep", "0.3"))
    times = res["times"]
    between = (parse_time(times["stop"]) - parse_time(times["start"])).total_seconds()
    assert 0.3 <= times["elapsed"] and abs(between - times["elapsed"]) < 0.25


def test_start_failures_have_stage_errno_and_path():
    """The text that existing clients expect is unchanged."""
    fds = [["0", {"file": {"path": "/nope/in"}}], ["1", capture()], ["7", {"dup": {"fd": 99}}]]
    results = run({"exec": argv("/nope"), "fds": argv("/bin/true", fds=fds), "ok": argv("/bin/true")})
    (failure,) = results["exec"]["failures"]
    text = "execve failed: /nope: No such file or directory (os error 2)"
    wanted = {"stage": "exec", "fd": None, "errno": 2, "error": "ENOENT", "path": "/nope", "detail": None, "message": text}
    assert failure == wanted and results["exec"]["errors"] == [text]
    failures = results["fds"]["failures"]
    found = [(f["stage"], f["fd"], f["error"]) for f in failures]
    assert found == [("fd", "stdin", "ENOENT"), ("fd", "7", "EBADF")]
    assert [f["message"] for f in failures] == results["fds"]["errors"]
    assert results["ok"]["failures"] == [] and results["ok"]["reason"] == "exited"
    res = run1(argv("/bin/true"), "--restrict-exe", "/bin/false")
    assert [(f["stage"], f["errno"], f["error"]) for f in res["failures"]] == [("not_allowed", None, None)]


@pytest.mark.parametrize("signum, name", [(34, "SIGRTMIN"), (16, "SIGSTKFLT"), (64, "SIGRTMAX"), (9, "SIGKILL")])
def test_an_end_by_signal_is_exact(signum, name):
    """A SIGKILL of another process is not an OOM kill."""
    res = run1(argv("/bin/sh", "-c", f"kill -{signum} $$"))
    status = res["status"]
    assert (status["signum"], status["signal"], status["exit_code"]) == (signum, name, None)
    assert (res["reason"], res["state"]) == ("signaled", "terminated")


def test_resources_grow_while_running(service, tmp_path):
    """Children included; the keys are the same after the end."""
    svc = service()
    go = tmp_path / "go"
    svc.post({"p": argv("/bin/sh", "-c", BUSY.format(go))})

    def get():
        return check_result(svc.result("p", ended=False))

    first = eventually(lambda: (r := get())["usage"]["utime"] > 0 and r, "it has run")
    assert first["state"] == "running" and first["rusage"] is None
    later = eventually(lambda: (r := get())["usage"]["cutime"] > 0 and r, "its child has run")
    for key in ("cpu", "utime", "minflt", "cminflt"):
        assert later["usage"][key] >= first["usage"][key], key
    assert later["usage"]["cpu"] > first["usage"]["cpu"]
    assert later["io"]["rchar"] >= 100_000 and later["io"]["wchar"] >= 100_000
    assert later["usage"]["maxrss"] == later["peak"]["rss"] >= later["proc_stat"]["rss"] > 0
    assert later["peak"]["vsize"] >= later["proc_stat"]["vsize"] and later["peak"]["threads"] == 1
    go.touch()
    end = check_result(svc.result("p"))
    rusage = end["rusage"]
    assert end["usage"].keys() == later["usage"].keys() and end["io"].keys() == later["io"].keys()
    assert end["usage"]["cpu"] == pytest.approx(rusage["utime"] + rusage["stime"], abs=1e-6)
    assert end["usage"]["maxrss"] == end["peak"]["maxrss"] == rusage["maxrss"]
    assert end["io"]["rchar"] >= later["io"]["rchar"]
    assert end["samples"] is None


def test_samples_and_peaks_stay_after_the_end(service, tmp_path):
    """The history is bounded and spans the whole life."""
    svc = service(env={"PROCSTAR_SAMPLING_INTERVAL": "0.02", "PROCSTAR_SAMPLING_MAX_SAMPLES": "6"})
    go = tmp_path / "go"
    svc.post({"p": argv("/bin/sh", "-c", BUSY.format(go)), "idle": sleeper()})

    def samples(proc_id, n):
        res = check_result(svc.result(proc_id, ended=False))
        return len(res["samples"]) >= n and res["samples"]

    eventually(lambda: samples("idle", 4), "samples of a process that does nothing")
    seen = eventually(lambda: samples("p", 4), "samples")
    assert all(b["elapsed"] > a["elapsed"] and b["utime"] >= a["utime"] for a, b in zip(seen, seen[1:]))
    eventually(lambda: (s := samples("p", 4)) and s[-1]["cutime"] > 0, "its child is sampled")
    go.touch()
    end = check_result(svc.result("p"))
    kept = end["samples"]
    assert 3 <= len(kept) <= 6 and kept[0] == seen[0] and kept[-1]["cutime"] > 0
    assert kept[-1]["elapsed"] <= end["times"]["elapsed"]
    assert end["peak"]["rss"] >= max(s["rss"] for s in kept) > 0
    assert end["peak"]["threads"] == 1
    assert check_result(svc.result("p"))["samples"] == kept


def test_a_worker_crash_loses_only_the_history_of_samples(service):
    """The next worker identifies each process and continues sampling."""
    svc = service(env={"PROCSTAR_SAMPLING_INTERVAL": "0.02"})
    svc.post({"p": argv("/bin/sh", "-c", SCRIPT, labels={"x": "y"}, cwd="/tmp"), "e": argv("/nope")})
    svc.result("e")
    before = eventually(lambda: (r := svc.result("p", ended=False))["samples"] and r, "samples")
    ended = svc.result("e")
    old = worker_pid(svc.proc.pid)
    kill(old, 9)
    eventually(lambda: worker_pid(svc.proc.pid) not in (None, old), "another worker")
    eventually(svc._listens, "it listens")
    after = eventually(lambda: (r := svc.result("p", ended=False))["samples"] and r, "samples again")
    for key in ("argv", "exe", "cwd", "labels", "group_id", "agent", "pid"):
        assert after[key] == before[key], key
    assert after["samples"][0]["elapsed"] > before["samples"][0]["elapsed"]
    again = svc.result("e")
    for key in ("failures", "errors", "argv", "usage", "io", "status", "reason"):
        assert again[key] == ended[key], key


def _memory_cgroup():
    """A directory for a memory cgroup (v1), or None if the host has none."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, source = line.partition(" - ")
        fs, _, options = source.split(" ", 2)
        if fs == "cgroup" and "memory" in options.split(","):
            return Path(mount.split(" ")[4])
    return None


@pytest.fixture
def small_memory():
    """A memory cgroup of 64 MiB."""
    root = _memory_cgroup()
    if root is None or os.geteuid() != 0:
        pytest.skip("needs root, and cgroup v1 with the memory controller")
    group = root / f"procstar-test-{uuid.uuid4()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
        yield group
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), "an empty group")
        group.rmdir()


def test_an_oom_kill_is_reported(small_memory):
    """A SIGKILL from another process is not reported as one."""
    into = f"echo $$ > {small_memory}/cgroup.procs && exec \"$0\" --print -"

    def run(procs):
        done = subprocess.run(
            ["/bin/sh", "-c", into, os.environ["PROCSTAR"]],
            input=json.dumps({"specs": procs}).encode(), capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        results = json.loads(done.stdout)
        for res in results.values():
            check_result(res)
            assert res["status"]["signal"] in (None, "SIGKILL")
        return {proc_id: res["reason"] for proc_id, res in results.items()}

    eat = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    eats = argv("/usr/bin/env", "python3", "-c", eat)
    assert run({"eats": eats, "ok": argv("/bin/true")}) == {"eats": "out_of_memory", "ok": "exited"}
    # One after the other: of two processes killed at one moment, either may count as OOM-killed.
    assert run({"killed": sh("kill -9 $$")}) == {"killed": "signaled"}


def test_validate_reports_all_errors_with_places_and_remedies():
    """The exit code is 2; for a valid spec 0."""
    bad = b'{"specs": {\n "a": {"argvv": ["x"], "cwd": 7},\n "b": {"argv": ["x"], "nice": 99}}}'
    done = procstar("validate", "-", input=bad)
    assert done.returncode == 2
    lines = done.stdout.decode().splitlines()
    assert [line.split(":")[:4] for line in lines] == [
        ["<stdin>", "2", "7", " specs.a"],
        ["<stdin>", "2", "8", " specs.a.argvv"],
        ["<stdin>", "2", "31", " specs.a.cwd"],
        ["<stdin>", "3", "31", " specs.b.nice"],
    ]
    assert lines[1].endswith("did you mean `argv`?")
    done = procstar("validate", "-", "-o", "json", input=bad)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["valid"], answer["processes"]) == (2, False, None)
    assert answer["errors"][3] == {
        "place": "specs.b.nice", "message": "99 is out of range: expected -20 to 19",
        "line": 3, "column": 31, "remedy": None,
    }  # fmt: skip
    done = procstar("validate", "-", input=b'{"specs": {"a": {"argv": ["x"]}, "b": {"argv": ["y"]}}}')
    assert (done.returncode, done.stdout) == (0, b"<stdin>: valid, 2 processes\n")


def test_start_times_agree_with_the_kernels():
    """They agree to the tick: the whole seconds of btime are not used."""
    for _ in range(5):
        res = run1(argv("/bin/true"))
        start, kernel = parse_time(res["times"]["start"]), parse_time(res["proc_stat"]["starttime"])
        assert -0.011 <= (kernel - start).total_seconds() <= 0.5, (start, kernel)


def test_maxrss_is_that_of_the_process_only(service):
    """A burst enlarges the keeper: then small values are null, and large ones exact."""
    service = service()
    count = 400
    service.post({f"p{n}": argv("/bin/true") for n in range(count)})
    service.post({"big": argv("/usr/bin/python3", "-c", "x = bytearray(b'x') * 100_000_000")})
    small = [service.result(f"p{n}") for n in range(count)]
    limit = 4_000_000
    for res in small:
        figures = [res["rusage"]["maxrss"], res["usage"]["maxrss"], res["peak"]["maxrss"]]
        assert len(set(figures)) == 1 and (figures[0] is None or figures[0] < limit), figures
    big = service.result("big")
    assert 100_000_000 < big["rusage"]["maxrss"] == big["usage"]["maxrss"] < 200_000_000


def test_unknown_values_of_a_lost_process_are_null(service, tmp_path):
    """They are not zero. Keys that clients expect in every final result are set."""
    state = tmp_path / "state"
    first = service("--state-dir", state)
    first.post({"a": sh("sleep 1; exit 3", ("stdout", capture("tempfile")))})
    pid = first.result("a", ended=False)["pid"]
    for victim in (worker_pid(first.proc.pid), first.proc.pid):
        os.kill(victim, 9)
    procs.await_reaping(pid)
    res = check_result(service("--state-dir", state).result("a"))
    assert (res["state"], res["reason"], res["status"]["exit_code"]) == ("error", "lost", 125)
    assert res["rusage"] and all(value is None for value in res["rusage"].values()), res["rusage"]
    assert [res[key] for key in ("proc_stat", "proc_statm", "usage", "io", "peak")] == [None] * 5
    assert res["times"]["stop"] is not None and res["pid"] == pid
