"""What runs out: descriptors, process numbers, the disk, memory.

The process concerned is in error, everything else goes on, and after the shortage all is as before. Needs root, which
takes resources from others.
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
    """Only root may."""
    assert os.geteuid() == 0, "limits of others and file systems are root's: run the tests as root, in a container for example"


def fds(pid):
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def next_fd(pid):
    """The number that the next descriptor would have: a limit there leaves what is open, and no room."""
    taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    return next(n for n in range(len(taken) + 1) if n not in taken)


@contextlib.contextmanager
def limited(what, value, pid):
    """A process that runs has another soft limit for a while; what it has already stays."""
    uid = os.stat(f"/proc/{pid}").st_uid

    def limit(value):
        # As its user: even root may not do it to others without a capability that containers do not have.
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
    """What is there before a shortage, must work on during it, and be whole after it."""

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
        # Everything that is opened once has been opened.
        self.usual = self.descriptors()

    def output(self, proc_id):
        """What a process has written."""
        return self.service.http.get(f"/procs/{proc_id}/output/stdout/data").text

    def descriptors(self):
        """Of keeper and agent."""
        keeper = self.service.proc.pid
        return fds(keeper), fds(worker_pid(keeper))

    def goes_on(self):
        """During the shortage: results, output, signals."""
        for proc_id, pid in self.pids.items():
            res = self.service.result(proc_id, ended=False)
            assert (res["state"], res["pid"]) == ("running", pid)
        assert self.service.result("done")["fds"]["stdout"]["text"] == "done\n"
        assert self.service.http.post("/procs/victim/signals/SIGKILL").status_code == 200
        assert self.service.result("victim")["status"]["signum"] == signal.SIGKILL
        del self.pids["victim"]

    def is_whole(self, *failed):
        """After it: as before, but for what has failed, which can be deleted."""
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
        # Two processes run no more.
        eventually(lambda: all(a <= b for a, b in zip(self.descriptors(), self.usual)), "the usual number of descriptors")


def failure(res, number, stage=None):
    """Asserts that a process has failed for want of something, as it should be told."""
    assert res["state"] == "error", res
    assert res["errors"] and res["failures"]
    assert res["status"]["exit_code"] == 125, res["status"]
    assert res["failures"][0]["errno"] == number, res["failures"]
    assert stage in (None, res["failures"][0]["stage"]), res["failures"]


# -- descriptors


@pytest.mark.parametrize("limit", ["next", 3])
def test_no_descriptors_in_the_keeper(service, tmp_path, limit):
    """It can open nothing, or not even poll as many as it has: a process is in error, with EMFILE."""
    at = service()
    before = Before(at, tmp_path)
    with limited("nofile", next_fd(at.proc.pid) if limit == "next" else limit, at.proc.pid):
        at.post({f"fails{n}": sh("echo never", *OUT) for n in range(5)})
        for n in range(5):
            failure(at.result(f"fails{n}"), errno.EMFILE)
        before.goes_on()
    before.is_whole(*(f"fails{n}" for n in range(5)))


async def test_no_descriptors_in_the_agent(raw, tmp_path):
    """It cannot connect; it goes on trying, and its processes run on. Then it comes back, with everything."""
    server, agent, wire = await raw.pair()
    gate = tmp_path / "gate"
    await wire.start(p=until(gate, "echo through"))
    pid = worker_pid(agent.pid)
    # That of its connection, which is about to be closed, is not to be had again either.
    with limited("nofile", 3, pid):
        await wire.ws.close()
        gate.touch()
        await agent.logged("Too many open files|os error 24")
        assert procs.is_alive(pid), "it is no reason to die"
    back = await server.connection()
    assert back.register["proc_ids"] == ["p"] and back.register["conn"] == wire.register["conn"]

    def final():
        return [m for m in back.messages if m["type"] == "ProcResult" and m["res"]["state"] != "running"]

    await back.send("ProcResultRequest", proc_id="p")
    await aeventually(final, "its end")
    assert final()[0]["res"]["fds"]["stdout"]["text"] == "through\n"
    await aeventually(lambda: worker_pid(agent.pid) == pid, "the same worker")


def test_few_descriptors_from_the_start(tmp_path):
    """Who finds none waits until others have ended: 300 processes with pipes, under a limit of 64."""
    limit = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    with Service(prefix=limit) as at:
        limited_capture = {"capture": {"mode": "memory", "encoding": "utf-8", "limit": {"head": 100}}}
        at.post({f"p{n}": sh(f"echo {n}; sleep 0.02", ("stdout", limited_capture)) for n in range(300)})
        for n in range(300):
            res = at.result(f"p{n}")
            assert (res["errors"], res["fds"]["stdout"]["text"]) == ([], f"{n}\n")
        assert fds(at.proc.pid) < 64


# -- process numbers


def test_no_processes(tmp_path):
    """The user's limit is reached: a process is in error, with EAGAIN."""
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


# -- room for captures


@pytest.fixture(params=["tempfile", "memory"])
def room(request):
    """The mode of captures, their room of 4 MiB and 60 files, and what starts the service with it."""
    options = "size=4m,nr_inodes=60,mode=0755"
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory())
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "procstar-test", place], check=True)
        # Lazily: a killed service may still be ending.
        stack.callback(subprocess.run, ["umount", "-l", place], check=True)
        if request.param == "tempfile":
            yield "tempfile", Path(place), {"env": {"PROCSTAR_CAPTURE_DIR": place}}
        else:
            # Its own view of what is mounted, so that nobody else's memory is short.
            inside = ("unshare", "-m", "sh", "-c", f'mount --bind {place} /dev/shm && exec "$@"', "sh")
            yield "memory", Path(place), {"prefix": inside, "token": TOKEN}


def test_no_room_for_output(room, tmp_path):
    """Who fills it keeps what there was room for, and somebody is told; and what is deleted makes room again."""
    mode, _, service = room
    out = ("stdout", capture(mode, attached=False))

    def missing(res, code):
        # Who writes a file is told by its own write. Who writes a pipe is not, and so the result says it.
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
        piped = {"capture": {"mode": mode, "encoding": "utf-8", "limit": {"tail": 100_000}}}
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


def test_no_more_files(room, tmp_path):
    """The capture cannot be made: that process is in error, by the fd's name."""
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
    """A memory control group of 200 MB."""
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


def test_no_memory(group, tmp_path):
    """The kernel kills who takes it all, and the result says why; keeper, agent and the others go on."""
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
