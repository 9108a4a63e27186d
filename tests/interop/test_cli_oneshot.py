"""Single runs: the command line, its outputs and errors."""

import json
import os
import re

import pytest

from support.oneshot import procstar, refused
from support.specs import TRUE, argv, capture, file, sh, specs


def _spec(tmp_path, **procs):
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(specs(**procs)))
    return path


@pytest.mark.parametrize("flag", ["--print", "-p"])
def test_print_is_one_line_of_json(tmp_path, flag):
    """The exit code is 0, regardless of the statuses of the processes."""
    done = procstar(flag, _spec(tmp_path, a=sh("echo 'x\ny'; exit 3"), b=argv("/nonexistent")))
    assert done.returncode == 0
    assert done.stdout.count(b"\n") == 1 and done.stdout.endswith(b"\n")
    res = json.loads(done.stdout)
    assert res["a"]["status"]["exit_code"] == 3
    assert res["a"]["fds"]["stdout"]["text"] == "x\ny\n"


@pytest.mark.parametrize("flag", ["--output", "-o"])
def test_output_writes_a_file(tmp_path, flag):
    """The file has no final newline; standard output is empty."""
    out = tmp_path / "out.json"
    out.write_text("x" * 100_000)
    done = procstar(flag, out, _spec(tmp_path, a=sh("echo hi")))
    assert (done.returncode, done.stdout) == (0, b"")
    text = out.read_text()
    assert text.count("\n") == 0
    assert json.loads(text)["a"]["fds"]["stdout"]["text"] == "hi\n"
    assert sorted(os.listdir(tmp_path)) == ["out.json", "spec.json"]


def test_an_unwritable_results_file_is_an_error_with_its_path(tmp_path):
    done = procstar("--output", tmp_path / "no" / "out.json", _spec(tmp_path, a=argv(TRUE)))
    assert done.returncode != 0
    assert str(tmp_path / "no" / "out.json").encode() in done.stderr


@pytest.mark.parametrize("flag", ["--exit", "-x", "--wait", "-w"])
def test_exit_and_wait_print_nothing(tmp_path, flag):
    """`--exit` ends when no process runs; `--wait` alone would wait for deletion."""
    if flag in ("--wait", "-w"):
        done = procstar(flag, "-", input=b'{"specs": {}}')
    else:
        done = procstar(flag, _spec(tmp_path, a=sh("exit 9")))
    assert (done.returncode, done.stdout) == (0, b"")


def test_long_and_short_options_can_have_attached_values(tmp_path):
    spec = _spec(tmp_path, a=argv(TRUE))
    for num, args in enumerate((["--output={}"], ["-o{}"])):
        out = tmp_path / f"out{num}"
        assert procstar(*[a.format(out) for a in args], spec).returncode == 0
        assert json.loads(out.read_text())["a"]["state"] == "terminated"


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["SPEC"],
        ["--exit", "--wait", "SPEC"],
        ["--print", "--wait", "SPEC"],
        ["--agent"],
        ["--agent", "--wait"],
        ["--no-such-option"],
        ["--print", "SPEC", "SPEC"],
        ["--serve", "--serve-port", "notaport"],
        ["--serve", "--serve-port", "65536"],
        ["--log-level", "loud", "--print", "SPEC"],
        ["--agent", "--agent-host", "h", "--agent-port", "x"],
        ["--agent", "--agent-host", "h", "--connect-count-max", "x"],
        ["--agent", "--agent-host", "h", "--connect-interval-mult", "x"],
        ["--print", "/nonexistent/spec.json"],
        ["--print", "/"],
        ["--output"],
    ],
)
def test_usage_errors_exit_with_2(tmp_path, args):
    """The error has a reason, and no process starts."""
    marker = tmp_path / "started"
    spec = _spec(tmp_path, a=argv("/usr/bin/touch", marker))
    done = procstar(*[str(spec) if a == "SPEC" else a for a in args], timeout=20)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert done.stdout == b""
    assert not marker.exists()


def test_help_and_version_go_to_standard_output():
    done = procstar("--help")
    assert done.returncode == 0
    for option in ("--print", "--output", "--exit", "--wait", "--serve", "--agent", "--restrict-exe"):
        assert option.encode() in done.stdout
    for hidden in (b"--conn-id", b"--agent-read-timeout"):
        assert hidden not in done.stdout


GOOD = {"argv": [TRUE]}
PIPE_READ = {"pipe-read": {"proc_id": "a", "fd": "stdout"}}


