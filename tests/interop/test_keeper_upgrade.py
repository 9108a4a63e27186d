"""Upgrades in place: keeper and worker execute the new program, and processes do not notice."""

import os
import signal
import socket
import subprocess

import httpx
import pytest

from support.http import Service, steady
from support.oneshot import binary
from support.replaceable import Replaceable
from support.shapes import captured, check_result
from support.specs import capture, sh
from support import upgrades
from support.survival import worker_pid, kill
from support.wait import eventually

# Writes lines until it gets a signal, then their number, and exits with 7.
PRINTER = "i=0; while [ ! -e {stop} ]; do echo line $i; i=$((i+1)); sleep 0.01; done; echo $i > {count}; exit 7"


def upgraded(service, times):
    """Waits until the log has so many upgrades."""
    eventually(lambda: service.log().count("upgraded path=") == times, f"upgrade {times}")


def result(service, *args, **kw):
    """Result of a process from the current worker."""
    return steady(lambda: service.result(*args, **kw))


def same_pid(service):
    """Asserts that the launched process is still the keeper, with a worker."""
    eventually(lambda: worker_pid(service.proc.pid), "a worker")
    eventually(service._listens, "the service listens again")


def test_processes_continue_over_upgrades_and_crashes(tmp_path):
    """Three upgrades and a killed worker: no byte and no status is lost."""
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
            # The new program continues to read the pipe.
            eventually(
                lambda: result(service, "memory", ended=False)["captures"]["stdout"]["length"] > length, "more output"
            )
        kill(worker_pid(service.proc.pid), signal.SIGKILL)
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


def test_no_status_is_lost_in_a_loop_of_upgrades():
    """`tests/upgrades` runs this for any time."""
    figures = upgrades.run(seconds=8)
    print(figures)
    assert figures.good and figures.upgrades >= 3


