"""Processes of single runs: start, arguments, environment and end."""

import json
import os
import shutil
import signal
import sys

import pytest

from procstar.spec import make_proc
import procstar.testing.proc as package
from support.oneshot import ok, procstar, run, run1
from support.shapes import captured, parse_time, signal_name
from support.specs import SH, SLEEP, TRUE, argv, capture, sh
from support.wait import eventually

# By default these signals end nothing: they suspend, continue or are ignored.
HARMLESS = {17, 18, 19, 20, 21, 22, 23, 28}


def test_the_packages_run1_works():
    res = package.run1(make_proc("echo hello $WHO", env_vars={"WHO": "world"}).to_jso())
    assert res["status"]["exit_code"] == 0
    assert res["fds"]["stdout"]["text"] == "hello world\n"
    assert res["fds"]["stderr"]["text"] == ""


def test_the_package_raises_errors_of_a_process():
    with pytest.raises(package.Errors) as info:
        package.run1({"argv": ["/nonexistent/exe"]})
    assert info.value.errors[0].startswith("execve failed: /nonexistent/exe: ")


def test_the_package_waits_for_the_log_line_before_a_signal():
    proc = package.Process({"specs": {"a": argv(SLEEP, 100), "b": sh("exec sleep 100")}})
    proc.send_signal(signal.SIGTERM)
    for res in proc.wait_result().values():
        assert res["status"]["signum"] == signal.SIGTERM
        assert res["status"]["signal"] == "SIGTERM"


@pytest.mark.parametrize("signum, ends_by", [(signal.SIGINT, 15), (signal.SIGTERM, 15), (signal.SIGQUIT, 9)])
def test_signals_to_the_program_end_it_with_results(signum, ends_by):
    """The exit code is 0."""
    proc = package.Process({"specs": {str(i): argv(SLEEP, 100) for i in range(5)}})
    proc.send_signal(signum)
    res = proc.wait_result()
    assert [r["status"]["signum"] for r in res.values()] == [ends_by] * 5


def test_sigquit_kills_after_sigterm(tmp_path):
    """SIGKILL ends a process that ignores SIGTERM."""
    ready = tmp_path / "ready"
    script = f"trap 'touch {tmp_path}/got' TERM; touch {ready}; while :; do sleep 0.02; done"
    proc = package.Process({"specs": {"a": sh(script)}})
    eventually(ready.exists, "the trap is set")
    proc.send_signal(signal.SIGTERM)
    eventually((tmp_path / "got").exists, "SIGTERM came")
    assert proc.poll() is None
    proc.send_signal(signal.SIGQUIT)
    assert proc.wait_result()["a"]["status"]["signum"] == 9


def test_every_exit_code_is_exact():
    for code, res in run({str(n): sh(f"exit {n}") for n in range(256)}).items():
        assert res["status"] == {
            "status": int(code) << 8, "exit_code": int(code), "signum": None, "signal": None, "core_dump": False,
        }  # fmt: skip
        assert res["proc_stat"]["exit_code"] == int(code) << 8


def test_death_by_every_signal_is_exact():
    """Number and name are exact, also of 16, 32 and the real-time signals."""
    nums = [n for n in range(1, 65) if n not in HARMLESS]
    res = run({str(n): sh(f"ulimit -c 0; kill -{n} $$") for n in nums})
    names = set()
    for num in nums:
        status = res[str(num)]["status"]
        assert status["signum"] == num
        assert status["exit_code"] is None
        assert status["status"] in (num, num | 0x80)
        names.add(status["signal"])
        if num < 32:
            assert status["signal"] == signal_name(num)
    assert len(names) == len(nums)


@pytest.mark.parametrize(
    "make, code, text",
    [
        (lambda d: d / "missing", 127, "No such file or directory"),
        (lambda d: d, 126, "Permission denied"),
        (lambda d: _script(d, 0o644), 126, "Permission denied"),
        (lambda d: _script(d, 0o755, b"\x7fELF no"), 126, "Exec format error"),
        (lambda d: "true", 127, "No such file or directory"),
    ],
)
@pytest.mark.parametrize("by_exe", [False, True])
def test_a_program_that_cannot_be_executed_is_126_or_127(tmp_path, make, code, text, by_exe):
    """PATH is not searched: 127 if there is no file, 126 if it cannot be executed."""
    exe = str(make(tmp_path))
    res = run1(argv("fine", exe=exe) if by_exe else argv(exe))
    assert res["state"] == "error"
    (error,) = res["errors"]
    assert error.startswith(f"execve failed: {exe}: ")
    assert text in error
    assert res["status"] == {
        "status": code * 256, "exit_code": code, "signum": None, "signal": None, "core_dump": False,
    }  # fmt: skip
    assert res["rusage"]["utime"] >= 0