@pytest.mark.parametrize(
    "spec, place",
    [
        ({"specs": {}, "extra": 1}, "extra"),
        ({}, "specs"),
        ({"specs": []}, "specs"),
        ([], ""),
        ({"specs": {"a": 3}}, "specs.a"),
        ({"specs": {"a": GOOD | {"argx": 1}}}, "argx"),
        ({"specs": {"a": {}}}, "specs.a"),
        ({"specs": {"a": {"argv": []}}}, "specs.a"),
        ({"specs": {"a": {"argv": "true"}}}, "specs.a.argv"),
        ({"specs": {"a": {"argv": [TRUE, 1]}}}, "specs.a.argv[1]"),
        ({"specs": {"a": {"argv": [TRUE, "a\0b"]}}}, "specs.a.argv[1]"),
        ({"specs": {"a": GOOD | {"exe": "/a\0b"}}}, "specs.a.exe"),
        ({"specs": {"a": GOOD | {"exe": 1}}}, "specs.a.exe"),
        ({"specs": {"a": GOOD | {"env": {"inherit": "some"}}}}, "specs.a.env"),
        ({"specs": {"a": GOOD | {"env": {"extra": 1}}}}, "specs.a.env"),
        ({"specs": {"a": GOOD | {"env": {"vars": {"X": 1}}}}}, "specs.a.env"),
        ({"specs": {"a": GOOD | {"env": {"vars": {"X=Y": "1"}}}}}, "specs.a.env"),
        ({"specs": {"a": GOOD | {"env": {"vars": {"X\0": "1"}}}}}, "specs.a.env"),
        ({"specs": {"a": GOOD | {"env": {"vars": {"X": "\0"}}}}}, "specs.a.env"),
        ({"specs": {"a": GOOD | {"fds": "stdout"}}}, "specs.a.fds"),
        ({"specs": {"a": GOOD | {"fds": [["stdin"]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", "inherit", 1]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", "inherit"], ["std", "inherit"]]}}}, "specs.a.fds[1]"),
        ({"specs": {"a": GOOD | {"fds": [["-1", "close"]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["4294967296", "close"]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["2147483647", {"null": {}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", "nothing"]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", {"nothing": {}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", {"null": {"extra": 1}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", {"null": {"flags": "read"}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", {"file": {}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", {"file": {"path": "/x", "extra": 1}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdin", {"file": {"path": "/x\0"}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdout", {"capture": {"mode": "disk"}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdout", {"capture": {"encoding": "latin-1"}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdout", {"capture": {"extra": 1}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdout", {"dup": {"fd": -1}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdout", {"dup": {"fd": "1"}}]]}}}, "specs.a.fds[0]"),
        ({"specs": {"a": GOOD | {"fds": [["stdout", "close"], ["stdout", "close"]]}}}, "specs.a.fds[1]"),
        ({"specs": {"a": GOOD | {"fds": [["stdout", "close"], ["1", "close"]]}}}, "specs.a.fds[1]"),
        ({"specs": {"a": GOOD | {"fds": [["stdout", "pipe-write"]]}}}, "specs.a.fds[0]"),
        ({"specs": {"b": GOOD | {"fds": [["stdin", PIPE_READ]]}}}, "specs.b.fds[0]"),
        ({"specs": {"a": GOOD, "b": GOOD | {"fds": [["stdin", PIPE_READ]]}}}, "specs.b.fds[0]"),
        (
            {"specs": {"a": GOOD | {"fds": [["stdout", "pipe-write"]]},
                       "b": GOOD | {"fds": [["stdin", PIPE_READ]]}, "c": GOOD | {"fds": [["3", PIPE_READ]]}}},
            "fds[0]",
        ),
        ({"specs": {"a": GOOD | {"systemd_properties": {"extra": 1}}}}, "specs.a.systemd_properties"),
        ({"specs": {"a": GOOD | {"systemd_properties": {"scope": {"oom_policy": "x"}}}}}, "specs.a.systemd_properties"),
    ],
)  # fmt: skip
def test_an_invalid_spec_starts_nothing(tmp_path, spec, place):
    """The exit code is 2, and the message has the position."""
    marker = tmp_path / "started"
    if isinstance(spec, dict) and isinstance(spec.get("specs"), dict):
        spec = spec | {"specs": {"0first": argv("/usr/bin/touch", marker), **spec["specs"]}}
    assert place in refused(spec)
    assert not marker.exists()


@pytest.mark.parametrize(
    "text, line",
    [
        ("", None),
        ("{", 1),
        ('{\n  "specs": {\n    "a": {"argv": ["x",]}\n  }\n}', 3),
        ('{"specs": {}} trailing', 1),
        ('{\n"specs": {"a": {"argv": ["/usr/bin/true"]}, "b": {"argv": 1}}\n}', 2),
        (b'{"specs": {"\xff": {}}}', None),
    ],
)
def test_invalid_json_is_reported_with_file_line_and_column(tmp_path, text, line):
    path = tmp_path / "bad.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = procstar("--print", path)
    assert (done.returncode, done.stdout) == (2, b"")
    said = done.stderr.decode()
    assert "bad.json" in said
    if line is not None:
        assert re.search(rf"line {line}\b.*column \d+|bad\.json:{line}:\d+", said), said


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_byte_order_marks_are_skipped_and_utf_16_is_refused(tmp_path, encoding):
    """In specs and in the configuration."""
    spec, config = tmp_path / "spec.json", tmp_path / "config.toml"
    spec.write_text(json.dumps(specs(a=argv(TRUE))), encoding=encoding)
    config.write_text('[log]\nlevel = "error"\n', encoding=encoding)
    plain = tmp_path / "plain.json"
    plain.write_text(json.dumps(specs(a=argv(TRUE))))
    good = encoding == "utf-8-sig"
    for args in (["--print", spec], ["validate", spec], ["--config", config, "--print", plain]):
        done = procstar(*args)
        assert done.returncode == (0 if good else 2), (args, done)
        assert good or b"UTF-16" in done.stdout + done.stderr, (args, done)


def test_a_duplicate_id_is_an_error():
    said = refused('{"specs": {"a": {"argv": ["/usr/bin/true"]}, "a": {"argv": ["/usr/bin/false"]}}}')
    assert "a" in said


def test_deeply_nested_input_is_refused():
    refused("[" * 200_000)


def test_relative_paths_are_relative_to_the_working_directory(tmp_path):
    """Paths in specs, and INPUT itself."""
    (tmp_path / "in").write_text("relative")
    _spec(tmp_path, a=argv("/bin/cat", fds=[["stdin", file("in")], ["stdout", capture()]]))
    done = procstar("--print", "spec.json", cwd=tmp_path)
    assert json.loads(done.stdout)["a"]["fds"]["stdout"]["text"] == "relative"
