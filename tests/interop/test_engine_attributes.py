"""Attributes of a process, as seen by the process, and their failures."""

import collections
import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path
import pwd
import resource
import shutil
import signal
import subprocess
import tempfile
import threading

import pytest

from support import procs
from support.http import Service
from support.oneshot import binary, ok, run, run1
from support.shapes import captured
from support.specs import TRUE, argv, capture, sh
from support.survival import kill_instance, worker_pid
from support.wait import eventually

OUT = [["stdout", capture()]]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: needs root")


def said(proc, *args, **kw):
    """Standard output of a PROC that exits with 0."""
    return captured(ok(proc | {"fds": proc.get("fds", OUT)}, *args, **kw)).decode()


def failed(proc, *args, code=125, **kw):
    """Errors of a PROC that could not be started."""
    res = run1(proc, *args, **kw)
    assert res["state"] == "error"
    assert res["status"]["exit_code"] == code and res["status"]["status"] == code * 256
    return res["errors"]


def error_text(number):
    """An OS error as in results."""
    return f"{os.strerror(number)} (os error {number})"


def fields(pid="self"):
    """A command that prints /proc/PID/status."""
    return argv("/bin/cat", f"/proc/{pid}/status")


def field(text, name):
    """One field of /proc/PID/status."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name}:")]
    return line.split(":")[1].strip()


# Working directory, umask, executable


def test_exe_is_executed_and_argv0_is_passed():
    assert said({"exe": "/bin/sh", "argv": ["zz", "-c", "echo $0"]}) == "zz\n"


def test_cwd_applies_to_the_process_and_its_relative_paths(tmp_path):
    assert said(argv("/bin/pwd", cwd="/usr")) == "/usr\n"
    (tmp_path / "tool").symlink_to("/bin/pwd")
    assert said(argv("./tool", cwd=str(tmp_path))) == f"{tmp_path}\n"
    ok(argv("/bin/echo", "hi", cwd=str(tmp_path), fds=[["stdout", {"file": {"path": "out"}}]]))
    assert (tmp_path / "out").read_text() == "hi\n"
    assert said(argv("/bin/pwd", cwd=tmp_path.name), cwd=tmp_path.parent) == f"{tmp_path}\n"


def test_an_invalid_cwd_fails_with_path_and_cause(tmp_path):
    """No file is opened and no program is executed in another directory."""
    (tmp_path / "file").touch()
    for path, number in ((tmp_path / "no", errno.ENOENT), (tmp_path / "file", errno.ENOTDIR)):
        proc = argv("/bin/echo", cwd=str(path), fds=[["stdout", {"file": {"path": "made"}}]])
        assert failed(proc, cwd=tmp_path) == [f"failed to set cwd: {path}: {error_text(number)}"]
    assert not (tmp_path / "made").exists()


def test_umask_applies_to_the_process_and_its_files(tmp_path):
    assert said(sh("umask", *OUT, umask="0027")) == "0027\n"
    ok(argv(TRUE, umask="0137", fds=[["stdout", {"file": {"path": str(tmp_path / "f")}}]]))
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_lookup_path_searches_the_path_of_the_child(tmp_path):
    """Only if the spec asks for it."""
    (one := tmp_path / "one").mkdir()
    (two := tmp_path / "two").mkdir()
    (one / "tool").write_text("no program")
    (two / "tool").symlink_to("/bin/echo")
    env = {"vars": {"PATH": f"{tmp_path}/none:{one}:{two}"}}
    found = argv("tool", "found", lookup_path=True, env=env)
    # A file that may not be executed is skipped, as by execvp.
    assert said(found) == "found\n"
    (two / "tool").unlink()
    (error,) = failed(found, code=126)
    assert error == f"execve failed: tool: {error_text(errno.EACCES)}: it has no execute permission (chmod +x sets it)"
    (one / "tool").unlink()
    (error,) = failed(found, code=127)
    assert error.startswith(f"execve failed: tool: {error_text(errno.ENOENT)}: no directory of the process's PATH has it")
    (error,) = failed(argv("sh"), code=127)
    assert error.startswith(f"execve failed: sh: {error_text(errno.ENOENT)}: ") and "`lookup_path: true`" in error
    # Without a PATH: /bin and /usr/bin.
    assert said(argv("echo", "x", lookup_path=True, env={"inherit": False})) == "x\n"


# Environment


def test_variables_are_inherited_set_removed_and_read_from_files(tmp_path):
    (tmp_path / "value").write_bytes(b"two\nlines\n")
    (tmp_path / "odd").write_bytes(b"\xff\xfe")
    vars = {"A": "a", "B": None, "C": {"file": str(tmp_path / "value")}, "D": {"value": "d", "secret": True}}
    proc = argv("/usr/bin/env", "-0", env={"inherit": ["B", "E", "PROCSTAR_AGENT_TOKEN"], "vars": vars})
    env = os.environ | {"B": "b", "E": "e", "PROCSTAR_AGENT_TOKEN": "secret"}
    assert sorted(said(proc, env=env).split("\0")) == ["", "A=a", "C=two\nlines", "D=d", "E=e"]
    proc = argv("/usr/bin/env", env={"inherit": False, "vars": {"X": {"file": str(tmp_path / "odd")}}})
    res = ok(proc | {"fds": [["stdout", capture(encoding=None)]]})
    assert captured(res) == b"X=\xff\xfe\n"


def test_unreadable_variables_name_their_files(tmp_path):
    """No error shows a part of the content."""
    (tmp_path / "nul").write_bytes(b"hunter2\0")
    (tmp_path / "large").write_bytes(b"x" * (128 << 10))
    (tmp_path / "fits").write_bytes(b"x" * ((128 << 10) - len("V=\0")) + b"\n")
    vars = {name: {"file": str(tmp_path / name), "secret": True} for name in ("none", "nul", "large")}
    assert failed(argv(TRUE, env={"vars": vars})) == [
        f"failed to set env: {tmp_path}/none: {error_text(errno.ENOENT)}",
        f"failed to set env: {tmp_path}/nul: a NUL byte in the file",
        f"failed to set env: {tmp_path}/large: larger than the kernel's limit of 128 KiB",
    ]
    ok(argv(TRUE, env={"inherit": False, "vars": {"V": {"file": str(tmp_path / "fits")}}}))


def test_results_show_executable_directory_and_environment(tmp_path):
    """The environment on request, with masked secrets; also after a failed start."""
    (tmp_path / "secret").write_text("hunter2\n")
    vars = {"PATH": "/none:/usr/bin", "A": "a", "S": {"file": str(tmp_path / "secret"), "secret": True}}
    env = {"inherit": False, "vars": vars, "in_result": True}
    res = ok(argv("env", lookup_path=True, cwd="/usr/..", env=env, fds=OUT))
    assert "S=hunter2" in captured(res).decode()
    assert (res["exe"], res["cwd"]) == ("/usr/bin/env", "/")
    assert res["env"] == {"PATH": "/none:/usr/bin", "A": "a", "S": "***"}
    res = ok(argv("true", exe="bin/true"), cwd="/usr")
    assert (res["exe"], res["cwd"], res["env"]) == ("/usr/bin/true", "/usr", None)
    res = run1(argv("/no/such", cwd="/usr", env=env))
    assert (res["exe"], res["cwd"]) == ("/no/such", "/usr")
    assert "hunter2" not in str(res)


def test_failures_have_a_key_an_error_name_and_a_subject():
    (failure,) = run1(argv(TRUE, cwd="/nowhere"))["failures"]
    assert (failure["stage"], failure["error"], failure["path"]) == ("cwd", "ENOENT", "/nowhere")
    (failure,) = run1(argv(TRUE, user="no-such-user"))["failures"]
    assert (failure["stage"], failure["error"], failure["path"]) == ("user", "ENOENT", "no-such-user")
    (failure,) = run1(argv(TRUE, cpu_affinity=[8000]))["failures"]
    assert (failure["stage"], failure["error"], failure["path"]) == ("cpu_affinity", "EINVAL", None)


# Signals


def test_signals_are_default_ignored_or_blocked_as_specified():
    """Other signals have their defaults, even if the program itself ignores them."""
    text = said(fields())
    assert field(text, "SigIgn") == field(text, "SigBlk") == "0" * 16
    text = said(fields() | {"signals": {"ignore": ["USR1", "SIGRTMIN+3"], "block": ["SIGUSR2", 64], "default": ["HUP"]}})
    assert int(field(text, "SigIgn"), 16) == 1 << 9 | 1 << 36
    assert int(field(text, "SigBlk"), 16) == 1 << 11 | 1 << 63


# User and groups


@root_only
def test_user_has_its_own_or_the_given_groups():
    nobody = pwd.getpwnam("nobody")
    for user in ("nobody", nobody.pw_uid):
        text = said(fields() | {"user": user})
        assert field(text, "Uid").split() == [str(nobody.pw_uid)] * 4
        assert field(text, "Gid").split() == [str(nobody.pw_gid)] * 4
        assert [int(g) for g in field(text, "Groups").split()] == sorted(os.getgrouplist("nobody", nobody.pw_gid))
        assert field(text, "CapEff") == "0" * 16
    text = said(fields() | {"user": 54321, "group": 54322, "groups": [7, 54323]})
    assert field(text, "Uid").split() == ["54321"] * 4 and field(text, "Gid").split() == ["54322"] * 4
    assert field(text, "Groups").split() == ["7", "54323"]
    text = said(fields() | {"group": "daemon", "groups": []})
    assert field(text, "Uid").split() == ["0"] * 4 and field(text, "Groups") == ""


@root_only
def test_directory_files_and_program_are_opened_as_the_user():
    """The user can reopen its captures."""
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, 54321, 54322)
        who = {"user": 54321, "group": 54322, "cwd": place}
        ok(argv(TRUE, fds=[["stdout", {"file": {"path": "made"}}]], **who))
        made = Path(place, "made").stat()
        assert (made.st_uid, made.st_gid) == (54321, 54322)
        os.chown(place, 0, 0)
        os.chmod(place, 0o700)
        assert failed(argv(TRUE, **who)) == [f"failed to set cwd: {place}: {error_text(errno.EACCES)}"]
    for mode in ("memory", "tempfile"):
        proc = sh("echo one > /dev/stderr", ["stderr", capture(mode)], user="nobody")
        assert captured(ok(proc), "stderr") == b"one\n"


def test_unknown_accounts_are_named():
    proc = argv(TRUE, user="no-such-user", group="no-such-group", groups=["neither"])
    assert failed(proc) == [
        "failed to set user: no-such-user: no such user",
        "failed to set group: no-such-group: no such group",
        "failed to set groups: neither: no such group",
    ]
    # There is no entry of the account that would name its group.
    assert failed(argv(TRUE, user=54321)) == ["failed to set user: 54321: no such user"]


@root_only
def test_attributes_without_privilege_work_for_any_user():
    """Others fail with a clear error."""
    with tempfile.TemporaryDirectory() as place:
        os.chown(place, 65534, 65534)
        os.chmod(place, 0o755)
        program = shutil.copy(binary(), place)
        kw = {"env": {"TMPDIR": place}, "user": 65534, "group": 65534, "extra_groups": [65534], "cwd": place}
        mine = {"user": 65534, "group": 65534, "groups": [65534]}
        spec = {
            "own": argv(TRUE, **mine),
            "other": argv(TRUE, user=1),
            "group": argv(TRUE, group=1),
            "groups": argv(TRUE, groups=[1, 2]),
            "nice": argv(TRUE, nice=-5),
            "oom": argv(TRUE, oom_score_adj=-500),
            "nicer": argv(TRUE, nice=5, oom_score_adj=500, rlimits={"core": 0}),
            "limit": argv(TRUE, rlimits={"nofile": "unlimited"}),
        }
        res = _run_as(program, spec, **kw)
    assert res["own"]["errors"] == res["nicer"]["errors"] == []
    assert res["other"]["errors"] == [f"failed to set user: 1: {error_text(errno.EPERM)}"]
    assert res["group"]["errors"] == [f"failed to set group: 1: {error_text(errno.EPERM)}"]
    assert res["groups"]["errors"] == [f"failed to set groups: {error_text(errno.EPERM)}"]
    assert res["nice"]["errors"] == [f"failed to set nice: {error_text(errno.EACCES)}"]
    assert res["oom"]["errors"] == [f"failed to set oom_score_adj: {error_text(errno.EACCES)}"]
    assert res["limit"]["errors"] == [f"failed to set limits: nofile: {error_text(errno.EPERM)}"]


def _run_as(program, procs, **kw):
    import json

    done = subprocess.run(
        [program, "--print", "-"], input=json.dumps({"specs": procs}).encode(),
        stdout=subprocess.PIPE, timeout=60, check=True, **kw,
    )  # fmt: skip
    return json.loads(done.stdout)


# Limits and scheduling


def test_rlimits_are_a_number_a_pair_or_unlimited():
    """The limit of open files does not affect the set-up."""
    assert said(sh("ulimit -n", *OUT, rlimits={"nofile": 77})) == "77\n"
    fds = [*OUT, ["200", {"null": {}}], ["201", {"dup": {"fd": 200}}]]
    assert said(sh("ulimit -Sn; ulimit -Hn", *fds, rlimits={"nofile": [10, 20]})) == "10\n20\n"
    text = said(argv("/bin/cat", "/proc/self/limits", rlimits={"core": [0, "unlimited"], "cpu": [100, 200], "stack": 1 << 20})
                if resource.getrlimit(resource.RLIMIT_CORE)[1] == resource.RLIM_INFINITY
                else argv("/bin/cat", "/proc/self/limits", rlimits={"core": 0, "cpu": [100, 200], "stack": 1 << 20}))
    rows = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}
    assert rows["Max cpu time"] == ["100", "200"] and rows["Max stack size"] == ["1048576"] * 2
    assert rows["Max core file size"][0] == "0"
    # Without the attribute a process has the limits of the program's start.
    mine = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert said(sh("ulimit -Sn; ulimit -Hn", *OUT)).split() == [str(n) for n in mine]


def test_scheduling_attributes_are_applied():
    cpu = max(os.sched_getaffinity(0))
    attributes = {"nice": 7, "oom_score_adj": 321, "cpu_affinity": [cpu], "io_priority": {"class": "best-effort", "level": 6}}
    script = "cut -d' ' -f19 /proc/self/stat; cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status; ionice"
    text = said(sh(script, *OUT, **attributes))
    assert text == f"7\n321\nCpus_allowed_list:\t{cpu}\nbest-effort: prio 6\n"
    # The child shares memory with the keeper until it executes: only the child is changed.
    with Service() as service:
        mine = [_scheduling(pid) for pid in (service.proc.pid, worker_pid(service.proc.pid))]
        service.post({"a": sh(":", **attributes), "b": sh(":", pdeath_signal="KILL", **attributes)})
        assert service.result("a")["errors"] == service.result("b")["errors"] == []
        assert mine == [_scheduling(pid) for pid in (service.proc.pid, worker_pid(service.proc.pid))]
    assert failed(argv(TRUE, cpu_affinity=[8000])) == [f"failed to set cpu_affinity: {error_text(errno.EINVAL)}"]


def _scheduling(pid):
    """Process state that attributes could change."""
    status = Path(f"/proc/{pid}/status").read_text()
    return (
        Path(f"/proc/{pid}/oom_score_adj").read_text(),
        Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16],
        [field(status, name) for name in ("Uid", "Gid", "Groups", "Umask", "Cpus_allowed_list", "SigIgn", "CapEff")],
        Path(f"/proc/{pid}/limits").read_text(),
        os.readlink(f"/proc/{pid}/cwd"),
    )


@root_only
def test_attributes_change_the_child_only(tmp_path):
    """User, groups, limits, umask, directory, signals: the child shares memory until it
    executes."""
    everything = {
        "user": "nobody", "umask": "0777", "cwd": "/usr", "rlimits": {"nofile": 33, "core": 0, "fsize": 0},
        "signals": {"ignore": ["HUP"], "block": ["TERM"]},
    }  # fmt: skip
    with Service() as service:
        mine = _scheduling(service.proc.pid)
        service.post({str(n): argv(TRUE, **everything) for n in range(20)})
        for n in range(20):
            assert service.result(str(n))["errors"] == []
        assert _scheduling(service.proc.pid) == mine
        # It still starts others as root.
        service.post({"after": sh("id -u", *OUT)})
        assert captured(service.result("after")) == b"0\n"


# End of the program


# The keeper starts this many threads that clone children when jobs need them, and keeps them.
PERMANENT_SPAWNERS = 4


def _spawners(pid):
    """Number of the keeper's threads that clone children."""
    return sum(path.read_text() == "spawn\n" for path in Path(f"/proc/{pid}/task").glob("*/comm"))


