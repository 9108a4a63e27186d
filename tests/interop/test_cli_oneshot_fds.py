"""Descriptors of single runs: every kind, in every order that changes the meaning."""

import json
import os

import pytest

from support.oneshot import ok, procstar, run, run1
from support.shapes import captured
from support.specs import argv, capture, file, sh, specs

OLD = "old content\n"

# Prints which of a shell's fds are open, by builtins alone: a child, a pipe or a redirection would
# add
# to them.
LIST = "n=0; while [ $n -lt 100 ]; do if [ -e /proc/self/fd/$n ]; then echo $n%s; fi; n=$((n+1)); done"


@pytest.mark.parametrize("fd, name", [("stdin", 0), ("stdout", 1), ("stderr", 2), ("3", 3), ("77", 77)])
def test_null_works_at_any_fd(fd, name):
    res = ok(sh(f"(readlink /proc/$$/fd/{name} > $OUT); :", (fd, {"null": {}}), env=_out_env()))
    assert res["fds"] == {fd: None}
    assert _read_out() == "/dev/null\n"


@pytest.fixture(autouse=True)
def out_file(tmp_path, monkeypatch):
    """A file for the output of a process, which works with any fds."""
    monkeypatch.setenv("OUT", str(tmp_path / "out"))


def _out_env():
    return {"inherit": ["OUT"], "vars": {"PATH": "/usr/bin:/bin"}}


def _read_out():
    with open(os.environ["OUT"]) as out:
        return out.read()


def _flags_of(num):
    """A script that writes the octal open flags of fd `num` to $OUT."""
    # In a subshell, so that the shell's own stdout does not change.
    return f"(grep flags: /proc/$$/fdinfo/{num} > $OUT); :"


@pytest.mark.parametrize(
    "flags, num, access",
    [
        (None, 0, os.O_RDONLY),
        (None, 1, os.O_WRONLY),
        (None, 2, os.O_WRONLY),
        (None, 3, os.O_RDWR),
        ("Default", 0, os.O_RDONLY),
        ("Default", 1, os.O_WRONLY),
        ("Default", 9, os.O_RDWR),
        ("Read", 1, os.O_RDONLY),
        ("Write", 0, os.O_WRONLY),
        ("Replace", 5, os.O_WRONLY),
        ("Append", 5, os.O_WRONLY | os.O_APPEND),
        ("CreateAppend", 1, os.O_WRONLY | os.O_APPEND),
        ("ReadWrite", 0, os.O_RDWR),
    ],
)
@pytest.mark.parametrize("kind", ["file", "null"])
def test_flags_set_the_access(tmp_path, kind, flags, num, access):
    """The effect at opening is another test."""
    path = tmp_path / "f"
    path.write_text(OLD)
    fd = file(path, flags) if kind == "file" else {"null": {} if flags is None else {"flags": flags}}
    name = {0: "stdin", 1: "stdout", 2: "stderr"}.get(num, str(num))
    ok(sh(_flags_of(num), (name, fd), env=_out_env()))
    opened = int(_read_out().split()[1], 8)
    assert opened & (os.O_ACCMODE | os.O_APPEND) == access
    assert not opened & os.O_CLOEXEC


# Content of a file after `echo new`; None if opening it is an error.
@pytest.mark.parametrize(
    "flags, existing, missing",
    [
        ("Default", "new\n", "new\n"),
        (None, "new\n", "new\n"),
        ("Write", "new\n", "new\n"),
        ("Create", None, "new\n"),
        ("Replace", "new\n", None),
        ("Append", OLD + "new\n", None),
        ("CreateAppend", OLD + "new\n", "new\n"),
        ("ReadWrite", "new\n", "new\n"),
    ],
)
@pytest.mark.parametrize("exists", [True, False])
def test_flags_apply_to_existing_and_new_files(tmp_path, flags, existing, missing, exists):
    path = tmp_path / "f"
    if exists:
        path.write_text(OLD)
    expect = existing if exists else missing
    res = run1(sh("echo new", ("stdout", file(path, flags))))
    if expect is None:
        assert res["state"] == "error"
        (error,) = res["errors"]
        assert error.startswith("failed to set up fd 1: ")
        assert ("File exists" if exists else "No such file or directory") in error
        assert (path.read_text() if exists else path.exists()) == (OLD if exists else False)
    else:
        assert res["status"]["exit_code"] == 0
        assert path.read_text() == expect


