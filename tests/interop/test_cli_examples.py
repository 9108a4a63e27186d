"""The examples run as the documentation describes them."""

import json
from pathlib import Path

import pytest

from support.http import Service
from support.oneshot import procstar
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


def test_readmes_service_can_be_followed():
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


def test_outcomes_has_each_way_to_end():
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