def test_pdeath_signal_ends_processes_with_the_keeper():
    """Without the attribute, a process continues."""
    sleep = argv("/usr/bin/sleep", "1000")
    with Service() as service:
        service.post({"a": sleep | {"pdeath_signal": "KILL"}, "b": sleep | {"pdeath_signal": "SIGUSR1"}, "c": sleep})
        pids = {name: service.result(name, ended=False)["pid"] for name in "abc"}
        worker = worker_pid(service.proc.pid)
        # The end of the worker does not count.
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not procs.is_alive(worker), "the worker's end")
        assert all(map(procs.is_alive, pids.values()))
        os.kill(service.proc.pid, signal.SIGKILL)
        eventually(lambda: not procs.is_alive(pids["a"]) and not procs.is_alive(pids["b"]), "the end of both")
        assert procs.is_alive(pids["c"])
        os.kill(pids["c"], signal.SIGKILL)


def test_pdeath_signal_is_not_sent_by_an_upgrade():
    """Nor by the end of the helper that cloned the process."""
    with Service() as service, tempfile.TemporaryDirectory() as place:
        keeper = service.proc.pid
        # As many processes blocked in their set-up, each with a helper, as force new helpers.
        specs = {}
        for n in range(2 * PERMANENT_SPAWNERS):
            os.mkfifo(f"{place}/{n}")
            fds = [["stdin", {"file": {"path": f"{place}/{n}"}}]]
            specs[str(n)] = argv("/usr/bin/sleep", "1000", pdeath_signal="KILL", fds=fds)
        service.post(specs)
        eventually(lambda: len(_proxies(keeper)) - len(specs) == len(specs), "a proxy for each")
        assert _spawners(keeper) <= PERMANENT_SPAWNERS
        # They do not delay other processes.
        service.post({"free": argv(TRUE, pdeath_signal="KILL")})
        assert service.result("free")["status"]["exit_code"] == 0
        for n in specs:
            os.close(os.open(f"{place}/{n}", os.O_WRONLY))
        pids = {n: service.result(n, ended=False)["pid"] for n in specs}

        def executed():
            return all(Path(f"/proc/{pid}/comm").read_text() == "sleep\n" for pid in pids.values())

        eventually(executed, "all run their program")
        eventually(lambda: len(_proxies(keeper)) == PERMANENT_SPAWNERS, "the end of the proxies that are not needed")
        assert all(map(procs.is_alive, pids.values()))
        done = subprocess.run([binary(), "upgrade", str(keeper)], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done
        eventually(lambda: worker_pid(keeper), "a worker")
        assert all(map(procs.is_alive, pids.values()))
        # The keeper is still its parent.
        kill_instance(keeper)
        eventually(lambda: not any(map(procs.is_alive, pids.values())), "the end of all")


def test_blocked_helpers_are_replaced_with_the_same_umask(tmp_path):
    mine = os.umask(0o022)
    os.umask(mine)
    with Service() as service:
        held = {}
        for n in range(16):
            os.mkfifo(tmp_path / str(n))
            fds = [["stdin", {"file": {"path": str(tmp_path / str(n))}}], *OUT]
            more = {"pdeath_signal": "KILL"} if n % 2 else {}
            held[str(n)] = sh("umask", *fds, **more)
        service.post(held)
        # They delay no other process of either kind, and the blocked ones continue.
        for n in range(20):
            service.post({f"free {n}": sh("umask", *OUT), f"tied {n}": sh("umask", *OUT, pdeath_signal="KILL")})
        for n in range(20):
            for name in (f"free {n}", f"tied {n}"):
                assert captured(service.result(name)) == f"{mine:04o}\n".encode(), name
        for n in held:
            os.close(os.open(tmp_path / n, os.O_WRONLY))
        for n in held:
            assert captured(service.result(n)) == f"{mine:04o}\n".encode(), n


def _proxies(keeper):
    """Children of the keeper that share its memory: helpers, and processes in their set-up."""
    with open(f"/proc/{keeper}/task/{keeper}/children") as file:
        children = [int(pid) for pid in file.read().split()]
    mine = os.readlink(f"/proc/{keeper}/exe")
    found = []
    for pid in children:
        # Some end meanwhile.
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text() == "proxy\n" and os.readlink(f"/proc/{pid}/exe") == mine:
                found.append(pid)
    return found


def test_killed_helpers_lose_no_process(tmp_path):
    """A process in its set-up continues, and the next one starts."""
    with Service() as service:
        keeper = service.proc.pid
        service.post({"first": argv(TRUE, pdeath_signal="KILL")})
        assert service.result("first")["errors"] == []
        # Idle helpers.
        idle = _proxies(keeper)
        assert idle
        for pid in idle:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(map(procs.is_alive, idle)), "their end")
        service.post({str(n): argv(TRUE, pdeath_signal="KILL") for n in range(20)})
        for n in range(20):
            assert service.result(str(n))["errors"] == []
        # And one whose child opens a FIFO.
        os.mkfifo(tmp_path / "fifo")
        fds = [["stdin", {"file": {"path": str(tmp_path / "fifo")}}], *OUT]
        service.post({"waits": argv("/bin/cat", pdeath_signal="KILL", fds=fds)})
        pid = service.result("waits", ended=False)["pid"]
        assert pid
        busy = _proxies(keeper)
        for other in busy:
            if other != pid:
                os.kill(other, signal.SIGKILL)
        with open(tmp_path / "fifo", "w") as writer:
            writer.write("all of it")
        result = service.result("waits")
        assert (result["errors"], captured(result)) == ([], b"all of it")
        service.post({"last": argv(TRUE, pdeath_signal="KILL")})
        assert service.result("last")["errors"] == []
    eventually(lambda: not any(procs.is_alive(pid) for pid in busy), "no proxy outlives the keeper")


