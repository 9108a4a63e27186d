"""Captures of single runs: the result has exactly the bytes of the output."""

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
def test_binary_output_is_exact_in_base64(tmp_path, mode):
    (tmp_path / "f").write_bytes(ALL_BYTES)
    res = ok(_cat(tmp_path / "f", capture(mode, None)))
    assert res["fds"]["stdout"]["type"] == "data"
    assert res["fds"]["stdout"]["encoding"] == "base64"
    assert captured(res) == ALL_BYTES


def test_an_empty_capture_has_defaults(tmp_path):
    """The defaults are tempfile, null and attached."""
    (tmp_path / "f").write_bytes(ALL_BYTES)
    res = ok(_cat(tmp_path / "f", {"capture": {}}))
    assert set(res["fds"]["stdout"]) == {"type", "data", "encoding"}
    assert captured(res) == ALL_BYTES
    target = ok(sh("readlink /proc/self/fd/1", ("stdout", {"capture": {}})))
    assert captured(target).startswith(b"/")


@MODES
def test_text_is_exact(mode):
    """Other scripts, quotes, control characters, NUL."""
    text = 'naïve 日本 🦀 "quoted" \\ tab\t nul'
    res = ok(argv("/usr/bin/printf", r"%s\0\001\n", text, fds=[["stdout", capture(mode)]]))
    assert res["fds"]["stdout"] == {"type": "text", "text": text + "\0\1\n", "encoding": "utf-8"}


@MODES
def test_invalid_text_is_replaced(tmp_path, mode):
    (tmp_path / "f").write_bytes(NOT_UTF8)
    res = ok(_cat(tmp_path / "f", capture(mode)))
    assert res["fds"]["stdout"]["text"] == NOT_UTF8.decode(errors="replace")


@MODES
def test_no_output_is_empty_and_not_null(mode):
    res = ok(sh("true", ("stdout", capture(mode)), ("stderr", capture(mode, None))))
    assert res["fds"]["stdout"] == {"type": "text", "text": "", "encoding": "utf-8"}
    assert res["fds"]["stderr"] == {"type": "data", "data": "", "encoding": "base64"}


@MODES
@pytest.mark.parametrize("encoding, named", [("utf-8", "utf-8"), (None, "base64")])
def test_a_detached_capture_has_only_its_length(mode, encoding, named):
    res = ok(sh("printf 12345", ("stdout", capture(mode, encoding, attached=False))))
    assert res["fds"]["stdout"] == {"type": "detached", "length": 5, "encoding": named}