def _script(directory, mode, text=b"#!/bin/sh\n"):
    path = directory / "script"
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_a_failed_start_does_not_affect_others():
    res = run({"bad": argv("/nonexistent"), "good": sh("echo fine")})
    assert res["bad"]["state"] == "error"
    assert captured(res["good"]) == b"fine\n"


def test_exe_is_executed_and_argv_0_is_passed():
    res = ok(argv("a name", "-c", 'echo "$0"; echo "$1" "$#"', "-zero", "one", exe=SH,
                  fds=[["stdout", capture()]]))  # fmt: skip
    assert captured(res) == b"-zero\none 1\n"
    res = ok(sh("true", exe=None))
    assert res["errors"] == []


def test_arguments_are_passed_unchanged():
    """Empty, with spaces, quoted, Unicode, long and many."""
    args = ["", " ", "a b", "'\"$HOME\\", "日本\n", "x" * 100_000, *map(str, range(2000))]
    res = ok(argv("/usr/bin/printf", r"%s\0", *args, fds=[["stdout", capture()]]))
    assert captured(res).decode().split("\0")[:-1] == args


def test_a_too_long_argument_list_is_an_error():
    res = run1(argv(TRUE, "x" * 200_000))
    assert res["errors"][0].startswith(f"execve failed: {TRUE}: Argument list too long")
    assert res["status"]["exit_code"] == 126


def test_restrict_exe_allows_only_its_executable():
    """The error names the allowed one first."""
    res = run(
        {
            "good": argv(TRUE),
            "as": argv("anything", exe=TRUE),
            "other": argv("/usr/bin/false"),
            "alias": argv("/usr/bin/../bin/true"),
            "exe": argv(TRUE, exe="/usr/bin/false"),
        },
        "--restrict-exe", TRUE,
    )  # fmt: skip
    for name in ("good", "as"):
        assert res[name]["status"]["exit_code"] == 0
    for name in ("other", "alias", "exe"):
        assert res[name]["state"] == "error"
        assert res[name]["errors"][0].startswith(f"restricted executable: {TRUE}")
        status = res[name]["status"]
        assert status["exit_code"] in (125, 126) and status["status"] == status["exit_code"] * 256


def test_a_pipe_passes_bytes_and_their_end():
    res = run(
        {
            "write": sh("seq 1 100000", ("stdout", "pipe-write")),
            "read": argv("/usr/bin/tail", "-n", 1,
                         fds=[["stdin", {"pipe-read": {"proc_id": "write", "fd": "stdout"}}], ["stdout", capture()]]),
        }
    )  # fmt: skip
    assert captured(res["read"]) == b"100000\n"
    assert res["write"]["fds"] == {"stdout": None}
    assert res["read"]["fds"]["stdin"] is None


def test_a_pipe_works_in_any_order_and_at_any_fd():
    res = run(
        {
            "read": sh("cat <&7", ("7", {"pipe-read": {"proc_id": "write", "fd": "5"}}), ("stdout", capture())),
            "write": sh("echo there >&5", ("5", "pipe-write")),
        }
    )
    assert captured(res["read"]) == b"there\n"


def test_a_chain_of_thirty_pipes_ends():
    """No process holds a pipe end that would keep another one from ending."""
    procs = {"p0": sh("echo begin", ("stdout", "pipe-write"))}
    for i in range(1, 30):
        source = {"pipe-read": {"proc_id": f"p{i - 1}", "fd": "stdout"}}
        out = capture() if i == 29 else "pipe-write"
        procs[f"p{i}"] = sh(f"cat; echo {i}", ("stdin", source), ("stdout", out))
    res = run(procs)
    assert captured(res["p29"]).decode().split() == ["begin", *map(str, range(1, 30))]