def test_helpers_killed_at_any_moment_start_each_process_once():
    """A thousand processes with complete output."""
    with Service() as service:
        keeper = service.proc.pid
        specs = {str(n): argv("/bin/echo", n, pdeath_signal="KILL", fds=OUT) for n in range(1000)}
        service.post(specs)
        killed, seen = set(), collections.Counter()

        def all_ended():
            # 1000 results take long to read: there is time for some kills between two requests.
            for _ in range(20):
                for pid in _proxies(keeper):
                    seen[pid] += 1
                    # It is old, so it is hardly one of the processes.
                    if seen[pid] > 3:
                        killed.add(pid)
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
            return all(res["state"] not in ("running", "starting") for res in service.get("/procs")["procs"].values())

        eventually(all_ended, "the end of all")
        assert killed
        for n, result in service.get("/procs")["procs"].items():
            if result["pid"] not in killed:
                assert (result["errors"], captured(result)) == ([], f"{n}\n".encode()), result


# Allowed executables


def test_restrictions_match_paths_and_globs(tmp_path):
    """Literal paths, globs on the real path; by option, file and variable."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "script").write_text("#!/bin/sh\necho script $0\n")
    (tmp_path / "bin" / "script").chmod(0o755)
    shutil.copy("/bin/echo", tmp_path / "bin" / "echo")
    (tmp_path / "alias").symlink_to("bin/echo")
    (tmp_path / "bin" / "out").symlink_to("/bin/cat")
    bin = f"{tmp_path}/bin"
    specs = {
        "script": argv(f"{bin}/script", fds=OUT),
        "echo": argv(f"{bin}/echo", "x", fds=OUT),
        "alias": argv(f"{tmp_path}/alias", "x", fds=OUT),
        "true": argv(TRUE, fds=OUT),
        # Its name matches, but its real path does not.
        "out": argv(f"{bin}/out", fds=OUT),
        "other": argv("/usr/bin/false", fds=OUT),
        "none": argv(f"{bin}/none", fds=OUT),
        "relative": argv("bin/echo", "x", cwd=str(tmp_path), fds=OUT),
        "found": argv("echo", "x", lookup_path=True, env={"vars": {"PATH": f"/none:{bin}"}}, fds=OUT),
        "elsewhere": argv("cat", lookup_path=True, env={"vars": {"PATH": f"/bin:{bin}"}}, fds=OUT),
        "nowhere": argv("no-such-tool", lookup_path=True, fds=OUT),
    }
    config = tmp_path / "config.toml"
    config.write_text(f'[run]\nrestrict_exe = ["{TRUE}", "{bin}/*"]\n')
    ways = (
        {"args": ("--restrict-exe", TRUE, "--restrict-exe", f"{bin}/*")},
        {"args": ("--config", config)},
        {"args": (), "env": os.environ | {"PROCSTAR_RUN_ALLOWED_EXECUTABLES": f"{TRUE}:{bin}/*"}},
    )
    for way in ways:
        res = run(specs, *way.pop("args"), **way)
        good = {name for name, r in res.items() if r["state"] == "terminated"}
        assert good == {"script", "echo", "alias", "true", "relative", "found"}
        assert captured(res["script"]) == f"script {bin}/script\n".encode()
        for name in good - {"script", "true"}:
            assert captured(res[name]) == b"x\n"
        for name in res.keys() - good - {"nowhere"}:
            assert res[name]["errors"] == [f"restricted executable: {TRUE}:{bin}/*"], name
            assert res[name]["status"]["exit_code"] == 126 and res[name]["pid"] is None
        assert res["nowhere"]["status"]["exit_code"] == 127


def test_a_working_directory_does_not_change_an_allowed_relative_path(tmp_path):
    (tmp_path / "true").symlink_to("/bin/echo")
    args = ("--restrict-exe", "./true")
    assert said(argv("./true"), *args, cwd="/bin") == ""
    assert failed(argv("./true", cwd=str(tmp_path)), *args, code=126, cwd="/bin") == ["restricted executable: ./true"]


def test_a_swapped_link_does_not_bypass_the_restriction(tmp_path):
    """The checked file is executed, even if its path names another file by then."""
    (tmp_path / "good").mkdir()
    shutil.copy("/bin/echo", tmp_path / "good" / "echo")
    link = tmp_path / "link"
    link.symlink_to("good/echo")
    over = threading.Event()

    def swap():
        n = 0
        while not over.is_set():
            (tmp_path / "new").symlink_to(("/bin/printf", "good/echo")[n % 2])
            (tmp_path / "new").rename(link)
            n += 1

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        # echo writes the backslash and the n, printf a newline.
        res = run({str(n): argv(link, r"\n", fds=OUT) for n in range(300)}, "--restrict-exe", f"{tmp_path}/good/*")
    finally:
        over.set()
        swapper.join()
    ran = [r for r in res.values() if r["state"] == "terminated"]
    assert all(captured(r) == b"\\n\n" for r in ran)
    assert all(r["errors"][0].startswith("restricted executable: ") for r in res.values() if r["state"] == "error")
    assert 0 < len(ran) < len(res)


# Fds


def test_only_the_given_fds_are_open():
    """Fds of the program and captures of siblings are not open."""
    fds = [["stdin", {"null": {}}], ["stdout", capture()], ["stderr", capture()]]
    specs = {str(n): argv("/bin/ls", "/proc/self/fd", fds=fds) for n in range(20)}
    # ls has one more open: the directory that it reads.
    assert {captured(r) for r in run(specs).values()} == {b"0\n1\n2\n3\n"}
    restricted = argv("/bin/ls", "/proc/self/fd", fds=fds)
    assert said(restricted, "--restrict-exe", "/bin/*") == "0\n1\n2\n3\n"
    assert said(restricted | {"pdeath_signal": "KILL"}) == "0\n1\n2\n3\n"


@pytest.mark.parametrize("size", (0, 1, 1 << 20, (1 << 20) + 1, 40_000_000))
def test_given_data_are_complete_and_immutable(size):
    """Data have any size, and each fd reads them from the start."""
    text = ("0123456789abcdef" * (size // 16 + 1))[:size]
    fds = [["stdin", {"data": {"text": text}}], *OUT]
    assert said(argv("/usr/bin/sha256sum", fds=fds)).split()[0] == hashlib.sha256(text.encode()).hexdigest()


def test_given_data_on_several_fds_are_separate():
    """This also holds for the form of an object, and for fds that are opened again by name."""
    fds = {"stdin": {"data": {"text": "in"}}, "7": {"data": {"base64": "//4="}}, "stdout": capture(encoding=None)}
    assert captured(ok(sh("cat; cat <&7; cat /dev/stdin") | {"fds": fds})) == b"in\xff\xfein"
    if os.geteuid() == 0:
        fds = [["stdin", {"data": {"text": "x" * (2 << 20)}}], *OUT]
        assert said(sh("wc -c < /dev/stdin", *fds, user="nobody")) == f"{2 << 20}\n"
    res = ok(sh("(echo x >&0) || echo refused; (echo x > /dev/stdin) || echo refused", *[["stdin", {"data": {"text": "y"}}], *OUT, ["stderr", {"null": {}}]]))
    assert captured(res) == b"refused\nrefused\n"


def test_given_data_leave_nothing_in_the_keeper():
    """No memory, descriptor or file once the process runs, even if it never reads."""
    with Service() as service:
        keeper = service.proc.pid
        service.post({"first": argv(TRUE, fds=[["stdin", {"data": {"text": "x"}}]])})
        service.result("first")
        fds = len(os.listdir(f"/proc/{keeper}/fd"))
        text = "needle-in-no-haystack " * 500_000
        service.post({"a": argv("/usr/bin/sleep", "1000", fds=[["stdin", {"data": {"text": text}}]])})
        assert service.result("a", ended=False)["pid"]

        def small():
            status = Path(f"/proc/{keeper}/status").read_text()
            return int(field(status, "RssAnon").split()[0]) < 8 << 10

        eventually(small, "the keeper's memory is small again")
        # One more: the pidfd of the process.
        eventually(lambda: len(os.listdir(f"/proc/{keeper}/fd")) <= fds + 1, "its descriptors are closed")
        directories = _directories(keeper)
        assert directories
        for path in (path for directory in directories for path in Path(directory).rglob("*")):
            if path.is_file():
                assert b"needle-in-no-haystack" not in path.read_bytes(), path
        assert service.http.post("/procs/a/signals/SIGKILL").status_code == 200


def _directories(keeper):
    """Directories of an instance, each with a lock."""
    links = [os.readlink(f"/proc/{keeper}/fd/{fd}") for fd in os.listdir(f"/proc/{keeper}/fd")]
    return {os.path.dirname(link) for link in links if link.endswith("/lock")}