def test_a_file_is_read_by_default_flags(tmp_path):
    """`Read` does not change it."""
    path = tmp_path / "f"
    path.write_text(OLD)
    for flags in (None, "Default", "Read"):
        res = ok(argv("/bin/cat", fds=[["stdin", file(path, flags)], ["stdout", capture()]]))
        assert captured(res) == OLD.encode()
    assert path.read_text() == OLD


@pytest.mark.parametrize("mode", [None, 0o600, 0o640, 0o444])
def test_the_mode_of_a_new_file_respects_the_umask(tmp_path, mode):
    """The default is 0o666."""
    path = tmp_path / "f"
    fd = file(path, "Write") if mode is None else file(path, "Write", mode=mode)
    ok(argv("/bin/echo", fds=[["stdout", fd]]), umask=0o022)
    assert path.stat().st_mode & 0o7777 == (0o666 if mode is None else mode) & ~0o022


def test_a_fifo_delays_only_its_process(tmp_path):
    """The child opens the files, not the keeper."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    res = run(
        {
            "reader": argv("/bin/cat", fds=[["stdin", file(fifo, "Read")], ["stdout", capture()]]),
            "writer": argv("/bin/echo", "through", fds=[["stdout", file(fifo, "Append")]]),
        }
    )
    assert captured(res["reader"]) == b"through\n"


def test_results_name_standard_fds_by_words():
    """Numbers become names; uncaptured ones are null."""
    res = ok(sh("echo a; echo b >&2; echo c >&7", ("0", {"null": {}}), ("1", capture()), ("2", capture()),
                ("7", capture()), ("8", {"null": {}})))  # fmt: skip
    assert res["fds"] == {
        "stdin": None,
        "stdout": {"type": "text", "text": "a\n", "encoding": "utf-8"},
        "stderr": {"type": "text", "text": "b\n", "encoding": "utf-8"},
        "7": {"type": "text", "text": "c\n", "encoding": "utf-8"},
        "8": None,
    }


def test_inherited_fds_are_those_of_the_program():
    """Explicitly or by default."""
    for fds in ([], [["stdin", "inherit"], ["stdout", "inherit"], ["stderr", "inherit"]]):
        spec = _spec_file(specs(a=sh("cat; echo err >&2", *map(tuple, fds)) | {"fds": fds}))
        done = procstar("--exit", spec, input=b"from outside")
        assert (done.returncode, done.stdout) == (0, b"from outside")
        assert b"err\n" in done.stderr


def _spec_file(spec):
    path = os.environ["OUT"] + ".spec.json"
    with open(path, "w") as out:
        json.dump(spec, out)
    return path


def test_a_closed_fd_is_absent():
    res = ok(sh(LIST % "", ("stdin", "close"), ("stdout", capture()), ("stderr", "close")))
    assert captured(res) == b"1\n"


def test_stdout_can_be_closed_while_another_fd_is_captured():
    res = ok(sh(LIST % " >&4", ("4", capture()), ("stdin", {"null": {}}), ("stderr", "inherit"),
                ("stdout", "close")))  # fmt: skip
    assert captured(res, "4") == b"0\n2\n4\n"
    assert res["fds"]["stdout"] is None


def test_dup_copies_the_fd_after_earlier_entries():
    said = "echo out; echo err >&2"
    res = ok(sh(said, ("stdout", capture()), ("stderr", {"dup": {"fd": 1}})))
    assert captured(res) == b"out\nerr\n"
    assert res["fds"]["stderr"] is None
    # In the other order, stderr becomes the program's own stdout.
    spec = specs(a=sh(said, ("stderr", {"dup": {"fd": 1}}), ("stdout", capture())))
    done = procstar("--print", _spec_file(spec))
    assert done.stdout.startswith(b"err\n{")
    assert b"out" not in done.stderr


def test_dup_can_swap_stdout_and_stderr():
    res = ok(
        sh("echo out; echo err >&2", ("3", capture()), ("4", capture()), ("stdout", {"dup": {"fd": 4}}),
           ("stderr", {"dup": {"fd": 3}}))
    )  # fmt: skip
    assert captured(res, "3") == b"err\n"
    assert captured(res, "4") == b"out\n"


def test_dup_can_swap_inherited_fds():
    fds = [["9", {"dup": {"fd": 1}}], ["stdout", {"dup": {"fd": 2}}], ["stderr", {"dup": {"fd": 9}}]]
    done = procstar("--exit", _spec_file(specs(a=sh("echo out; echo err >&2") | {"fds": fds})))
    assert done.stdout == b"err\n"
    assert done.stderr == b"out\n"


def test_sixty_dups_may_be_chained():
    fds = [["3", capture()]] + [[str(n), {"dup": {"fd": n - 1}}] for n in range(4, 64)]
    res = ok(sh("exec >/proc/self/fd/63; " + LIST % "", ("stdout", "inherit"), *map(tuple, fds)))
    assert captured(res, "3").split() == [str(n).encode() for n in range(64)]
    assert res["fds"]["63"] is None


def test_dup_cannot_reach_the_agents_own_fds():
    procs = {str(n): sh("true", ("200", {"dup": {"fd": n}})) for n in range(3, 64)}
    for num, res in run(procs).items():
        assert res["state"] == "error", num
        (error,) = res["errors"]
        assert error.startswith("failed to set up fd 200: ") and "Bad file descriptor" in error


def test_dup_of_a_closed_fd_fails():
    res = run1(sh("true", ("stdin", "close"), ("5", {"dup": {"fd": 0}})))
    (error,) = res["errors"]
    assert error.startswith("failed to set up fd 5: ")


def test_the_error_names_every_failing_fd(tmp_path):
    """The program is not executed then, so there is no error of exec."""
    res = run1(
        argv(
            "/nonexistent/exe",
            fds=[
                ["stdin", file(tmp_path / "no", "Read")],
                ["stdout", capture()],
                ["stderr", capture(attached=False)],
                ["3", {"null": {}}],
                ["12", file(tmp_path / "no" / "dir", "Write")],
                ["13", {"dup": {"fd": 99}}],
            ],
        )
    )
    assert res["state"] == "error"
    assert [e.rpartition(": ")[0].partition(": ")[0] for e in res["errors"]] == [
        f"failed to set up fd {n}" for n in (0, 12, 13)
    ]
    assert "No such file or directory" in res["errors"][0]
    assert res["status"] == {
        "status": 125 * 256, "exit_code": 125, "signum": None, "signal": None, "core_dump": False,
    }  # fmt: skip
    assert res["rusage"] is not None and res["times"]["stop"] is not None
    assert res["fds"] == {
        "stdin": None,
        "stdout": {"type": "text", "text": "", "encoding": "utf-8"},
        "stderr": {"type": "detached", "length": 0, "encoding": "utf-8"},
        "3": None,
        "12": None,
        "13": None,
    }


def test_no_fd_leaks_to_concurrent_children(tmp_path):
    """Each process has the three standard fds, and the one that ls opens."""
    procs = {
        f"p{i}": argv("/bin/ls", "/proc/self/fd", fds=[["stdout", capture(("memory", "tempfile")[i % 2])]])
        for i in range(60)
    }
    for res in run(procs).values():
        assert captured(res).split() == [b"0", b"1", b"2", b"3"]


def test_fds_of_the_caller_do_not_reach_children():
    read, write = os.pipe()
    try:
        spec = {"a": argv("/bin/ls", "/proc/self/fd", fds=[["stdout", capture()]])}
        res = run(spec, pass_fds=(read, write))["a"]
        assert captured(res).split() == [b"0", b"1", b"2", b"3"]
    finally:
        os.close(read)
        os.close(write)


def test_high_fd_numbers_work():
    res = ok(sh("echo high > /proc/self/fd/900", ("900", capture())))
    assert captured(res, "900") == b"high\n"
