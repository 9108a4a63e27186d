"""What a container may lack: a proc file system of its own, and system calls that its profile refuses."""

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
# How /proc is, by the way to it.
MOUNTS = {
    "of another pid namespace": (["unshare", "-p", "-f"], ":"),
    "subset=pid": (["unshare", "-p", "-f", "-m"], "mount -t proc -o subset=pid proc /proc"),
    "absent": (["unshare", "-m"], "mount -t tmpfs none /proc"),
}


def started(command, *args, text=None):
    """Runs the binary by way of a command."""
    done = subprocess.run(
        [*command, binary(), *args], input=text, capture_output=True, timeout=60, check=False
    )
    sys.stderr.write(done.stderr.decode(errors="replace"))
    return done


def check(results):
    """Asserts that all ran, and ended, as they do anywhere."""
    assert [results[key]["status"]["exit_code"] for key in "abc"] == [3, 0, 7], results
    assert [results[key]["errors"] for key in "abc"] == [[], [], []]
    assert results["a"]["fds"]["stdout"]["text"] == "out\n" and results["a"]["captures"]["stdout"]["complete"]
    assert results["c"]["reason"] == "timeout"


@ROOT
@pytest.mark.parametrize("proc", MOUNTS)
def test_processes_run_whatever_proc_is(proc):
    """Figures are those of the process, or null, never another one's; and doctor tells."""
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
    """The beginning of a command in which these system calls are refused."""
    return [sys.executable, seccomp.__file__, calls, errno]


@pytest.mark.parametrize("errno", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("calls", ["pidfd_open", "pidfd_send_signal", "pidfd_open,pidfd_send_signal,close_range"])
def test_another_way_is_found_where_there_is_one(calls, errno, tmp_path):
    """Processes run, are stopped and reaped; output is compressed; a signal's death is told; doctor names what is refused."""
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


def test_what_cannot_be_is_named_with_its_likely_cause():
    """glibc makes no thread where clone3 is refused with EPERM. Whatever needs none works; the rest says so."""
    command = refusing("clone3", "EPERM")
    for args in (["--version"], ["--help"], ["schema", "specs"], ["validate", "-"]):
        done = started(command, *args, text=json.dumps(SPECS).encode())
        assert done.returncode == 0 and done.stdout, args
    for args in (["run", "true"], ["--print", "-"], ["doctor"]):
        done = started(command, *args, text=json.dumps(SPECS).encode())
        said = done.stdout + done.stderr
        assert done.returncode != 0 and b"clone3 (EPERM)" in said and b"seccomp" in said, (args, done)
    # As on an old kernel: no word.
    done = started(refusing("clone3", "ENOSYS"), "--print", "-", text=json.dumps(SPECS).encode())
    assert done.returncode == 0 and done.stderr == b""
    check(json.loads(done.stdout))
