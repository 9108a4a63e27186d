"""Attacks on named files by the process and its user. Needs root, to start as another user."""

import os
from pathlib import Path
import signal
import subprocess
import tempfile

import pytest

from support.http import Service
from support.specs import capture, sh
from support.survival import worker_pid, kill
from support.wait import eventually

BATCH = 65001

KINDS = {"direct": {}, "filtered": {"mode": "memory"}, "compressed": {"compress": "zstd"}}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def place():
    """A directory of root with one of batch, `d`, with `e`; and a private one of root with a
    file `o`."""
    with tempfile.TemporaryDirectory(prefix="procstar-named-") as path:
        path = Path(path).resolve()
        path.chmod(0o755)
        (path / "root").mkdir(mode=0o700)
        (path / "root" / "o").write_text("secret")
        for own in ("d", "d/e"):
            (path / own).mkdir()
            os.chown(path / own, BATCH, BATCH)
        yield path


def named(path, more, keep=True):
    return ("stdout", {"capture": {**capture("tempfile")["capture"], "file": {"path": str(path), "delete_with_process": not keep}, **more}})


def of_batch(proc):
    return {**proc, "user": BATCH, "group": BATCH}


def output(service, proc_id):
    rsp = service.http.get(f"/procs/{proc_id}/output/stdout/data")
    assert rsp.status_code == 200, rsp.text
    return rsp.content


def delete(service, proc_id):
    rsp = service.http.delete(f"/procs/{proc_id}")
    assert rsp.status_code == 200, rsp.text


def answers(service):
    """Asserts that the service answers soon and starts processes."""
    assert service.http.get("/healthz", timeout=10).status_code == 200
    name = f"p{os.urandom(4).hex()}"
    service.post({name: sh("exit 3")})
    assert service.result(name)["status"]["exit_code"] == 3


def check(service, code=0):
    """Asserts that the process ended this way with complete output. Sends as many requests as HTTP
    has threads, so that a blocked thread is noticed."""
    for _ in range(4):
        res = service.result("p")
        assert res["status"]["exit_code"] == code
        assert res["captures"]["stdout"]["complete"] and res["captures"]["stdout"]["length"] == 5
        assert output(service, "p") == b"mine\n"


def worker_dies(service):
    old = worker_pid(service.proc.pid)
    kill(old, signal.SIGKILL)
    eventually(lambda: worker_pid(service.proc.pid) not in (None, old), "another worker")
    eventually(service._listens, "the service listens again")


def upgrade(service):
    old = worker_pid(service.proc.pid)
    service.proc.send_signal(signal.SIGHUP)
    eventually(lambda: "upgraded path=" in service.log(), "an upgrade")
    eventually(lambda: worker_pid(service.proc.pid) not in (None, old), "another worker")
    eventually(service._listens, "the service listens again")


@pytest.mark.parametrize("then", [lambda _: None, worker_dies, upgrade], ids=["same", "worker", "upgrade"])
def test_a_directory_replaced_by_a_link_gives_no_access(place, kind, then):
    """No file of root is read or removed; the capture is read and removed at its new path."""
    with Service() as service:
        script = f"echo mine; mv {place}/d/e {place}/d/f; ln -s {place}/root {place}/d/e"
        service.post({"p": of_batch(sh(script, named(place / "d/e/o", kind, keep=False)))})
        check(service)
        then(service)
        check(service)
        delete(service, "p")
        # The file is removed before the answer is sent.
        assert not (place / "d/f/o").exists()
        assert (place / "root/o").read_text() == "secret"


def test_a_link_present_before_the_start_is_refused(place, kind):
    (place / "d/link").symlink_to(place / "root")
    with Service() as service:
        service.post({"p": of_batch(sh("echo mine", named(place / "d/link/new", kind)))})
        res = service.result("p")
        assert res["state"] == "error" and "Too many levels of symbolic links" in res["errors"][0]
        assert f"{place}/d/link is a symbolic link" in res["errors"][0]
        assert os.listdir(place / "root") == ["o"]


@pytest.mark.parametrize("then", [lambda _: None, worker_dies, upgrade], ids=["same", "worker", "upgrade"])
def test_a_fifo_blocks_neither_engine_nor_http(place, kind, then):
    with Service() as service:
        script = f"cd {place}/d; echo mine; mv o o2; mkfifo o; exit 5"
        service.post({"p": of_batch(sh(script, named(place / "d/o", kind)))})
        check(service, 5)
        answers(service)
        then(service)
        check(service, 5)
        answers(service)
        # The service ends normally.
        service.proc.send_signal(signal.SIGTERM)
        eventually(lambda: service.proc.poll() is not None, "the service's end")


