"""Timeouts, stops, survivors, atomic requests, and shortages."""

import json
import os
import shutil
import signal
import subprocess
import tempfile

import pytest

from support import procs
from support.oneshot import binary, procstar, run, run1
from support.shapes import captured, check_result
from support.specs import SLEEP, TRUE, argv, capture, sh, sleeper
from support.wait import aeventually

TREE = """
trap '' TERM
setsid sh -c 'echo $$; sleep 1000 & echo $!; wait' &
(sleep 1000 & echo $!)
echo $$
wait
"""


def pids(res):
    """PIDs that a process has written."""
    return [int(line) for line in captured(res).split()]


async def written(wire, proc_id, count=1):
    """Waits until a process has written so many lines."""

    async def lines():
        return (await wire.read(proc_id))["data"].count(b"\n") >= count

    await aeventually(lines, f"{count} lines of {proc_id}")


# -- timeout and stop


def test_a_timeout_sends_sigterm():
    res = run1(sh("sleep 1000", timeout=0.2))
    assert (res["state"], res["reason"], res["status"]["signal"]) == ("terminated", "timeout", "SIGTERM")
    assert 0.2 <= res["times"]["elapsed"] < 5
    assert res["survivors"] == [] and res["survivor_count"] == 0
    res = run1(argv(TRUE, timeout=100))
    assert (res["reason"], res["status"]["exit_code"]) == ("exited", 0)


def test_a_timeout_kills_the_whole_tree():
    """The tree includes orphans and processes of another session that ignore the signal."""
    res = run1(sh(TREE, timeout=0.5, stop={"grace": 0.2}))
    assert (res["reason"], res["status"]["signal"]) == ("timeout", "SIGKILL")
    members = pids(res)
    assert len(members) == 4
    assert not any(procs.is_alive(pid) for pid in members)
    assert res["survivors"] == []
    assert res["captures"]["stdout"]["complete"] is True


def test_stop_sends_the_signal_of_the_spec():
    """The whole tree gets the signal, and has the grace period to end."""
    # Background jobs of a shell ignore SIGINT.
    deaf = "sleep 1000 & echo $!"
    script = f"{deaf}; (trap 'echo asked >&2' USR1; echo; sleep 1000 & wait) & trap 'exit 5' USR1; while :; do sleep 0.05; done"
    res = run1(sh(script, timeout=0.5, stop={"signal": "USR1", "grace": 100}))
    assert (res["reason"], res["status"]["exit_code"]) == ("timeout", 5)
    res = run1(sh(f"{deaf}; trap 'exit 6' INT; while :; do sleep 0.05; done", timeout=0.5, stop={"signal": 2, "grace": 0.5}))
    assert (res["reason"], res["status"]["exit_code"]) == ("timeout", 6)
    (pid,) = pids(res)
    assert not procs.is_alive(pid) and res["survivors"] == []


async def test_shutdown_stops_each_process_by_its_spec(raw):
    """Without `stop`, by SIGTERM to the tree."""
    _, agent, wire = await raw.pair()
    deaf = "trap '' TERM; echo $$; while :; do sleep 0.05; done"
    specs = {
        "plain": sh("(trap 'sleep 0.3; echo saved; exit' TERM; while :; do sleep 0.05; done) & echo $!; wait"),
        "usr1": sh("trap 'exit 7' USR1; echo $$; while :; do sleep 0.05; done", stop={"signal": "USR1"}),
        "deaf": sh(deaf, stop={"grace": 0.2}),
    }
    for proc_id, spec in specs.items():
        await wire.start(**{proc_id: spec})
        await written(wire, proc_id)
    agent.signal(signal.SIGTERM)
    await wire.expect("ShutDown", shutdown_state="idling")
    results = await wire.ended(3)
    assert {res["reason"] for res in results.values()} == {"stopped"}
    assert results["plain"]["status"]["signal"] == "SIGTERM"
    assert results["usr1"]["status"]["exit_code"] == 7
    assert results["deaf"]["status"]["signal"] == "SIGKILL"
    child, saved = captured(results["plain"]).split()
    assert saved == b"saved" and results["plain"]["survivors"] == []
    assert not procs.is_alive(int(child))
    await wire.delete("plain", "usr1", "deaf")
    assert (await agent.exit())[0] == 0