def test_a_writer_without_reader_dies_by_sigpipe():
    res = run(
        {
            "write": argv("/usr/bin/yes", fds=[["stdout", "pipe-write"]]),
            "read": argv("/usr/bin/head", "-n", 1,
                         fds=[["stdin", {"pipe-read": {"proc_id": "write", "fd": "stdout"}}], ["stdout", capture()]]),
        }
    )  # fmt: skip
    assert captured(res["read"]) == b"y\n"
    assert res["write"]["status"]["signal"] == "SIGPIPE"


def test_pipes_may_form_a_ring():
    a = sh("echo ping; read x; echo $x >&2", ("stdin", {"pipe-read": {"proc_id": "b", "fd": "stdout"}}),
           ("stdout", "pipe-write"), ("stderr", capture()))  # fmt: skip
    b = sh("read x; echo $x pong", ("stdin", {"pipe-read": {"proc_id": "a", "fd": "stdout"}}), ("stdout", "pipe-write"))
    assert captured(run({"a": a, "b": b})["a"], "stderr") == b"ping pong\n"


def test_both_outputs_may_have_a_pipe():
    res = run(
        {
            "w": sh("echo out; echo err >&2", ("stdout", "pipe-write"), ("stderr", "pipe-write")),
            "r": sh("cat; cat <&3", ("stdin", {"pipe-read": {"proc_id": "w", "fd": "stdout"}}),
                    ("3", {"pipe-read": {"proc_id": "w", "fd": "stderr"}}), ("stdout", capture())),
        }
    )  # fmt: skip
    assert captured(res["r"]) == b"out\nerr\n"


def test_the_reader_of_a_failed_writer_gets_the_end():
    res = run(
        {
            "w": argv("/nonexistent", fds=[["stdout", "pipe-write"]]),
            "r": argv("/bin/cat", fds=[["stdin", {"pipe-read": {"proc_id": "w", "fd": "stdout"}}]]),
        }
    )
    assert res["w"]["state"] == "error"
    assert res["r"]["status"]["exit_code"] == 0


def test_children_start_with_default_signals():
    """Signals that the program ignores or blocks are neither ignored nor blocked in a child."""

    def spoil():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, 65)) - {9, 19, 32, 33})

    script = ["/bin/grep", "Sig", "/proc/self/status"]
    for kw in ({}, {"preexec_fn": spoil}):
        res = ok(argv(*script, fds=[["stdout", capture()]]), **kw)
        masks = dict(line.split(":\t") for line in captured(res).decode().splitlines())
        assert int(masks["SigBlk"], 16) == 0
        assert int(masks["SigIgn"], 16) == 0
        assert int(masks["SigPnd"], 16) == 0
        for key in ("blocked", "sigignore", "signal"):
            assert res["proc_stat"][key] == []


def test_each_child_leads_a_session_and_a_group():
    for res in run({str(i): sh("cut -d' ' -f5,6 /proc/$$/stat") for i in range(3)}).values():
        pid = res["pid"]
        assert captured(res).split() == [b"%d" % pid] * 2
        assert (res["proc_stat"]["pgrp"], res["proc_stat"]["session"]) == (pid, pid)


def test_directory_and_umask_are_the_programs(tmp_path):
    res = ok(sh("pwd; umask"), cwd=tmp_path, umask=0o027)
    assert captured(res).decode().split() == [str(tmp_path), "0027"]


def test_times_and_usage_agree_with_the_process():
    res = run(
        {
            "sleep": argv(SLEEP, "0.5"),
            "busy": argv(sys.executable, "-c", "import time\nwhile time.process_time() < 0.4: pass"),
            "big": argv(sys.executable, "-c", "x = b'x' * 200_000_000"),
        }
    )
    assert 0.5 <= res["sleep"]["times"]["elapsed"] < 10
    assert res["sleep"]["rusage"]["utime"] < 0.3
    usage = res["busy"]["rusage"]
    assert 0.35 <= usage["utime"] + usage["stime"] < 5
    stat = res["busy"]["proc_stat"]
    assert abs(stat["utime"] + stat["stime"] - usage["utime"] - usage["stime"]) < 0.1
    assert 200_000_000 < res["big"]["rusage"]["maxrss"] < 400_000_000
    assert res["big"]["rusage"]["minflt"] > 1000
    for one in res.values():
        begin = parse_time(one["times"]["start"])
        assert abs((parse_time(one["proc_stat"]["starttime"]) - begin).total_seconds()) < 2


