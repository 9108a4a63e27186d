"""Exhausted resources: descriptors, process numbers, disk, memory.

The affected process has an error, everything else continues, and afterwards all works as before.
Needs root, to limit the resources of other users.
"""

import contextlib
import errno
import os
from pathlib import Path
import resource
import shutil
import signal
import subprocess
import tempfile

import pytest

from support import procs
from support.http import Service
from support.oneshot import binary
from support.specs import TRUE, argv, capture, sh, sleeper, until
from support.survival import worker_pid
from support.wait import aeventually, eventually

TOKEN = "0a1b2c3d4e5f60718293a4b5c6d7e8f9"
OUT = (("stdin", {"null": {}}), ("stdout", capture()))


@pytest.fixture(autouse=True)
def root():
    """Skips the test without root."""
    assert os.geteuid() == 0, "limits of other users need root: run the tests as root, for example in a container"


def fds(pid):
    """Number of open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def next_fd(pid):
    """The next free descriptor number: as a limit, it keeps open files and allows no others."""
    taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    return next(n for n in range(len(taken) + 1) if n not in taken)


@contextlib.contextmanager
def limited(what, value, pid):
    """Changes a soft limit of a running process for a while."""
    uid = os.stat(f"/proc/{pid}").st_uid

    def limit(value):
        # As the process's user: in a container, even root lacks the capability to do it to others.
        argv = ["prlimit", "--pid", str(pid), f"--{what}={value}:"]
        subprocess.run(argv, user=uid, group=uid, extra_groups=[], check=True)

    name = f"RLIMIT_{what.upper()}"
    before, _ = resource.prlimit(pid, getattr(resource, name)) if uid == 0 else resource.getrlimit(getattr(resource, name))
    limit(value)
    try:
        yield
    finally:
        limit(before if before != resource.RLIM_INFINITY else "unlimited")


class Before:
    """Processes that exist before a shortage, must work during it, and be complete afterwards."""

    def __init__(self, service, directory, mode="memory"):
        self.service = service
        self.mode = mode
        out = ("stdout", capture(mode))
        self.gate = directory / "gate"
        service.post({
            "witness": sh(f"echo before; while [ ! -e {self.gate} ]; do sleep 0.02; done; echo after; exit 3", out),
            "victim": sleeper(),
            "done": sh("echo done", out),
        })  # fmt: skip
        assert service.result("done")["fds"]["stdout"]["text"] == "done\n"
        eventually(lambda: self.output("witness") == "before\n", "output")
        self.pids = {i: service.result(i, ended=False)["pid"] for i in ("witness", "victim")}
        # By now, all files are open that are opened only once.
        self.usual = self.descriptors()

    def output(self, proc_id):
        """Output of a process."""
        return self.service.http.get(f"/procs/{proc_id}/output/stdout/data").text

    def descriptors(self):
        """Number of open descriptors of keeper and worker."""
        keeper = self.service.proc.pid
        return fds(keeper), fds(worker_pid(keeper))

    def goes_on(self):
        """Checks results, output and signals during the shortage."""
        for proc_id, pid in self.pids.items():
            res = self.service.result(proc_id, ended=False)
            assert (res["state"], res["pid"]) == ("running", pid)
        assert self.service.result("done")["fds"]["stdout"]["text"] == "done\n"
        assert self.service.http.post("/procs/victim/signals/SIGKILL").status_code == 200
        assert self.service.result("victim")["status"]["signum"] == signal.SIGKILL
        del self.pids["victim"]

    def is_whole(self, *failed):
        """Checks that everything works afterwards, and deletes failed processes."""
        service = self.service
        service.post({"next": sh("echo next; seq 10000 >&2", *OUT, ("stderr", capture(self.mode, attached=False)))})
        res = service.result("next")
        assert (res["state"], res["status"]["exit_code"], res["fds"]["stdout"]["text"]) == ("terminated", 0, "next\n")
        assert res["fds"]["stderr"]["length"] == 48894
        self.gate.touch()
        res = service.result("witness")
        assert (res["status"]["exit_code"], res["fds"]["stdout"]["text"]) == (3, "before\nafter\n")
        for proc_id in ("victim", "witness", "next", *failed):
            assert service.http.delete(f"/procs/{proc_id}").status_code == 200, proc_id
        assert list(service.get("/procs")["procs"]) == ["done"]
        # Two processes have ended.
        eventually(lambda: all(a <= b for a, b in zip(self.descriptors(), self.usual)), "the usual number of descriptors")


def failure(res, number, stage=None):
    """Asserts that a process failed with this error."""
    assert res["state"] == "error", res
    assert res["errors"] and res["failures"]
    assert res["status"]["exit_code"] == 125, res["status"]
    assert res["failures"][0]["errno"] == number, res["failures"]
    assert stage in (None, res["failures"][0]["stage"]), res["failures"]


# -- descriptors


@pytest.mark.parametrize("limit", ["next", 3])
def test_a_keeper_without_descriptors_fails_starts_with_emfile(service, tmp_path, limit):
    """The keeper cannot open files, or not even poll those that it has."""
    at = service()
    before = Before(at, tmp_path)
    with limited("nofile", next_fd(at.proc.pid) if limit == "next" else limit, at.proc.pid):
        at.post({f"fails{n}": sh("echo never", *OUT) for n in range(5)})
        for n in range(5):
            failure(at.result(f"fails{n}"), errno.EMFILE)
        before.goes_on()
    before.is_whole(*(f"fails{n}" for n in range(5)))


async def test_a_worker_without_descriptors_reconnects_afterwards(raw, tmp_path):
    """Its processes continue meanwhile, and all results are kept."""
    server, agent, wire = await raw.pair()
    gate = tmp_path / "gate"
    await wire.start(p=until(gate, "echo through"))
    pid = worker_pid(agent.pid)
    # The worker cannot reuse the descriptor of its connection either, which is about to close.
    with limited("nofile", 3, pid):
        await wire.ws.close()
        gate.touch()
        await agent.logged("Too many open files|os error 24")
        assert procs.is_alive(pid), "the worker continues"
    back = await server.connection()
    assert back.register["proc_ids"] == ["p"] and back.register["conn"] == wire.register["conn"]

    def final():
        return [m for m in back.messages if m["type"] == "ProcResult" and m["res"]["state"] != "running"]

    await back.send("ProcResultRequest", proc_id="p")
    await aeventually(final, "its end")
    assert final()[0]["res"]["fds"]["stdout"]["text"] == "through\n"
    await aeventually(lambda: worker_pid(agent.pid) == pid, "the same worker")


def test_starts_wait_for_free_descriptors(tmp_path):
    """300 processes with pipes, under a limit of 64."""
    limit = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    with Service(prefix=limit) as at:
        limited_capture = {"capture": {"mode": "memory", "encoding": "utf-8", "keep": {"head": 100}}}
        at.post({f"p{n}": sh(f"echo {n}; sleep 0.02", ("stdout", limited_capture)) for n in range(300)})
        for n in range(300):
            res = at.result(f"p{n}")
            assert (res["errors"], res["fds"]["stdout"]["text"]) == ([], f"{n}\n")
        assert fds(at.proc.pid) < 64


# -- process numbers


def test_a_start_at_the_process_limit_fails_with_eagain(tmp_path):
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, 65534, 65534)
        os.chmod(place, 0o755)
        tmp = Path(place)
        program = shutil.copy(binary(), place)
        user = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": place}
        with Service(program=program, env={"TMPDIR": place, "HOME": place, "PROCSTAR_RUN_RUNTIME_DIR": place}, token=TOKEN, **user) as at:
            before = Before(at, tmp)
            with limited("nproc", 1, at.proc.pid):
                at.post({f"fails{n}": sh("echo never", *OUT) for n in range(5)})
                for n in range(5):
                    failure(at.result(f"fails{n}"), errno.EAGAIN, "fork")
                before.goes_on()
            before.is_whole(*(f"fails{n}" for n in range(5)))


# -- space for captures


@pytest.fixture(params=["tempfile", "memory"])
def room(request):
    """The mode of captures, their directory with 4 MiB and 60 files, and a command that starts
    the service."""
    options = "size=4m,nr_inodes=60,mode=0755"
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "procstar-test", place], check=True)
        # A lazy unmount: a killed service may still be ending.
        stack.callback(subprocess.run, ["umount", "-l", place], check=True)
        if request.param == "tempfile":
            yield "tempfile", Path(place), {"env": {"PROCSTAR_CAPTURE_DIR": place}}
        else:
            # In a mount namespace of its own, so that no other program is affected.
            inside = ("unshare", "-m", "sh", "-c", f'mount --bind {place} /dev/shm && exec "$@"', "sh")
            yield "memory", Path(place), {"prefix": inside, "token": TOKEN}


def test_a_full_capture_directory_truncates_and_is_reported(room, tmp_path):
    """Deleted captures free the space."""
    mode, _, service = room
    out = ("stdout", capture(mode, attached=False))

    def missing(res, code):
        # The writer of a file gets an error from write(2). The writer of a pipe does not, so the
        # result reports it.
        if mode == "tempfile":
            assert (res["state"], res["status"]["exit_code"]) == ("terminated", code), res
        else:
            capture = res["captures"]["stdout"]
            assert (capture["complete"], capture["reason"]) == (False, "error"), res

    with Service(**service) as at:
        before = Before(at, tmp_path, mode)
        at.post({"hog": sh("head -c 20000000 /dev/zero || exit 9", out)})
        res = at.result("hog")
        missing(res, 9)
        assert 2_000_000 < res["fds"]["stdout"]["length"] <= 4 << 20
        piped = {"capture": {"mode": mode, "encoding": "utf-8", "keep": {"tail": 100_000}}}
        at.post({
            "full": sh("seq 100000 || exit 7", out),
            "piped": sh("seq 100000; exit 5", ("stdout", piped)),
            "none": sh("exit 4", ("stdout", {"null": {}})),
        })  # fmt: skip
        missing(at.result("full"), 7)
        assert at.result("none")["status"]["exit_code"] == 4
        res = at.result("piped")
        assert res["status"]["exit_code"] == 5, res
        assert res["captures"]["stdout"]["complete"] is False, res["captures"]
        before.goes_on()
        assert at.http.delete("/procs/hog").status_code == 200
        before.is_whole("full", "piped", "none")


def test_a_capture_that_cannot_be_created_fails_its_process(room, tmp_path):
    """The error names the fd."""
    mode, place, service = room
    with Service(**service) as at:
        before = Before(at, tmp_path, mode)
        filling = place / "filling"
        filling.mkdir()
        with contextlib.suppress(OSError):
            for n in range(100):
                (filling / str(n)).touch()
        at.post({"fails": sh("echo never", ("stdout", capture(mode))), "works": sh("exit 4", ("stdout", {"null": {}}))})
        res = at.result("fails")
        failure(res, errno.ENOSPC)
        assert res["errors"][0].startswith("failed to set up fd 1: "), res["errors"]
        assert at.result("works")["status"]["exit_code"] == 4
        before.goes_on()
        shutil.rmtree(filling)
        before.is_whole("fails", "works")


# -- memory


@pytest.fixture
def group():
    """A control group with 200 MB of memory."""
    name = f"procstar-test-{os.getpid()}"
    places = {Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes", Path("/sys/fs/cgroup"): "memory.max"}
    for root, limit in places.items():
        path = root / name
        with contextlib.suppress(OSError):
            path.mkdir()
            (path / limit).write_text(str(200 << 20))
            yield path
            eventually(lambda: not (path / "cgroup.procs").read_text(), "everybody to leave the group")
            path.rmdir()
            return
        with contextlib.suppress(OSError):
            path.rmdir()
    pytest.fail("no memory control group can be made: run the tests where /sys/fs/cgroup can be written, with its memory controller")


def test_an_oom_kill_is_the_reason_in_the_result(group, tmp_path):
    """Keeper, worker and other processes continue."""
    inside = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    with Service(prefix=inside) as at:
        before = Before(at, tmp_path)
        worker = worker_pid(at.proc.pid)
        at.post({f"hog{n}": argv("/usr/bin/tail", "/dev/zero", fds=[["stdout", capture()]]) for n in range(2)})
        for n in range(2):
            res = at.result(f"hog{n}")
            assert (res["status"]["signum"], res["reason"]) == (signal.SIGKILL, "out_of_memory"), (res["status"], res["reason"])
        before.goes_on()
        assert worker_pid(at.proc.pid) == worker
        before.is_whole("hog0", "hog1")