def test_a_fifo_in_place_of_an_ended_capture_blocks_nothing(place, kind):
    with Service() as service:
        service.post({"p": of_batch(sh("echo mine", named(place / "d/o", kind)))})
        service.result("p")
        (place / "d/o").rename(place / "d/o2")
        os.mkfifo(place / "d/o")
        check(service)
        answers(service)


def test_a_dead_mount_over_the_directory_blocks_nothing(place, kind):
    """Every access to a file system that never answers hangs until it is removed."""
    with Service() as service:
        hold = f"echo mine; until [ -e {place}/go ]; do sleep 0.01; done; exit 5"
        service.post({"p": of_batch(sh(hold, named(place / "d/e/o", kind, keep=False)))})
        eventually(lambda: (place / "d/e/o").exists(), "the file")
        with dead_mount(place / "d/e"):
            (place / "go").touch()
            check(service, 5)
            answers(service)
            delete(service, "p")
            answers(service)
            # A process whose file is created there waits, and delays no other.
            service.post({"q": of_batch(sh("echo mine", named(place / "d/e/o", kind)))})
            answers(service)
        assert not (place / "d/e/o").exists() or service.result("q")


def keeper_dies(place, tmp_path, kind, after):
    """Kills the keeper while one process runs and another has exited; calls `after` before the
    next start."""
    with Service("--state-dir", tmp_path / "state") as service:
        hold = f"echo mine; until [ -e {place}/go ]; do sleep 0.01; done; exit 5"
        service.post({
            "p": of_batch(sh("echo mine", named(place / "d/e/o", kind, keep=False))),
            "q": of_batch(sh(hold, named(place / "d/e/q", kind, keep=False))),
        })
        service.result("p")
        eventually(lambda: service.result("q", ended=False)["state"] == "running", "its start")
    after()
    return Service("--state-dir", tmp_path / "state")


def test_files_are_found_again_after_a_crash(place, tmp_path, kind):
    with keeper_dies(place, tmp_path, kind, lambda: None) as service:
        check(service)
        (place / "go").touch()
        assert service.result("q")["captures"]["stdout"]["length"] in (0, 5)
        for name in "p", "q":
            delete(service, name)
        assert os.listdir(place / "d/e") == []


def test_a_link_or_fifo_does_not_replace_a_file_after_a_crash(place, tmp_path, kind):
    def swap():
        (place / "d/e").rename(place / "d/f")
        (place / "d/e").symlink_to(place / "root")
        (place / "root/q").write_text("secret")

    with keeper_dies(place, tmp_path, kind, swap) as service:
        rsp = service.http.get("/procs/p/output/stdout/data")
        assert rsp.status_code in (404, 410) and b"secret" not in rsp.content
        assert service.result("p")["captures"]["stdout"]["reason"] == "gone"
        (place / "go").touch()
        service.result("q")
        for name in "p", "q":
            assert b"secret" not in service.http.get(f"/procs/{name}").content
            delete(service, name)
        answers(service)
        assert sorted(os.listdir(place / "root")) == ["o", "q"]


def test_a_dead_mount_only_delays_the_start_after_a_crash(place, tmp_path):
    mount = dead_mount(place / "d/e")
    try:
        with keeper_dies(place, tmp_path, {}, mount.__enter__) as service:
            assert service.result("p")["captures"]["stdout"]["reason"] == "gone"
            answers(service)
    finally:
        mount.__exit__()


class dead_mount:
    """Mounts a file system whose server never answers, like that of an unreachable host."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0,allow_other"
        mount = f"""import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"dead", {str(self.path).encode()!r}, b"fuse", 0, {options.encode()!r}):
    sys.exit(str(ctypes.get_errno()))"""
        done = subprocess.run(["python3", "-c", mount], pass_fds=[self.fuse], capture_output=True, text=True)
        if done.returncode:
            os.close(self.fuse)
            pytest.skip(f"cannot mount: {done.stderr}")
        return self

    def __exit__(self, *_):
        # All waiting accesses fail then.
        os.close(self.fuse)
        subprocess.run(["umount", "-l", self.path], check=True)
