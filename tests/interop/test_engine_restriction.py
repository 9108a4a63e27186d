"""Attacks by the author of a spec on restricted executables. Each one succeeded against an earlier
version."""

import base64
import contextlib
import os
from pathlib import Path
import shutil
import subprocess
import threading

import pytest

from support.oneshot import ok, run1
from support.shapes import captured
from support.specs import argv, capture, sh
from support.wait import eventually

OUT = [["stdout", capture()]]
CAT, ENV, ECHO, BASH = (os.path.realpath(path) for path in ("/bin/cat", "/usr/bin/env", "/bin/echo", "/bin/bash"))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: needs root")


def refused(proc, *args, **kw):
    """Errors of a PROC that is not started."""
    res = run1(proc, *args, **kw)
    assert res["state"] == "error", (res["state"], captured(res))
    return res["errors"]


def configured(tmp_path, **settings):
    """Options of a run with these settings below [run]."""
    path = tmp_path / "restriction.toml"
    lines = [f"{key} = {value!r}" for key, value in settings.items()]
    path.write_text("\n".join(["[run]", *lines, ""]))
    return ("--config", path)


def library():
    """Content of a shared library of this machine."""
    maps = Path("/proc/self/maps").read_text().split()
    return Path(next(path for path in maps if "/libm.so" in path or "/libc.so" in path)).read_bytes()


# Variables


def test_libraries_of_the_spec_are_not_loaded(tmp_path):
    """LD_PRELOAD with the path of given data would map code into the allowed program."""
    data = ["9", {"data": {"base64": base64.b64encode(library()).decode()}}]
    preload = {"inherit": False, "vars": {"LD_PRELOAD": "/proc/self/fd/9"}}
    proc = argv(CAT, "/proc/self/maps", env=preload, fds=[*OUT, data])
    # The file of data has no name. Without a restriction this is allowed.
    assert "(deleted)" in captured(ok(proc)).decode()
    res = ok(proc, "--restrict-exe", CAT)
    assert "(deleted)" not in captured(res).decode()
    (warning,) = res["warnings"]
    assert "LD_PRELOAD" in warning and "run.allowed_variables" in warning
    allowed = configured(tmp_path, allowed_executables=CAT, allowed_variables=["LD_PRELOAD"])
    res = ok(proc, *allowed)
    assert "(deleted)" in captured(res).decode() and res["warnings"] == []


def test_interpreters_do_not_run_code_of_the_spec():
    """bash would run the code of BASH_ENV before its own script."""
    fds = [*OUT, ["9", {"data": {"text": "echo hooked"}}]]
    proc = sh("true", *fds) | {"argv": [BASH, "-c", "echo done"], "env": {"vars": {"BASH_ENV": "/proc/self/fd/9"}}}
    assert captured(ok(proc)) == b"hooked\ndone\n"
    assert captured(ok(proc, "--restrict-exe", BASH)) == b"done\n"


def test_variables_that_run_code_are_removed(tmp_path):
    """This applies to variables of the spec and of the program. The result names them, and others
    are passed on."""
    given = {name: "x" for name in "LD_AUDIT GCONV_PATH GLIBC_TUNABLES ENV PYTHONSTARTUP PERL5OPT RUBYOPT NODE_OPTIONS".split()}
    given |= {name: "x" for name in "MALLOC_TRACE LOCPATH NLSPATH HOSTALIASES JAVA_TOOL_OPTIONS GIT_SSH_COMMAND".split()}
    harmless = {"LANG": "C", "JOB": "7", "GIT_AUTHOR_NAME": "me", "NODE_ENV": "test"}
    proc = argv(ENV, fds=OUT, env={"inherit": ["PYTHONPATH", "HOME"], "in_result": True, "vars": given | harmless})
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": "/opt/x", "HOME": "/root"}
    free = ok(proc, env=env)
    assert set(given) < set(free["env"]) and free["warnings"] == []
    res = ok(proc, "--restrict-exe", ENV, env=env)
    seen = dict(line.split("=", 1) for line in captured(res).decode().splitlines())
    assert seen == res["env"] == harmless | {"HOME": "/root"}
    (warning,) = res["warnings"]
    assert all(name in warning for name in [*given, "PYTHONPATH"])
    args = configured(tmp_path, allowed_executables=ENV, allowed_variables=["PYTHONPATH", "LOCPATH"])
    seen = ok(proc, *args, env=env)["env"]
    assert seen == harmless | {"HOME": "/root", "PYTHONPATH": "/opt/x", "LOCPATH": "x"}