@pytest.mark.parametrize("name", ["a) R (b", "sp ace", "x" * 15, "ünï"])
def test_names_with_brackets_do_not_confuse_the_parser(tmp_path, name):
    shutil.copy(SLEEP, tmp_path / name)
    res = ok(argv(tmp_path / name, "0"))
    assert res["proc_stat"]["comm"] == name
    assert res["proc_stat"]["ppid"] > 0


def test_a_name_that_is_not_utf_8_gives_a_valid_result(tmp_path):
    script = f"cp {SLEEP} {tmp_path}/$(printf 'b\\377d'); exec {tmp_path}/$(printf 'b\\377d') 0"
    res = ok(sh(script))
    assert res["proc_stat"]["comm"] == "b\ufffdd"


def test_proc_stat_is_read_at_the_end_of_the_process():
    """The memory is zero then."""
    res = ok(sh("exit 0"))
    stat = res["proc_stat"]
    assert stat["state"] == "Z"
    assert stat["num_threads"] == 1
    assert stat["tty_nr"] == [0, 0]
    assert stat["tpgid"] is None
    assert res["proc_statm"] is None
    assert res["cgroup_accounting"] is None or set(res["cgroup_accounting"]) >= {"pids", "cpu_stat", "memory"}


def test_reaped_children_count_in_cutime():
    busy = "import time\nwhile time.process_time() < 0.3: pass"
    res = ok(sh(f"{sys.executable} -c '{busy}'; true"))
    assert res["proc_stat"]["cutime"] + res["proc_stat"]["cstime"] >= 0.25


def test_the_environment_is_inherited_as_specified():
    """`inherit` true, false, names; `vars` set and remove."""
    env = {"A": "1", "B": "two words", "C": "ünï\nline", "EMPTY": ""}

    def child(spec):
        proc = argv("/usr/bin/env", "-0", fds=[["stdout", capture()]]) | ({} if spec is None else {"env": spec})
        text = captured(ok(proc, env=env)).decode()
        return dict(v.split("=", 1) for v in text.split("\0")[:-1])

    assert child(None) == env
    assert child({}) == env
    assert child({"inherit": True}) == env
    assert child({"inherit": False}) == {}
    assert child({"inherit": []}) == {}
    assert child({"inherit": ["A", "EMPTY", "NOT_THERE"]}) == {"A": "1", "EMPTY": ""}
    assert child({"inherit": False, "vars": {"X": "x=y", "Y": ""}}) == {"X": "x=y", "Y": ""}
    assert child({"vars": {"A": "other", "B": None, "N": "new", "GONE": None}}) == (
        {k: v for k, v in env.items() if k != "B"} | {"A": "other", "N": "new"}
    )


def test_an_environment_that_is_not_utf_8_is_passed_on():
    env = {b"BAD": b"\xff\xfe", b"N\xff": b"x"}
    res = ok(argv("/usr/bin/env", "-0", fds=[["stdout", capture(encoding=None)]]), env=env)
    assert set(captured(res).split(b"\0")) == {b"BAD=\xff\xfe", b"N\xff=x", b""}


def test_secrets_are_never_inherited():
    """Key, certificate and token of the agent, even if named."""
    secrets = {f"PROCSTAR_AGENT_{n}": f"secret {n}" for n in ("CERT", "KEY", "TOKEN")}
    env = secrets | {"PROCSTAR_GROUP_ID": "g", "A": "1"}
    for inherit in (True, list(secrets) + ["A"]):
        proc = argv("/usr/bin/env", env={"inherit": inherit}, fds=[["stdout", capture()]])
        text = captured(ok(proc, env=env)).decode()
        assert "A=1\n" in text
        assert "secret" not in text
        assert "PROCSTAR_AGENT_" not in text


def test_the_program_runs_with_an_empty_environment():
    """The program needs no PATH, HOME or USER."""
    res = ok(argv("/usr/bin/env", fds=[["stdout", capture("tempfile")]]), env={})
    assert captured(res) == b""


