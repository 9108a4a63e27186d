"""The examples run as the documentation describes them."""

import json
import os
from pathlib import Path
import subprocess
import sys

import pytest
from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH

from support.http import Service, free_port
from support.oneshot import binary, procstar
from support.shapes import captured, check_result

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.json"))


def _run(path):
    done = procstar("--print", path, cwd=ROOT)
    assert done.returncode == 0
    # Processes that inherit standard output may have written before.
    results = json.loads(done.stdout.splitlines()[-1])
    for res in results.values():
        check_result(res)
    return results


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.stem)
def test_every_spec_has_a_result(path):
    assert set(_run(path)) == set(json.loads(path.read_text())["specs"])


def test_the_commands_of_readmes_service_work():
    with Service(ROOT / "examples" / "service" / "clock.json") as service:
        with service.http.stream("GET", "/procs/clock/output/stdout/follow") as rsp:
            assert rsp.status_code == 200
            lines = rsp.iter_lines()
            assert [len(next(lines).split()) > 3 for _ in range(2)] == [True, True]
        assert b"procstar" in service.http.get("/").content


def test_hello_has_a_file_a_variable_a_pipe_and_a_capture():
    res = _run(ROOT / "examples" / "hello.json")
    assert captured(res["shout"]) == b"HELLO, ADA\nHELLO, GRACE\nHELLO, LINUS\n"
    assert captured(res["greet"], "stderr") == b""
    assert all(r["status"]["exit_code"] == 0 for r in res.values())


def test_outcomes_has_each_kind_of_end():
    res = _run(ROOT / "examples" / "outcomes.json")
    assert {i: (r["state"], r["status"]["exit_code"], r["status"]["signal"]) for i, r in res.items()} == {
        "success": ("terminated", 0, None),
        "failure": ("terminated", 3, None),
        "killed": ("terminated", None, "SIGKILL"),
        "missing": ("error", 127, None),
        "no-input": ("error", 125, None),
    }


def test_captures_has_text_bytes_and_a_length():
    res = _run(ROOT / "examples" / "specs" / "captures.json")
    assert captured(res["text"]) == b"to stdout\nto stderr\n"
    assert len(captured(res["binary"])) == 16
    assert res["large"]["fds"]["stdout"] == {"type": "detached", "length": 1_000_000, "encoding": "base64"}


def test_the_client_limits_the_number_of_concurrent_processes():
    with Service() as service:
        env = os.environ | {"PROCSTAR_URL": f"http://127.0.0.1:{service.port}"}
        done = subprocess.run(
            [sys.executable, ROOT / "examples" / "client.py"], env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [f"square-{n} exited 0 {n * n}" for n in range(10)]
        assert service.http.get("/procs").json()["data"]["procs"] == {}


def test_the_scheduler_runs_a_command_on_an_agent():
    port = str(free_port())
    env = os.environ | {"PROCSTAR_AGENT_HOST": "127.0.0.1", "PROCSTAR_AGENT_PORT": port, "PROCSTAR_AGENT_TOKEN": "t"}
    server = env | {"PROCSTAR_AGENT_CERT": str(TLS_CERT_PATH), "PROCSTAR_AGENT_KEY": str(TLS_KEY_PATH)}
    command = ["--", "/bin/sh", "-c", "echo hello; exit 4"]
    scheduler = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "scheduler.py", *command], env=server, stdout=subprocess.PIPE, text=True
    )
    agent = env | {"PROCSTAR_AGENT_CA": str(TLS_CERT_PATH)}
    done = subprocess.run(
        [binary(), "--agent", "--agent-host", "localhost", "--wait", "--connect-interval-start", "0.1"],
        env=agent, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (scheduler.communicate(timeout=30)[0], scheduler.returncode) == ("hello\n", 4)