# Executables


@contextlib.contextmanager
def other_namespace(target, source):
    """Pid of a process in a mount namespace with another file at a path."""
    script = f"mount --bind {source} {target} && echo ready && exec sleep 1000"
    command = ["unshare", "-mr" if os.geteuid() else "-m", "sh", "-c", script]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline() != "ready\n":
            pytest.skip("NOT TESTED: no mount namespace can be made here")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_another_mount_namespace_does_not_bypass_a_glob(tmp_path):
    """In another namespace any file can have any path: a path below /proc/PID/root proves nothing."""
    bin = tmp_path / "bin"
    bin.mkdir()
    shutil.copy(CAT, bin / "tool")
    (tmp_path / "evil").write_text("#!/bin/sh\necho evil\n")
    shutil.copy(ECHO, tmp_path / "evil")
    with other_namespace(bin / "tool", tmp_path / "evil") as pid:
        proc = argv(f"/proc/{pid}/root{bin}/tool", "evil", fds=OUT)
        # The attack: the other file would run.
        assert captured(ok(proc)) == b"evil\n"
        (error,) = refused(proc, "--restrict-exe", f"{bin}/*")
        assert error.startswith(f"restricted executable: {bin}/*")
        # The same by a harmless-looking link, by the working directory, and with an allowed literal
        # path.
        (tmp_path / "link").symlink_to(f"/proc/{pid}/root{bin}")
        refused(argv(f"{tmp_path}/link/tool", "evil", fds=OUT), "--restrict-exe", f"{bin}/*")
        refused(argv("tool", "evil", cwd=f"/proc/{pid}/root{bin}", fds=OUT), "--restrict-exe", f"{bin}/*")
        refused(proc, "--restrict-exe", f"/proc/{pid}/root{bin}/tool")
    assert captured(ok(argv(f"{bin}/tool", "/dev/null", fds=OUT), "--restrict-exe", f"{bin}/*")) == b""


def test_a_descriptor_does_not_bypass_a_glob(tmp_path):
    """The author of a spec chooses a part of the path of given data."""
    data = ["9", {"data": {"base64": base64.b64encode(Path(ECHO).read_bytes()).decode()}}]
    for path in ("/proc/self/fd/9", "/dev/fd/9", "/proc/self/exe", "/proc/self/root/bin/echo"):
        refused(argv(path, "x", fds=[*OUT, data]), "--restrict-exe", "/proc/**", "--restrict-exe", "/memfd:*")


def test_a_swapped_allowed_path_runs_the_checked_file(tmp_path):
    """This also holds for a literal path, and for a path through a link."""
    shutil.copy(ECHO, tmp_path / "good")
    (tmp_path / "tool").symlink_to("good")
    proc = argv(f"{tmp_path}/tool", "x", fds=OUT)
    res = ok(proc, "--restrict-exe", f"{tmp_path}/tool")
    assert captured(res) == b"x\n" and res["exe"] == f"{tmp_path}/tool"
    over = threading.Event()

    def swap():
        n = 0
        while not over.is_set():
            (tmp_path / "new").symlink_to(("/nonexistent", "good")[n % 2])
            (tmp_path / "new").rename(tmp_path / "tool")
            n += 1

    # A missing file is an error of its own.
    (tmp_path / "tool").unlink()
    (error,) = refused(proc, "--restrict-exe", f"{tmp_path}/tool")
    assert error.startswith(f"execve failed: {tmp_path}/tool: No such file")
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        eventually(lambda: (tmp_path / "tool").is_symlink(), "the first link")
        for _ in range(5):
            res = run1(proc, "--restrict-exe", f"{tmp_path}/tool")
            assert res["state"] == "terminated" or "No such file" in res["errors"][0], res["errors"]
    finally:
        over.set()
        swapper.join()


def test_an_allowed_script_keeps_its_name(tmp_path):
    """Its interpreter opens it again by the allowed path."""
    (tmp_path / "real").write_text("#!/bin/sh\necho $0 $1\n")
    (tmp_path / "real").chmod(0o755)
    (tmp_path / "script").symlink_to("real")
    proc = argv(f"{tmp_path}/script", "x", fds=OUT)
    assert captured(ok(proc, "--restrict-exe", f"{tmp_path}/script")).decode() == f"{tmp_path}/script x\n"
    assert captured(ok(proc, "--restrict-exe", f"{tmp_path}/*")).decode() == f"{tmp_path}/real x\n"


