"""One-shot: what a child writes is what the result has, to the byte."""

import hashlib
import json
import os
import resource
import signal

import pytest

from support.oneshot import ok, procstar, run, run1
from support.shapes import captured
from support.specs import SH, argv, capture, sh, specs

MODES = pytest.mark.parametrize("mode", ["memory", "tempfile"])
ALL_BYTES = bytes(range(256)) * 3
NOT_UTF8 = b"ok \xff\xfe \xe2\x82 \xf0\x9f\x98\x80 \xed\xa0\x80 \xc0\xaf \xf0\x9f end \xe2"


def _cat(path, fd):
    return argv("/bin/cat", path, fds=[["stdout", fd]])


@MODES
def test_binary(tmp_path, mode):
    """Encoding null gives base64 of exactly the bytes."""
    (tmp_path / "f").write_bytes(ALL_BYTES)
    res = ok(_cat(tmp_path / "f", capture(mode, None)))
    assert res["fds"]["stdout"]["type"] == "data"
    assert res["fds"]["stdout"]["encoding"] == "base64"
    assert captured(res) == ALL_BYTES


def test_defaults_of_a_capture(tmp_path):
    """tempfile, null and attached are what an empty capture means."""
    (tmp_path / "f").write_bytes(ALL_BYTES)
    res = ok(_cat(tmp_path / "f", {"capture": {}}))
    assert set(res["fds"]["stdout"]) == {"type", "data", "encoding"}
    assert captured(res) == ALL_BYTES
    target = ok(sh("readlink /proc/self/fd/1", ("stdout", {"capture": {}})))
    assert captured(target).startswith(b"/")


@MODES
def test_text(mode):
    """Text of any script, with quotes, controls and NUL."""
    text = 'naïve 日本 🦀 "quoted" \\ tab\t nul'
    res = ok(argv("/usr/bin/printf", r"%s\0\001\n", text, fds=[["stdout", capture(mode)]]))
    assert res["fds"]["stdout"] == {"type": "text", "text": text + "\0\1\n", "encoding": "utf-8"}


@MODES
def test_invalid_text_is_replaced(tmp_path, mode):
    """A result is valid UTF-8 whatever was written."""
    (tmp_path / "f").write_bytes(NOT_UTF8)
    res = ok(_cat(tmp_path / "f", capture(mode)))
    assert res["fds"]["stdout"]["text"] == NOT_UTF8.decode(errors="replace")


@MODES
def test_nothing_written(mode):
    """An empty capture is empty, not null."""
    res = ok(sh("true", ("stdout", capture(mode)), ("stderr", capture(mode, None))))
    assert res["fds"]["stdout"] == {"type": "text", "text": "", "encoding": "utf-8"}
    assert res["fds"]["stderr"] == {"type": "data", "data": "", "encoding": "base64"}


@MODES
@pytest.mark.parametrize("encoding, named", [("utf-8", "utf-8"), (None, "base64")])
def test_detached(mode, encoding, named):
    """A detached capture tells its length only."""
    res = ok(sh("printf 12345", ("stdout", capture(mode, encoding, attached=False))))
    assert res["fds"]["stdout"] == {"type": "detached", "length": 5, "encoding": named}


