"""Restricted containers: /proc missing or of other processes, system calls refused."""

import json
import os
import subprocess
import sys

import pytest

from support import seccomp
from support.oneshot import binary
from support.specs import argv, capture, sh, specs

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and mounts need root")
SPECS = specs(
    a=sh("echo out; exit 3", ("stdin", {"data": {"text": "x"}}), ("stdout", capture("tempfile")), ("stderr", capture())),
    b=argv("/bin/true", fds=[["stdout", capture()]]),
    c=sh("trap 'exit 7' TERM; sleep 1000 & wait", timeout=0.3, stop={"grace": 20}),
)
# State of /proc, by the command that leads to it.
MOUNTS = {
    "of another pid namespace": (["unshare", "-p", "-f"], ":"),
    "subset=pid": (["unshare", "-p", "-f", "-m"], "mount -t proc -o subset=pid proc /proc"),
    "absent": (["unshare", "-m"], "mount -t tmpfs none /proc"),
}


def started(command, *args, text=None):
    """Runs the binary by a command."""
    done = subprocess.run(
        [*command, binary(), *args], input=text, capture_output=True, timeout=60, check=False
    )
    sys.stderr.write(done.stderr.decode(errors="replace"))
    return done


def check(results):
    """Asserts that all processes ran and ended as usual."""
    assert [results[key]["status"]["exit_code"] for key in "abc"] == [3, 0, 7], results
    assert [results[key]["errors"] for key in "abc"] == [[], [], []]
    assert results["a"]["fds"]["stdout"]["text"] == "out\n" and results["a"]["captures"]["stdout"]["complete"]
    assert results["c"]["reason"] == "timeout"


@ROOT
@pytest.mark.parametrize("proc", MOUNTS)
def test_processes_run_with_a_missing_or_foreign_proc(proc):
    """Figures are those of the process or null, and doctor reports the problem."""
    command, mount = MOUNTS[proc]
    command = [*command, "sh", "-c", f'{mount} && exec "$0" "$@"']
    done = started(command, "--print", "-", text=json.dumps(SPECS).encode())
    assert done.returncode == 0
    results = json.loads(done.stdout)
    check(results)
    for key, comm in (("a", "sh"), ("b", "true"), ("c", "sh")):
        res = results[key]
        if proc == "subset=pid":
            assert (res["proc_stat"]["pid"], res["proc_stat"]["comm"]) == (res["pid"], comm)
        else:
            assert [res[name] for name in ("proc_stat", "usage", "io", "peak")] == [None] * 4, res
        assert res["rusage"]["utime"] is not None
    doctor = started(command, "doctor", "-o", "json")
    (found,) = [check for check in json.loads(doctor.stdout)["checks"] if check["name"] == "proc file system"]
    assert found["level"] == ("note" if proc == "subset=pid" else "warn"), found
    assert doctor.returncode == 0


def refusing(calls, errno):
    """Command prefix that refuses these system calls."""
    return [sys.executable, seccomp.__file__, calls, errno]


@pytest.mark.parametrize("errno", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("calls", ["pidfd_open", "pidfd_send_signal", "pidfd_open,pidfd_send_signal,close_range"])
def test_refused_system_calls_are_replaced_if_possible(calls, errno, tmp_path):
    """Processes run, stop and are reaped; output is compressed; doctor names the calls."""
    command = refusing(calls, errno)
    more = {
        "d": argv("/bin/true", pdeath_signal="KILL"),
        "e": argv("/bin/echo", "x", fds=[["stdout", {"capture": {"compress": "gzip", "encoding": "utf-8"}}]]),
    }
    done = started(command, "--print", "-", text=json.dumps({"specs": SPECS["specs"] | more}).encode())
    assert done.returncode == 0
    results = json.loads(done.stdout)
    check(results)
    assert results["d"]["status"]["exit_code"] == 0 and results["e"]["fds"]["stdout"]["text"] == "x\n"
    doctor = started(command, "doctor")
    assert doctor.returncode == 0
    if "pidfd_open" in calls:
        assert b"pidfd_open (" + errno.encode() in doctor.stdout and b"seccomp" in doctor.stdout


def test_impossible_operations_name_the_likely_cause():
    """glibc cannot create a thread if clone3 fails with EPERM; operations without threads work."""
    command = refusing("clone3", "EPERM")
    for args in (["--version"], ["--help"], ["schema", "specs"], ["validate", "-"]):
        done = started(command, *args, text=json.dumps(SPECS).encode())
        assert done.returncode == 0 and done.stdout, args
    for args in (["run", "true"], ["--print", "-"], ["doctor"]):
        done = started(command, *args, text=json.dumps(SPECS).encode())
        said = done.stdout + done.stderr
        assert done.returncode != 0 and b"clone3 (EPERM)" in said and b"seccomp" in said, (args, done)
    # ENOSYS is the error of an old kernel: there is no message.
    done = started(refusing("clone3", "ENOSYS"), "--print", "-", text=json.dumps(SPECS).encode())
    assert done.returncode == 0 and done.stderr == b""
    check(json.loads(done.stdout))