async def test_sigquit_kills_all_trees(raw):
    _, agent, wire = await raw.pair()
    await wire.start(tree=sh(TREE))
    await written(wire, "tree", 4)
    agent.signal(signal.SIGQUIT)
    await wire.expect("ShutDown", shutdown_state="idling")
    res = (await wire.ended())["tree"]
    assert (res["reason"], res["status"]["signal"], res["survivors"]) == ("stopped", "SIGKILL", [])
    assert not any(procs.is_alive(pid) for pid in pids(res))
    await wire.delete("tree")
    assert (await agent.exit())[0] == 0


# -- survivors


def test_a_survivor_that_holds_the_pipe_is_listed():
    """The result comes after the drain timeout, and the survivor continues."""
    res = run1(sh("sleep 60 & echo hi; echo $! >&2"))
    (pid,) = [int(captured(res, "stderr"))]
    try:
        assert captured(res) == b"hi\n" and res["reason"] == "exited"
        assert res["captures"]["stdout"]["reason"] == "held_open"
        assert res["survivors"] == [{"pid": pid, "comm": "sleep", "session": res["pid"], "relation": "group"}]
        assert procs.is_alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_orphans_are_reaped_and_daemons_reported(raw):
    """Orphans are children of the keeper, and do not stay zombies."""
    _, agent, wire = await raw.pair()
    first = await wire.start(a=sh("setsid sleep 1000 & echo $!; sleep 0.2"))
    assert first["a"]["survivors"] is None and first["a"]["survivor_count"] is None
    res = (await wire.ended())["a"]
    (pid,) = pids(res)
    assert [(s["pid"], s["relation"]) for s in res["survivors"]] == [(pid, "inferred")]
    assert pid in procs.descendants(agent.pid)
    os.kill(pid, signal.SIGKILL)
    await aeventually(lambda: not os.path.exists(f"/proc/{pid}"), "the orphan's burial")
    await wire.delete("a")


# -- requests as a whole


def test_all_or_nothing_stops_the_others_after_a_failure():
    """Without `all_or_nothing` they run."""
    specs = {"bad": argv("/nope"), "long": sleeper()}
    done = procstar("--print", "-", input=json.dumps({"specs": specs, "all_or_nothing": True}).encode())
    results = json.loads(done.stdout)
    assert results["bad"]["errors"][0].startswith("execve failed: /nope")
    long = check_result(results["long"])
    if long["state"] == "error":
        in_setup = "the set-up was ended by a signal before execve"
        assert long["errors"] in (['not started: process "bad" of the same request failed'], [in_setup])
    else:
        assert (long["reason"], long["status"]["signal"]) == ("stopped", "SIGTERM")
    results = run({"bad": argv("/nope"), "short": sh("sleep 0.2; exit 3")})
    assert results["short"]["status"]["exit_code"] == 3


async def test_an_idempotent_request_returns_the_existing_process(raw):
    """Another spec of the same ID is an error."""
    _, _, wire = await raw.pair()
    spec = sh("sleep 0.5; echo done")
    await wire.send("ProcStartRequest", specs={"a": spec}, idempotent=True)
    first = await wire.expect("ProcResult", proc_id="a")
    await wire.send("ProcStartRequest", specs={"a": spec, "b": sh("exit 4")}, idempotent=True)
    results = [await wire.expect("ProcResult") for _ in range(4)]
    a = [msg["res"] for msg in results if msg["proc_id"] == "a"]
    assert [res["state"] for res in a] == ["running", "terminated"]
    assert {res["pid"] for res in a} == {first["res"]["pid"]}
    await wire.send("ProcStartRequest", specs={"a": spec}, idempotent=True)
    for _ in range(2):
        again = await wire.expect("ProcResult", proc_id="a")
        assert captured(again["res"]) == b"done\n" and again["res"]["pid"] == a[0]["pid"]
    await wire.send("ProcStartRequest", specs={"a": sh("true")}, idempotent=True)
    error = await wire.expect("RequestError")
    assert error["err"].startswith("process ID already in use with another spec: a; ")
    await wire.send("ProcStartRequest", specs={"a": spec})
    error = await wire.expect("RequestError")
    assert error["err"].startswith("process ID already in use: a; ")
    await wire.barrier()


def test_an_idempotent_request_by_http_starts_nothing_twice(service):
    with_http = service()
    body = {"specs": {"a": sh("sleep 0.2; echo $$")}, "idempotent": True}
    for _ in range(3):
        rsp = with_http.http.post("/procs", json=body)
        assert rsp.status_code == 200 and rsp.json()["data"]["proc_ids"] == ["a"]
    with_http.result("a")
    body["specs"]["a"] = sh("echo other")
    rsp = with_http.http.post("/procs", json=body)
    assert rsp.status_code == 409
    assert rsp.json()["errors"][0]["detail"].startswith("process ID already in use with another spec: a; ")