# A program, and the reason of its refusal.
BAD = {
    "exits with 0": (b"#!/bin/sh\nexit 0\n", "is not procstar, or a version that cannot resume this instance (exit status: 0)"),
    "exits with 9": (b"#!/bin/sh\nexit 9\n", "(exit status: 9)"),
    "echoes the state": (b"#!/bin/sh\ncat\n", "is not procstar"),
    "prints a version": (b"#!/bin/sh\necho procstar 2.0.0\n", "is not procstar"),
    "hangs": (b"#!/bin/sh\nsleep 1000\n", "did not answer within 5 s"),
    "is no program": (b"no program", "Exec format error"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_invalid_program_is_refused_and_the_old_one_continues(tmp_path, kind):
    """The program is checked before the upgrade, and the command reports the reason."""
    bad, why = BAD[kind]
    with Replaceable(tmp_path) as service:
        service.post({"a": sh("exec sleep 1000")})
        pid, worker = result(service, "a", ended=False)["pid"], worker_pid(service.proc.pid)
        service.replace(bad)
        done = service.upgrade()
        assert done.returncode == 1 and why in done.stderr, done
        # The worker is the same, too.
        assert service.result("a", ended=False)["pid"] == pid
        assert worker_pid(service.proc.pid) == worker
        service.replace(service.good.read_bytes())
        done = service.upgrade()
        assert done.returncode == 0 and str(service.program) in done.stdout, done
        # The service listens after the end of the command.
        assert service.result("a", ended=False)["pid"] == pid
        service.http.post("/procs/a/signals/SIGKILL")
        assert result(service, "a")["status"]["signum"] == signal.SIGKILL


def test_a_script_that_starts_the_program_is_accepted(tmp_path):
    """The script passes the arguments of the check on, and may print anything."""
    with Replaceable(tmp_path) as service:
        service.post({"a": sh("exec sleep 1000")})
        pid = result(service, "a", ended=False)["pid"]
        service.replace(f'#!/bin/sh\necho starting\nexec {service.good} "$@"\n'.encode())
        done = service.upgrade()
        assert done.returncode == 0, done
        assert service.result("a", ended=False)["pid"] == pid
        assert os.readlink(f"/proc/{service.proc.pid}/exe") == str(service.good)


def test_an_invalid_configuration_is_refused_before_the_worker_ends(tmp_path):
    """The configuration has mistyped keys or missing files."""
    with Replaceable(tmp_path) as service:
        worker = worker_pid(service.proc.pid)
        missing = tmp_path / "missing.pem"
        for text, why in (
            ("[http]\nprot = 1\n", "unknown key"),
            ("[http", "procstar.toml"),
            (f'[http]\ntls_cert = "{missing}"\ntls_key = "{missing}"\n', "missing.pem"),
            (f'[http]\nsocket = "{missing}/x"\n', "missing.pem/x"),
        ):
            service.config.write_text(text)
            done = service.upgrade()
            assert done.returncode == 1 and why in done.stderr, done
            assert worker_pid(service.proc.pid) == worker
            assert service.http.get("/procs").status_code == 200
        service.config.write_text("")
        assert service.upgrade().returncode == 0


def test_a_port_of_another_program_is_refused(tmp_path):
    """The service's own port is not refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        service = Replaceable(tmp_path)
        service.config.write_text(f"[http]\nport = {service.port}\n")
        at = service.argv.index("--serve-port")
        del service.argv[at : at + 2]
        with service:
            worker = worker_pid(service.proc.pid)
            service.config.write_text(f"[http]\nport = {taken.getsockname()[1]}\n")
            done = service.upgrade()
            assert done.returncode == 1 and "failed to listen on 127.0.0.1:" in done.stderr, done
            assert worker_pid(service.proc.pid) == worker and service.http.get("/procs").status_code == 200
            taken.close()
            assert service.upgrade().returncode == 0
            service.port = httpx.URL(str(service.http.base_url)).port
            with socket.socket() as sock:
                assert sock.connect_ex(("127.0.0.1", service.port)) != 0


def test_a_failed_start_after_the_check_is_reported(tmp_path):
    """Processes continue, and the worker is restarted."""
    with Replaceable(tmp_path) as service:
        service.post({"a": sh("exec sleep 1000")})
        # The script that passes on the check makes the configuration invalid afterwards.
        script = f"""#!/bin/sh
if [ -z "$PROCSTAR_KEEPER_CHECK" ]; then echo '[http' > {service.config}; fi
exec {service.good} "$@"
"""
        service.replace(script.encode())
        done = service.upgrade()
        assert done.returncode == 1 and "its worker cannot start: " in done.stderr and "procstar.toml" in done.stderr, done
        service.config.write_text("")
        assert result(service, "a", ended=False)["state"] == "running"


def test_sigterm_during_an_upgrade_is_handled():
    with Service() as service:
        service.post({"a": sh("exec sleep 1000")})
        service.proc.send_signal(signal.SIGHUP)
        service.proc.send_signal(signal.SIGTERM)
        assert service.proc.wait(30) == 0


def test_an_upgrade_needs_an_instance(tmp_path):
    """The message names the searched directory."""
    env = os.environ | {"PROCSTAR_RUN_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run([binary(), "upgrade"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"no instance of this user runs in {tmp_path}" in done.stderr


def test_sighup_without_a_terminal_upgrades():
    """This also holds for a session leader, as under a supervisor."""
    script = '"$0" --serve --serve-port 0 --log-level info 2>&1 & read -r; kill -HUP $!; read -r; kill -TERM $!; wait $!'
    leader = subprocess.Popen(
        ["/bin/bash", "-c", script, binary()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True,
    )  # fmt: skip

    def go_on_after(text):
        assert any(text in line for line in leader.stdout)
        leader.stdin.write("go\n")
        leader.stdin.flush()

    go_on_after("listening")
    go_on_after(": upgraded")
    out, _ = leader.communicate(timeout=60)
    assert leader.returncode == 0, out


@pytest.mark.parametrize("mode", ("tempfile", "memory"))
def test_survivors_continue_over_an_upgrade(mode):
    """A truncated capture stays truncated, and its pipe is still read."""
    with Service() as service:
        script = "(for i in $(seq 100000); do echo late; sleep 0.01; done) & echo $!"
        service.post({"a": sh(script, ("stdout", capture(mode)))})
        res = result(service, "a")
        assert res["captures"]["stdout"]["reason"] == "held_open"
        service.proc.send_signal(signal.SIGHUP)
        upgraded(service, 1)
        same_pid(service)
        now = result(service, "a")
        assert now["fds"] == res["fds"]
        survivor = int(captured(res).decode().split()[0])
        assert os.path.exists(f"/proc/{survivor}")
        os.kill(survivor, signal.SIGKILL)