def test_ids_may_be_any_strings():
    """Spaces, slashes, dots, other scripts; the key counts, not a given `id`."""
    ids = ["a b", "a/b/../c", "日本", "'\"\\", "x" * 500, "."]
    res = run({i: argv(TRUE, id="something else") for i in ids} | {"null": argv(TRUE, id=None)})
    assert set(res) == {*ids, "null"}


def test_systemd_properties_are_checked_and_ignored():
    props = {
        "scope": {"oom_policy": "kill", "runtime_max_usec": 10**9, "runtime_randomized_extra_usec": None},
        "slice": {
            "memory_accounting": True, "memory_min": None, "memory_low": None, "memory_high": None,
            "memory_max": 10**9, "memory_swap_max": 0, "tasks_accounting": True, "tasks_max": 100,
        },
    }  # fmt: skip
    for given in ({}, props, {"scope": {}}, {"slice": {"tasks_max": None}}):
        ok(argv(TRUE, systemd_properties=given))


@pytest.mark.parametrize("asked", [True, False])
def test_ignored_systemd_properties_are_reported(asked):
    """In the result, and once in the log, on standard error."""
    props = {"systemd_properties": {"slice": {"memory_max": 10**9}}} if asked else {}
    spec = {"specs": {"a": argv(TRUE, **props), "b": argv(TRUE, **props), "c": argv(TRUE)}}
    done = procstar("--print", "-", input=json.dumps(spec).encode())
    results = json.loads(done.stdout)
    for proc_id in "ab":
        assert len(results[proc_id]["warnings"]) == asked
        assert all("systemd_properties" in warning for warning in results[proc_id]["warnings"])
    assert results["c"]["warnings"] == []
    assert done.stderr.decode().count("systemd_properties") == asked, done.stderr


SCRIPTS = {
    "#!/no/such/sh\necho hi\n": ("its interpreter /no/such/sh, which its `#!` line names, does not exist", 126),
    "#!/bin/sh\r\necho hi\r\n": ("its lines end in CRLF", 126),
    "echo hi\n": ("it has no `#!` line", 126),
    "\ufeff#!/bin/sh\necho hi\n": ("byte order mark", 126),
    "": ("it is empty", 126),
}


@pytest.mark.parametrize("script", SCRIPTS, ids=repr)
@pytest.mark.parametrize("search", [False, True])
def test_a_script_that_cannot_run_is_not_reported_as_missing(tmp_path, script, search):
    """The system's error is followed by the defect of the file."""
    path = tmp_path / "script"
    path.write_text(script, newline="")
    path.chmod(0o755)
    more = {"lookup_path": True, "env": {"inherit": False, "vars": {"PATH": f"/nope:{tmp_path}"}}} if search else {"cwd": "/"}
    name = "script" if search else str(path)
    wanted, code = SCRIPTS[script]
    res = run1(argv(name, **more))
    (failure,), (error,) = res["failures"], res["errors"]
    assert error.startswith(f"execve failed: {name}: ") and wanted in error and error == failure["message"]
    assert wanted in failure["detail"] and res["status"]["exit_code"] == code
    path.unlink()
    missing = run1(argv(name, **more))
    detail = missing["failures"][0]["detail"]
    assert (detail or "").startswith("no directory of the process's PATH has it; ") if search else detail is None
    assert missing["status"]["exit_code"] == 127


def test_nothing_is_logged_by_default():
    done = procstar("--print", "-", input=b'{"specs": {"a": {"argv": ["/usr/bin/true"]}}}')
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_log_has_a_line_after_the_start():
    """Tools wait for it."""
    done = procstar("--print", "--log-level", "info", "-", input=b'{"specs": {}}')
    assert done.returncode == 0
    assert done.stderr.count(b"started processes from specs") == 1
    assert done.stdout == b"{}\n"


def test_a_closed_standard_output_loses_no_processes(tmp_path):
    spec = {"specs": {"a": sh(f"touch {tmp_path}/ran", ("stdin", {"null": {}}))}}
    done = procstar("--exit", "-", input=json.dumps(spec).encode(), preexec_fn=lambda: os.close(1))
    assert done.returncode == 0
    assert (tmp_path / "ran").exists()