@MODES
@pytest.mark.parametrize("encoding", ["utf-8", None])
def test_a_capture_of_100_mb_is_complete(mode, encoding):
    line = b"0123456789abcde\n"
    count = 100_000_000
    script = f"yes 0123456789abcde | head -c {count}"
    res = ok(sh(script, ("stdout", capture(mode, encoding))), timeout=100)
    data = captured(res)
    assert len(data) == count
    assert hashlib.sha256(data).digest() == hashlib.sha256(line * (count // len(line))).digest()


@MODES
def test_concurrent_writers_lose_nothing(mode):
    script = "for i in 1 2 3 4 5 6 7 8; do (for n in $(seq 2000); do echo $i-$n; done) & done; wait"
    lines = captured(ok(sh(script, ("stdout", capture(mode))))).decode().split()
    expect = {f"{i}-{n}" for i in range(1, 9) for n in range(1, 2001)}
    assert len(lines) == len(expect) and set(lines) == expect


def test_reopening_truncates_files_but_not_pipes():
    """`> /dev/stderr`"""
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
def test_a_truncated_capture_is_incomplete(script, left):
    """A process that opens its own file again loses earlier output."""
    res = ok(sh(script, ("stderr", capture("tempfile"))))
    record = res["captures"]["stderr"]
    assert (record["complete"], record["reason"]) == (False, "overwritten"), record
    assert record["length"] == len(captured(res, "stderr"))
    if left is not None:
        assert captured(res, "stderr") == left


@pytest.mark.parametrize("script", ["echo one >&2; echo two >> /dev/stderr", "echo one >&2; cat /proc/self/fd/2"])
def test_appended_or_reread_output_is_complete(script):
    res = ok(sh(script, ("stderr", capture("tempfile")), ("stdout", {"null": {}})))
    assert captured(res, "stderr").startswith(b"one\n")
    assert res["captures"]["stderr"]["complete"] and res["captures"]["stderr"]["reason"] is None


def test_the_programs_own_files_do_not_reduce_the_limit_of_file_sizes():
    """As many bytes as the limit allows are captured."""
    res = run1(sh("head -c 2000 /dev/zero", ("stdout", capture("tempfile", None)), rlimits={"fsize": 1000}))
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
def test_captures_of_failed_starts_are_incomplete(more):
    fds = [["1", capture("memory")], ["2", capture("tempfile")]] + more.get("fds", [])
    res = run1(argv("/bin/true", **more | {"fds": fds}))
    assert res["state"] == "error" and len(res["captures"]) >= 2
    for record in res["captures"].values():
        assert (record["length"], record["complete"], record["reason"]) == (0, False, "not_started"), res["captures"]


def test_each_failed_fd_has_a_failure_beside_that_of_the_fork():
    """Under a low limit there are no descriptors for twenty captures, nor sometimes for the
    fork."""
    fds = [[str(fd), capture("memory")] for fd in range(3, 23)]
    text = json.dumps(specs(a=argv("/bin/true", fds=fds))).encode()
    both = False
    for limit in range(30, 70):
        limited = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        done = procstar("--print", "-", input=text, preexec_fn=limited)
        if done.returncode != 0:
            # The program itself cannot start.
            continue
        res = json.loads(done.stdout)["a"]
        if res["state"] != "error":
            break
        failed = {failure["fd"] for failure in res["failures"] if failure["stage"] == "fd"}
        both |= bool(failed) and any(failure["stage"] == "fork" for failure in res["failures"])
        # The first fd without a descriptor, and all later ones.
        assert not failed or failed == {str(fd) for fd in range(min(map(int, failed)), 23)}, (limit, res["errors"])
        assert all(record["reason"] == "not_started" and not record["complete"] for record in res["captures"].values())
    assert both


def test_captures_report_their_completeness():
    res = ok(sh("printf 12345; printf 1 >&2", ("stdout", capture()), ("stderr", capture("tempfile", None, False)),
                ("3", {"null": {}})))  # fmt: skip
    assert res["captures"] == {
        "stdout": {"length": 5, "dropped": 0, "complete": True, "reason": None, "sha256": hashlib.sha256(b"12345").hexdigest()},
        "stderr": {"length": 1, "dropped": 0, "complete": True, "reason": None, "sha256": hashlib.sha256(b"1").hexdigest()},
    }


def test_a_survivor_that_holds_the_pipe_is_reported():
    """The result is delayed by the drain timeout."""
    res = ok(sh("sleep 500 & echo $!"), timeout=30)
    os.kill(int(captured(res)), signal.SIGKILL)
    assert res["times"]["elapsed"] < 10
    sha256 = hashlib.sha256(captured(res)).hexdigest()
    cut = {"length": len(captured(res)), "dropped": 0, "complete": False, "reason": "held_open", "sha256": sha256}
    assert res["captures"]["stdout"] == cut


def test_capture_files_are_private_and_removed_at_the_end(tmp_path):
    """They are in the instance's directory below TMPDIR."""
    script = "f=$(readlink /proc/$$/fd/1); echo $f; stat -L -c %a /proc/self/fd/1 $(dirname $f)"
    res = ok(sh(script, ("stdout", capture("tempfile"))), env=os.environ | {"TMPDIR": str(tmp_path)})
    path, *modes = captured(res).decode().split()
    assert path.startswith(f"{tmp_path}/procstar-{os.getuid()}/")
    assert modes == ["600", "700"]
    assert list(tmp_path.iterdir()) == []


def test_forty_captures_have_their_own_bytes():
    fds = [(str(n), capture(("memory", "tempfile")[n % 2])) for n in range(3, 43)]
    res = ok(sh("for n in $(seq 3 42); do echo fd $n > /proc/$$/fd/$n; done", *fds))
    for num in range(3, 43):
        assert captured(res, str(num)) == f"fd {num}\n".encode()


@MODES
def test_a_spec_may_have_3000_processes(mode):
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


def test_inherited_output_may_precede_the_results():
    done = procstar("--print", "-", input=json.dumps(specs(a=sh("echo child") | {"fds": []})).encode())
    first, last = done.stdout.splitlines()
    assert first == b"child"
    assert last.startswith(b"{") and done.stdout.endswith(b"}\n")


def test_a_capture_of_a_failed_start_is_empty():
    res = run1(argv("/nonexistent", fds=[["stdout", capture()], ["stderr", capture("tempfile", None, False)]]))
    assert res["fds"] == {
        "stdout": {"type": "text", "text": "", "encoding": "utf-8"},
        "stderr": {"type": "detached", "length": 0, "encoding": "base64"},
    }