# Files


def test_variables_of_files_are_read_in_allowed_directories_only(tmp_path):
    """With `in_result`, the result would show any file that the program can read."""
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "value").write_text("v")
    (tmp_path / "open" / "link").symlink_to("../secret")

    def of(path):
        return argv(ENV, fds=OUT, env={"inherit": False, "in_result": True, "vars": {"X": {"file": str(path)}}})

    assert ok(of(tmp_path / "secret"))["env"] == {"X": "hunter2"}
    (error,) = refused(of(tmp_path / "secret"), "--restrict-exe", ENV)
    assert error.startswith(f"failed to set env: {tmp_path}/secret: Operation not permitted") and "allowed_directories" in error
    refused(of(tmp_path / "open" / "value"), "--restrict-exe", ENV)
    args = configured(tmp_path, allowed_executables=ENV, allowed_directories=[f"{tmp_path}/open"])
    assert ok(of(tmp_path / "open" / "value"), *args)["env"] == {"X": "v"}
    for path in ("secret", "open/../secret", "open/link", "open"):
        errors = refused(of(tmp_path / path), *args)
        assert "hunter2" not in str(errors), path
    # A removed variable must not make the program read a file.
    proc = argv(ENV, fds=OUT, env={"inherit": False, "vars": {"LD_X": {"file": f"{tmp_path}/secret"}}})
    refused(proc, *args)


def test_files_of_fds_are_in_allowed_directories_only(tmp_path):
    """A spec could otherwise read and write any file that the user can."""
    (tmp_path / "secret").write_text("hunter2")
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to("../secret")
    (tmp_path / "open" / "in").write_text("in")

    def read(path, **kw):
        return argv(CAT, fds=[["stdin", {"file": {"path": str(path)}}], *OUT], **kw)

    def write(path, flags="Write"):
        return argv(CAT, "/dev/null", fds=[["stdout", {"file": {"path": str(path), "flags": flags}}]])

    assert captured(ok(read(tmp_path / "secret"))) == b"hunter2"
    (error,) = refused(read(tmp_path / "secret"), "--restrict-exe", CAT)
    assert error.startswith("failed to set up fd 0: Operation not permitted") and "run.allowed_directories" in error
    args = configured(tmp_path, allowed_executables=CAT, allowed_directories=[f"{tmp_path}/open"])
    assert captured(ok(read(tmp_path / "open" / "in"), *args)) == b"in"
    assert captured(ok(read("in", cwd=f"{tmp_path}/open"), *args)) == b"in"
    for flags in ("Write", "CreateAppend", "ReadWrite", "Replace", "Append"):
        ok(write(tmp_path / "open" / "out", flags), *args)
    for path in ("secret", "new", "open/../secret", "open/link", "open/../new"):
        (error,) = refused(write(tmp_path / path), *args)
        assert error.startswith("failed to set up fd 1: "), path
    (error,) = refused(read("../secret", cwd=f"{tmp_path}/open"), *args)
    assert "leads out of" in error or "is not below" in error
    assert (tmp_path / "secret").read_text() == "hunter2" and not (tmp_path / "new").exists()
    # Every process can use /dev/null, by any key.
    ok(argv(CAT, fds=[["stdin", {"null": {}}], ["stdout", {"file": {"path": "/dev/null"}}]]), "--restrict-exe", CAT)


def test_capture_files_are_in_allowed_directories_only(tmp_path):
    """The program writes them for the spec."""
    (tmp_path / "open").mkdir()

    def to(path):
        return argv(ECHO, "x", fds=[["stdout", {"capture": {"file": {"path": str(path)}}}]])

    ok(to(tmp_path / "free"))
    (error,) = refused(to(tmp_path / "new"), "--restrict-exe", ECHO)
    assert error.startswith("failed to set up fd 1: Operation not permitted") and "run.allowed_directories" in error
    args = configured(tmp_path, allowed_executables=ECHO, allowed_directories=[f"{tmp_path}/open"])
    ok(to(tmp_path / "open" / "out"), *args)
    assert (tmp_path / "open" / "out").read_text() == "x\n"
    (tmp_path / "open" / "up").symlink_to("..")
    for path in ("new", "open/../new", "open/up/new"):
        refused(to(tmp_path / path), *args)
    assert not (tmp_path / "new").exists()