@MODES
@pytest.mark.parametrize("encoding", ["utf-8", None])
def test_100_mb(mode, encoding):
    """A large capture comes whole."""
    line = b"0123456789abcde\n"
    count = 100_000_000
    script = f"yes 0123456789abcde | head -c {count}"
    res = ok(sh(script, ("stdout", capture(mode, encoding))), timeout=100)
    data = captured(res)
    assert len(data) == count
    assert hashlib.sha256(data).digest() == hashlib.sha256(line * (count // len(line))).digest()


@MODES
def test_many_writers_lose_nothing(mode):
    """Concurrent writers of one fd: every line is there once."""
    script = "for i in 1 2 3 4 5 6 7 8; do (for n in $(seq 2000); do echo $i-$n; done) & done; wait"
    lines = captured(ok(sh(script, ("stdout", capture(mode))))).decode().split()
    expect = {f"{i}-{n}" for i in range(1, 9) for n in range(1, 2001)}
    assert len(lines) == len(expect) and set(lines) == expect


def test_reopened_stderr():
    """`> /dev/stderr` truncates files, but a pipe is immune."""
    res = ok(sh("echo one >&2; echo two > /dev/stderr", ("stderr", capture("memory"))))
    assert captured(res, "stderr") == b"one\ntwo\n"


@pytest.mark.parametrize(
    "script, left",
    [
        ("echo one >&2; echo two > /dev/stderr", b"two\n"),
        ("echo one >&2; echo something longer than what was there before > /dev/stderr; echo three >&2", None),
        ("echo one >&2; : > /proc/self/fd/2", b""),
        ("echo one >&2; (for i in 1 2 3; do echo $i; done) | tee /dev/stderr >/dev/null; echo four >&2", b"1\n2\n3\nfour\n"),
        ("echo one >&2; sh -c 'exec 1<>/dev/stderr; echo two'", None),
    ],
)
def test_a_truncated_capture_is_not_complete(script, left):
    """A process that opens its own file again loses what it had written: what is left is told to be a part."""
    res = ok(sh(script, ("stderr", capture("tempfile"))))
    told = res["captures"]["stderr"]
    assert (told["complete"], told["reason"]) == (False, "truncated"), told
    assert told["length"] == len(captured(res, "stderr"))
    if left is not None:
        assert captured(res, "stderr") == left


@pytest.mark.parametrize("script", ["echo one >&2; echo two >> /dev/stderr", "echo one >&2; cat /proc/self/fd/2"])
def test_what_is_appended_or_read_again_is_complete(script):
    """Only truncation loses anything."""
    res = ok(sh(script, ("stderr", capture("tempfile")), ("stdout", {"null": {}})))
    assert captured(res, "stderr").startswith(b"one\n")
    assert res["captures"]["stderr"]["complete"] and res["captures"]["stderr"]["reason"] is None


def test_a_limit_on_the_size_of_files_does_not_count_anything_of_ours():
    """As many bytes as the limit allows are captured."""
    res = run1(sh("head -c 2000 /dev/zero", ("stdout", capture("tempfile", None)), limits={"fsize": 1000}))
    assert len(captured(res)) == 1000 and res["captures"]["stdout"]["complete"]


@pytest.mark.parametrize(
    "more",
    [
        {"exe": "/nope"},
        {"env": {"vars": {"X": {"file": "/nope"}}}},
        {"cwd": "/nope"},
        {"fds": [["0", {"file": {"path": "/nope"}}]]},
        {"fds": [["3", {"capture": {"file": {"path": "/nope/x"}}}]]},
    ],
    ids=str,
)
def test_captures_of_what_did_not_start_are_not_complete(more):
    """Whatever it was that failed: nothing that the program would have written was captured."""
    fds = [["1", capture("memory")], ["2", capture("tempfile")]] + more.get("fds", [])
    res = run1(argv("/bin/true", **more | {"fds": fds}))
    assert res["state"] == "error" and len(res["captures"]) >= 2
    for told in res["captures"].values():
        assert (told["length"], told["complete"], told["reason"]) == (0, False, "setup"), res["captures"]


def test_every_fd_that_fails_has_its_failure_beside_that_of_the_fork():
    """Twenty captures have no room under a low limit; under some of these limits the fork has none either."""
    fds = [[str(fd), capture("memory")] for fd in range(3, 23)]
    text = json.dumps(specs(a=argv("/bin/true", fds=fds))).encode()
    both = False
    for limit in range(30, 70):
        limited = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        done = procstar("--print", "-", input=text, preexec_fn=limited)
        if done.returncode != 0:
            # Not even the program itself has room.
            continue
        res = json.loads(done.stdout)["a"]
        if res["state"] != "error":
            break
        failed = {failure["fd"] for failure in res["failures"] if failure["stage"] == "fd"}
        both |= bool(failed) and any(failure["stage"] == "fork" for failure in res["failures"])
        # All after the first that found no room.
        assert not failed or failed == {str(fd) for fd in range(min(map(int, failed)), 23)}, (limit, res["errors"])
        assert all(told["reason"] == "setup" and not told["complete"] for told in res["captures"].values())
    assert both


def test_captures_are_complete():
    """Our own key: how much was captured, and that it is all."""
    res = ok(sh("printf 12345; printf 1 >&2", ("stdout", capture()), ("stderr", capture("tempfile", None, False)),
                ("3", {"null": {}})))  # fmt: skip
    assert res["captures"] == {
        "stdout": {"length": 5, "dropped": 0, "complete": True, "reason": None, "sha256": hashlib.sha256(b"12345").hexdigest()},
        "stderr": {"length": 1, "dropped": 0, "complete": True, "reason": None, "sha256": hashlib.sha256(b"1").hexdigest()},
    }


def test_survivor_holds_the_pipe():
    """A descendant that keeps the pipe open delays the result a little, and it says so."""
    res = ok(sh("sleep 500 & echo $!"), timeout=30)
    os.kill(int(captured(res)), signal.SIGKILL)
    assert res["times"]["elapsed"] < 10
    sha256 = hashlib.sha256(captured(res)).hexdigest()
    cut = {"length": len(captured(res)), "dropped": 0, "complete": False, "reason": "survivor", "sha256": sha256}
    assert res["captures"]["stdout"] == cut


def test_tempfiles_are_the_users_alone_and_gone_at_the_end(tmp_path):
    """They are in the instance's directory in TMPDIR, which nobody else may enter, and which goes with the instance."""
    script = "f=$(readlink /proc/$$/fd/1); echo $f; stat -L -c %a /proc/self/fd/1 $(dirname $f)"
    res = ok(sh(script, ("stdout", capture("tempfile"))), env=os.environ | {"TMPDIR": str(tmp_path)})
    path, *modes = captured(res).decode().split()
    assert path.startswith(f"{tmp_path}/procstar-{os.getuid()}/")
    assert modes == ["600", "700"]
    assert list(tmp_path.iterdir()) == []


def test_capture_at_many_fds():
    """Each of 40 captures has its own bytes."""
    fds = [(str(n), capture(("memory", "tempfile")[n % 2])) for n in range(3, 43)]
    res = ok(sh("for n in $(seq 3 42); do echo fd $n > /proc/$$/fd/$n; done", *fds))
    for num in range(3, 43):
        assert captured(res, str(num)) == f"fd {num}\n".encode()


@MODES
def test_many_processes(mode):
    """3,000 processes of one spec, each with its own result."""
    procs = {
        f"p{i}": argv(SH, "-c", f"exit {i % 7}", fds=[["stdout", capture(mode)], ["stderr", capture(mode)]])
        if i % 100 == 0
        else argv("/usr/bin/true", fds=[["stdout", capture(mode)], ["stderr", capture(mode)]])
        for i in range(3000)
    }
    results = run(procs, timeout=100)
    assert len({r["pid"] for r in results.values()}) == 3000
    for i in range(3000):
        res = results[f"p{i}"]
        assert res["state"] == "terminated"
        assert res["status"]["exit_code"] == (i % 7 if i % 100 == 0 else 0)
        assert res["fds"]["stdout"]["text"] == ""


def test_output_may_come_before_the_results():
    """The results follow what children wrote to the same stdout."""
    done = procstar("--print", "-", input=json.dumps(specs(a=sh("echo child") | {"fds": []})).encode())
    first, last = done.stdout.splitlines()
    assert first == b"child"
    assert last.startswith(b"{") and done.stdout.endswith(b"}\n")


def test_error_keeps_what_was_captured():
    """A capture of a process that did not start is there, and empty."""
    res = run1(argv("/nonexistent", fds=[["stdout", capture()], ["stderr", capture("tempfile", None, False)]]))
    assert res["fds"] == {
        "stdout": {"type": "text", "text": "", "encoding": "utf-8"},
        "stderr": {"type": "detached", "length": 0, "encoding": "base64"},
    }