def test_the_order_of_keys_does_not_matter_for_idempotence(service):
    service = service()
    pairs = [("B", "1"), ("A", "2"), ("C", "3")]
    for some in (pairs, pairs[::-1], sorted(pairs)):
        spec = sh("echo done", env={"vars": dict(some)}, labels=dict(some), rlimits=dict([("core", 0), ("nofile", 99)][:: 1 if some == pairs else -1]))
        rsp = service.http.post("/procs", json={"specs": {"a": spec}, "idempotent": True})
        assert rsp.status_code == 200, rsp.text
    assert list(service.result("a")["labels"].items()) == pairs
    spec = sh("echo done", env={"vars": dict(pairs)}, labels=dict(pairs) | {"A": "4"})
    assert service.http.post("/procs", json={"specs": {"a": spec}, "idempotent": True}).status_code == 409


# -- shortages


def limited(command, specs, *args, **kw):
    """Runs the binary on specs from a shell after `command`."""
    done = subprocess.run(
        ["/bin/bash", "-c", f'{command}; exec "$0" "$@"', binary(), "--print", *args, "-"],
        input=json.dumps({"specs": specs}).encode(), capture_output=True, timeout=100, check=False, **kw,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_200_processes_run_with_64_descriptors():
    """They wait for each other."""
    specs = {f"p{i}": sh(f"echo {i}") for i in range(200)}
    results = limited("ulimit -n 64", specs)
    for i in range(200):
        res = results[f"p{i}"]
        assert (res["errors"], captured(res)) == ([], f"{i}\n".encode())


def test_a_process_without_enough_descriptors_fails_alone():
    fds = [[str(fd), capture()] for fd in range(3, 40)]
    results = limited("ulimit -n 64", {"large": argv(TRUE, fds=fds), "small": sh("exit 3")})
    assert results["large"]["state"] == "error"
    assert all(e.endswith("Too many open files (os error 24)") for e in results["large"]["errors"])
    assert results["small"]["status"]["exit_code"] == 3


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_starts_beyond_the_process_limit_fail_alone():
    """Those after the shortage run."""
    # A user without other processes. It cannot enter this test's directories.
    uid = 54321
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chown(place, uid, uid)
        shutil.copy(binary(), f"{place}/procstar")
        results = crowd(uid, place)
    failed = [res for res in results.values() if res["state"] == "error"]
    ran = [res for res in results.values() if res["state"] == "terminated"]
    assert len(failed) + len(ran) == 60 and failed and ran
    for res in failed:
        assert res["errors"] == ["fork failed: Resource temporarily unavailable (os error 11)"]
        assert (res["pid"], res["status"]["exit_code"]) == (None, 125)
    assert all(res["status"]["exit_code"] == 0 for res in ran)


def crowd(uid, place):
    """Runs 60 processes as a user with a limit of 40."""
    specs = {f"p{i}": argv(SLEEP, 3) for i in range(60)}
    done = subprocess.run(
        ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "/bin/bash", "-c",
         f"ulimit -u 40; exec {place}/procstar --print -"],
        input=json.dumps({"specs": specs}).encode(), capture_output=True, timeout=100, check=False,
        env={"TMPDIR": place, "PATH": "/usr/bin:/bin"}, cwd=place,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_full_disk_truncates_output_or_fails_the_start(tmp_path):
    """The next process is not affected."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=40", "none", disk], check=False).returncode:
        pytest.skip("cannot mount here")
    try:
        fds = [["stdout", {"capture": {"mode": "tempfile"}}], ["stderr", "close"]]
        script = "head -c 3000000 /dev/zero; exit 3"
        specs = {f"p{i}": sh("echo x", *fds) for i in range(60)} | {"big": sh(script, *fds)}
        done = procstar("--print", "-", input=json.dumps({"specs": specs}).encode(), env={"TMPDIR": str(disk), "PATH": "/usr/bin:/bin"})
        assert done.returncode == 0, done.stderr
        results = json.loads(done.stdout)
        failed = [res for res in results.values() if res["state"] == "error"]
        assert failed and len(failed) < 61
        for res in failed:
            assert res["errors"] == ["failed to set up fd 1: No space left on device (os error 28)"]
        for proc_id, res in results.items():
            if res["state"] == "terminated" and proc_id != "big":
                assert captured(res) == b"x\n"
    finally:
        subprocess.run(["umount", disk], check=True)
