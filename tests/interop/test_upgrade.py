"""Upgrade in place: keeper and agent become the program that is now on disk, and no process notices."""

import os
import shutil
import signal
import subprocess

import httpx
import pytest

from support.http import Service
from support.oneshot import binary
from support.shapes import captured, check_result
from support.specs import capture, sh
from support.survival import agent_pid, kill
from support.wait import eventually

# Writes lines until it is told to stop, then says how many, and ends by exit code 7.
PRINTER = "i=0; while [ ! -e {stop} ]; do echo line $i; i=$((i+1)); sleep 0.01; done; echo $i > {count}; exit 7"


def upgraded(service, times):
    """Returns once the log tells of so many upgrades."""
    eventually(lambda: service.log().count("upgraded path=") == times, f"upgrade {times}")


def steady(look):
    """The value of `look`, once no connection is lost over it: one to an agent that has just died is."""
    def tried():
        try:
            return [look()]
        except httpx.TransportError:
            return None

    return eventually(tried, "an answer")[0]


def result(service, *args, **kw):
    """A process's result, from whichever agent there is."""
    return steady(lambda: service.result(*args, **kw))


def same_pid(service):
    """The launched process is still the keeper, and has an agent."""
    eventually(lambda: agent_pid(service.proc.pid), "an agent")
    eventually(service._listens, "the service listens again")


def test_processes_run_on(tmp_path):
    """Three upgrades, and the agent killed, amid processes that write in both modes: not a byte nor a status is lost."""
    with Service() as service:
        modes = ("tempfile", "memory")
        specs = {}
        for mode in modes:
            script = PRINTER.format(stop=tmp_path / "stop", count=tmp_path / mode)
            specs[mode] = sh(script, ("stdout", capture(mode)))
        specs["ended"] = sh("echo done; exit 3")
        specs["survivor"] = sh("sleep 1000 & echo $!")
        service.post(specs)
        before = {name: result(service, name) for name in ("ended", "survivor")}
        pids = {mode: result(service, mode, ended=False)["pid"] for mode in modes}
        for times in (1, 2, 3):
            length = result(service, "memory", ended=False)["captures"]["stdout"]["length"]
            service.proc.send_signal(signal.SIGHUP)
            upgraded(service, times)
            same_pid(service)
            # The new program reads the pipe on.
            eventually(
                lambda: result(service, "memory", ended=False)["captures"]["stdout"]["length"] > length, "more output"
            )
        kill(agent_pid(service.proc.pid), signal.SIGKILL)
        (tmp_path / "stop").touch()
        eventually(service._listens, "the service listens again")
        for mode in modes:
            res = result(service, mode)
            check_result(res)
            assert (res["state"], res["status"]["exit_code"], res["pid"]) == ("terminated", 7, pids[mode])
            assert res["captures"]["stdout"]["complete"]
            count = int((tmp_path / mode).read_text())
            assert captured(res).decode() == "".join(f"line {i}\n" for i in range(count))
            assert res["rusage"]["utime"] > 0
        for name, res in before.items():
            now = result(service, name)
            assert {k: v for k, v in now.items() if k != "times"} == {k: v for k, v in res.items() if k != "times"}
        os.kill(int(captured(before["survivor"])), signal.SIGKILL)


def test_a_bad_program_leaves_the_old_running(tmp_path, monkeypatch):
    """What cannot go on is found out before anything is given up, and `reload` says so."""
    program = tmp_path / "procstar"
    shutil.copy(binary(), program)
    monkeypatch.setenv("PROCSTAR", str(program))
    with Service() as service:
        service.post({"a": sh("exec sleep 1000")})
        pid = result(service, "a", ended=False)["pid"]

        def replace(text):
            (tmp_path / "new").write_bytes(text)
            (tmp_path / "new").chmod(0o755)
            (tmp_path / "new").rename(program)

        def reload():
            argv = [tmp_path / "good", "reload", str(service.proc.pid)]
            return subprocess.run(argv, capture_output=True, text=True, timeout=60)

        good = program.read_bytes()
        shutil.copy(program, tmp_path / "good")
        for bad, why in ((b"#!/bin/sh\nexit 9\n", "exit status: 9"), (b"no program", "Exec format error")):
            replace(bad)
            done = reload()
            assert done.returncode == 1 and why in done.stderr, done
            assert result(service, "a", ended=False)["pid"] == pid
        replace(good)
        done = reload()
        assert done.returncode == 0 and str(program) in done.stdout, done
        same_pid(service)
        assert result(service, "a", ended=False)["pid"] == pid
        steady(lambda: service.http.post("/procs/a/signals/SIGKILL"))
        assert result(service, "a")["status"]["signum"] == signal.SIGKILL


def test_a_signal_amid_an_upgrade_is_followed():
    """SIGTERM right behind SIGHUP is not lost with the program that got it."""
    with Service() as service:
        service.post({"a": sh("exec sleep 1000")})
        service.proc.send_signal(signal.SIGHUP)
        service.proc.send_signal(signal.SIGTERM)
        assert service.proc.wait(30) == 0


def test_reload_needs_an_instance(tmp_path):
    """It names the place where it has looked."""
    env = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([binary(), "reload"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"no procstar of this user runs in {tmp_path}" in done.stderr


def test_hangup_of_the_session_is_no_upgrade():
    """SIGHUP from the session's leader, a shell that dies with its terminal, ends the program."""
    leader = subprocess.Popen(
        ["/bin/bash", "-c", "\"$0\" --serve --serve-port 0 --log-level info 2>&1 & read -r; kill -HUP $!; wait $!", binary()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True,
    )  # fmt: skip
    for line in leader.stdout:
        if "listening" in line:
            break
    out, _ = leader.communicate("go\n", timeout=60)
    assert leader.returncode == 0
    assert "upgrad" not in out and "Terminate" in out


@pytest.mark.parametrize("mode", ("tempfile", "memory"))
def test_a_survivor_of_before_is_read_on(mode):
    """A capture that was cut short stays so, and the survivor is not killed by a pipe that nobody reads."""
    with Service() as service:
        script = "(for i in $(seq 100000); do echo late; sleep 0.01; done) & echo $!"
        service.post({"a": sh(script, ("stdout", capture(mode)))})
        res = result(service, "a")
        assert res["captures"]["stdout"]["reason"] == "survivor"
        service.proc.send_signal(signal.SIGHUP)
        upgraded(service, 1)
        same_pid(service)
        now = result(service, "a")
        assert now["fds"] == res["fds"]
        survivor = int(captured(res).decode().split()[0])
        assert os.path.exists(f"/proc/{survivor}")
        os.kill(survivor, signal.SIGKILL)
