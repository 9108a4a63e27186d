"""Killed and suspended workers, killed keepers, restarted schedulers, many instances side by
side."""

import contextlib
import ctypes
import hashlib
import json
import os
import re
from pathlib import Path
import shutil
import signal
import stat
import subprocess
import time

import pytest

from support import procs
from support.agent import Agent, Closed, RawServer
from support.http import Service, steady
from support.oneshot import binary, procstar, run1
from support.shapes import captured, check_result
from support.specs import SLEEP, argv, capture, sh, sleeper, until
from support.survival import Loop, at_rest, kill, kill_instance, print_rest, worker_pid
from support.wait import DEADLINE, aeventually, eventually

# Parts of an exited process's result that never change.
EXACT = ("state", "errors", "pid", "status", "rusage", "fds", "proc_stat")
# With these fds, no process keeps the log of an agent open whose end a test awaits.
TEMPFILE = [["stdin", {"null": {}}], ["stdout", capture("tempfile", None)], ["stderr", {"null": {}}]]
SLEEPER = argv(SLEEP, 1000, fds=TEMPFILE)
PRINTERS = "i=0; while [ ! -e {stop} ]; do echo line $i; i=$((i+1)); sleep 0.01; done; echo $i > {count}; exit 7"


def lines(path):
    """Output that a process of `PRINTERS` reports to have written."""
    return "".join(f"line {i}\n" for i in range(int(path.read_text()))).encode()


def kill_worker(keeper):
    """Kills the worker of a keeper, and waits for the next one."""
    old = eventually(lambda: worker_pid(keeper), "a worker")
    kill(old, signal.SIGKILL)
    eventually(lambda: worker_pid(keeper) not in (None, old), "another worker")


# -- the loop


@pytest.mark.timeout(240)
async def test_results_stay_exact_while_workers_are_killed(tmp_path):
    """`tests/reconnect` runs this at full size."""
    figures = await Loop(tmp_path, processes=40, kills=12, stops=3, restarts=2, upgrades=4, spread=20).run()
    print(figures)
    # A generous limit, for a machine that is busy with other tests.
    assert max(figures.settled, default=0) < 10


async def test_processes_do_not_wait_for_a_suspended_worker(raw, tmp_path):
    """They write more output than a pipe holds, to both kinds of capture."""
    _, agent, wire = await raw.pair()
    done = tmp_path / "done"
    script = f"until [ -e {tmp_path}/go ]; do sleep 0.01; done; head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2; touch {done}; exit 3"
    fds = (["stdout", capture("memory", None, False)], ["stderr", capture("tempfile", None, False)])
    await wire.start(p=sh(script, *fds))
    pid = worker_pid(agent.pid)
    kill(pid, signal.SIGSTOP)
    try:
        (tmp_path / "go").touch()
        await aeventually(done.exists, "end of the process")
    finally:
        kill(pid, signal.SIGCONT)
    res = (await wire.ended())["p"]
    assert res["status"]["exit_code"] == 3
    assert (res["fds"]["stdout"]["length"], res["fds"]["stderr"]["length"]) == (5_000_000, 3_000_000)


async def test_a_scheduler_sees_a_new_worker_as_the_same_agent(raw):
    """Connection ID, PID and processes are the same; the result of a process that ended in between
    is sent."""
    server, agent, wire = await raw.pair()
    first = wire.register
    assert first["proc"]["pid"] == agent.pid
    await wire.start(runs=sleeper())
    await wire.start(ends=sh("sleep 0.3; echo out; exit 5"))
    for _ in range(3):
        kill(worker_pid(agent.pid), signal.SIGKILL)
        wire = await server.connection()
        assert wire.register["conn"] == first["conn"]
        assert wire.register["proc"] == first["proc"]
        assert sorted(wire.register["proc_ids"]) == ["ends", "runs"]
    await aeventually(lambda: len(procs.descendants(agent.pid)) == 2, "end of a process")
    kill(worker_pid(agent.pid), signal.SIGKILL)
    wire = await server.connection()
    await wire.send("ProcResultRequest", proc_id="ends")
    res = check_result((await wire.expect("ProcResult", proc_id="ends"))["res"])
    assert (res["status"]["exit_code"], captured(res)) == (5, b"out\n")
    await wire.delete("ends")
    kill(worker_pid(agent.pid), signal.SIGKILL)
    wire = await server.connection()
    assert wire.register["proc_ids"] == ["runs"]


# -- killed keepers


class Lasting:
    """Agents one after the other in one state directory; on exit, their processes are killed."""

    def __init__(self, directory):
        self.dir = Path(directory)
        self.server = RawServer()
        self.agents = []

    async def __aenter__(self):
        self.before = set(procs.descendants())
        await self.server.start()
        return self

    async def __aexit__(self, *_):
        for pid in set(procs.descendants()) - self.before:
            kill(pid, signal.SIGKILL)
        for agent in self.agents:
            await agent.__aexit__()
        await self.server.stop()

    async def start(self, directory=None):
        """Starts an agent in the directory; returns it with its connection."""
        agent = Agent(self.server.port, "--state-dir", directory or self.dir)
        await agent.__aenter__()
        self.agents.append(agent)
        return agent, await self.server.connection()

    async def kill(self, agent):
        """Kills keeper and worker; the processes continue."""
        below = worker_pid(agent.pid)
        kill_instance(agent.pid)
        await agent.exit()
        await aeventually(lambda: not procs.is_alive(below), "end of the worker")

    async def result(self, wire, proc_id):
        """Current result of a process."""
        await wire.send("ProcResultRequest", proc_id=proc_id)
        return check_result((await wire.expect("ProcResult", proc_id=proc_id))["res"])


@pytest.fixture
async def lasting(tmp_path):
    """A state directory and its agents."""
    async with Lasting(tmp_path / "state") as it:
        yield it


async def test_processes_of_a_killed_keeper_are_adopted(lasting, tmp_path):
    """Ends before the kill and after the next start are exact, and ends in between are `lost`."""
    agent, wire = await lasting.start()
    stop, count = tmp_path / "stop", tmp_path / "count"
    gone_stop, gone_count = tmp_path / "gone_stop", tmp_path / "gone_count"
    script = PRINTERS.format(stop=stop, count=count)
    gone_script = PRINTERS.format(stop=gone_stop, count=gone_count)
    specs = {
        "runs": sh(script, *TEMPFILE), "gone": sh(gone_script, *TEMPFILE),
        "ended": sh("echo the end; exit 9", *TEMPFILE), "killed": sh("echo x; kill -9 $$"), "bad": argv("/nonexistent"),
    }  # fmt: skip
    started, before = {}, {}
    for name, spec in specs.items():
        started |= await wire.start(**{name: spec})
        if name not in ("runs", "gone"):
            before |= await wire.ended()
    await lasting.kill(agent)
    # It ends without a keeper.
    gone_stop.touch()
    procs.await_reaping(started["gone"]["pid"])
    assert procs.is_alive(started["runs"]["pid"])

    agent, wire = await lasting.start()
    assert sorted(wire.register["proc_ids"]) == ["bad", "ended", "gone", "killed", "runs"]
    for name in ("ended", "killed", "bad"):
        res = await lasting.result(wire, name)
        for key in EXACT:
            assert res[key] == before[name][key], (name, key)
    res = await lasting.result(wire, "gone")
    check_lost(res)
    assert res["pid"] == started["gone"]["pid"]
    assert captured(res) == lines(gone_count)
    res = await lasting.result(wire, "runs")
    assert (res["state"], res["pid"], res["status"]) == ("running", started["runs"]["pid"], None)
    assert res["times"]["start"] == started["runs"]["times"]["start"]
    stop.touch()
    res = (await wire.ended())["runs"]
    check_adopted(check_result(res), exit_code=7)
    assert hashlib.sha256(captured(res)).digest() == hashlib.sha256(lines(count)).digest()
    # A second crash changes nothing.
    await lasting.kill(agent)
    agent, wire = await lasting.start()
    again = await lasting.result(wire, "runs")
    assert {k: again[k] for k in EXACT} == {k: res[k] for k in EXACT}
    await wire.delete("runs", "gone", "ended", "killed", "bad")
    agent.signal(signal.SIGUSR1)
    assert (await agent.exit())[0] == 0
    assert {p.name for p in lasting.dir.iterdir()} <= {"lock", "journal"}


def check_lost(res):
    """Asserts that a result is `lost` and contains no other facts about the end."""
    assert res["state"] == "error"
    assert any(e.startswith("exit status lost") for e in res["errors"]), res["errors"]
    assert res["reason"] == "lost"
    assert res["status"]["exit_code"] == 125 and res["status"]["signum"] is None


def check_adopted(res, exit_code=None, signum=None):
    """Asserts that the status of an adopted process is exact, and its resource usage null."""
    assert (res["state"], res["errors"]) == ("terminated", [])
    assert res["reason"] == ("exited" if signum is None else "signaled")
    assert (res["status"]["exit_code"], res["status"]["signum"]) == (exit_code, signum)
    assert all(value is None for value in res["rusage"].values()), res["rusage"]


async def test_an_adopted_process_can_be_signaled_and_deleted(lasting):
    agent, wire = await lasting.start()
    pid = (await wire.start(p=SLEEPER))["p"]["pid"]
    await lasting.kill(agent)
    agent, wire = await lasting.start()
    await wire.send("ProcSignalRequest", proc_id="p", signum=signal.SIGTERM)
    check_adopted((await wire.ended())["p"], signum=signal.SIGTERM)
    assert not procs.is_alive(pid)
    await wire.delete("p")


async def test_a_shutdown_applies_only_to_the_instance_that_got_it(lasting):
    """A later start in the same directory continues."""
    agent, wire = await lasting.start()
    conn = wire.register["conn"]
    agent.signal(signal.SIGTERM)
    assert (await agent.exit())[0] == 0
    agent, wire = await lasting.start()
    assert wire.register["conn"] == conn
    assert wire.register["shutdown_state"] == "active"
    await wire.start(p=argv("/usr/bin/true"))
    await wire.ended()
    await wire.delete("p")


def test_single_runs_share_a_state_directory(tmp_path):
    """Each runs its own processes; an interrupted one is resumed, and incomplete files are
    refused."""
    state, runs, go = tmp_path / "state", tmp_path / "runs", tmp_path / "go"
    args = ("--state-dir", state)
    for _ in range(2):
        assert captured(run1(sh(f"echo x >> {runs}; wc -l < {runs}"), *args)).strip() == str(len(runs.read_text()) // 2).encode()
    assert {p.name for p in state.iterdir()} <= {"lock", "journal"}
    spec = tmp_path / "spec"
    proc = sh(f"echo x >> {runs}; while [ ! -e {go} ]; do sleep 0.01; done; echo done", *TEMPFILE)
    spec.write_text(json.dumps({"specs": {"p": proc}}))
    first = subprocess.Popen([binary(), "--print", *args, spec], stdout=subprocess.PIPE)
    eventually(lambda: runs.read_text().count("x") == 3, "start")
    # Before that, the keeper's end loses all records of the process.
    eventually(lambda: re.search(rb"Started.\xa1p", (state / "journal").read_bytes(), re.DOTALL), "its entry in the journal")
    worker = worker_pid(first.pid)
    kill_instance(first.pid)
    # A running process has no result.
    assert first.communicate(timeout=DEADLINE)[0] == b""
    eventually(lambda: not procs.is_alive(worker), "end of the worker", deadline=5)
    both = json.dumps({"specs": {"p": proc, "q": proc}}).encode()
    done = procstar("--print", *args, "-", input=both)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"process ID already in use: p" in done.stderr
    again = subprocess.Popen([binary(), "--print", *args, spec], stdout=subprocess.PIPE)
    eventually(lambda: worker_pid(again.pid), "a worker")
    go.touch()
    res = json.loads(again.communicate(timeout=DEADLINE)[0])["p"]
    check_adopted(check_result(res), exit_code=0)
    assert captured(res) == b"done\n"
    assert runs.read_text().count("x") == 3


def test_an_instance_killed_during_a_start_prints_nothing(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # Its set-up takes half a second before it counts as started.
    fds = [["stdout", {"null": {}}], ["stderr", {"null": {}}], ["stdin", {"file": {"path": str(fifo)}}]]
    spec = json.dumps({"specs": {"p": {"argv": ["/bin/true"], "fds": fds}}})
    first = subprocess.Popen([binary(), "--print", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    first.stdin.write(spec.encode())
    first.stdin.close()
    first.stdin = None
    eventually(lambda: len(procs.descendants(first.pid)) == 2, "worker and process")
    kill_instance(first.pid)
    assert first.communicate(timeout=DEADLINE)[0] == b""
    # The process waits until the other end is opened.
    os.close(os.open(fifo, os.O_WRONLY))


async def test_a_second_agent_on_a_directory_is_refused(lasting):
    """The message names the first one, which continues."""
    agent, wire = await lasting.start()
    for extra in ([], ["--serve"]):
        done = procstar("--agent", "--agent-host", "localhost", "--state-dir", lasting.dir, *extra)
        assert done.returncode == 2
        assert f"pid {agent.pid}" in done.stderr.decode()
    assert await wire.barrier() == []


async def test_state_directories_must_be_private(lasting, tmp_path):
    agent, wire = await lasting.start()
    await wire.start(p=sh("echo out; echo err >&2; exec sleep 1000", *TEMPFILE[:2], ["stderr", capture("memory", None)]))
    modes = {p: p.stat().st_mode for p in [lasting.dir, *lasting.dir.rglob("*")]}
    assert len(modes) >= 5, modes
    for path, mode in modes.items():
        assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    other.chmod(0o755)
    done = procstar("--agent", "--agent-host", "localhost", "--state-dir", other)
    assert done.returncode == 2
    assert "0700" in done.stderr.decode() and str(other) in done.stderr.decode()
    assert not list(other.iterdir())


@pytest.mark.timeout(240)
def test_a_truncated_journal_gives_no_wrong_result(tmp_path):
    """A journal that is cut at any byte near its end does not prevent a start."""
    state = tmp_path / "state"
    true = argv("/usr/bin/true", fds=TEMPFILE)
    with Service("--state-dir", state) as service:
        service.post({"a": sh("echo a; exit 3", *TEMPFILE)})
        before = {"a": service.result("a")}
        service.post({"b": sleeper(600), "c": true})
        pid = service.result("b", ended=False)["pid"]
        before["c"] = service.result("c")
        keeper, worker = service.proc.pid, worker_pid(service.proc.pid)
        kill_instance(keeper)
        service.proc.wait()
        eventually(lambda: not procs.is_alive(worker), "end of the worker")
        journal = (state / "journal").read_bytes()
        try:
            for cut in range(max(0, len(journal) - 300), len(journal) + 1):
                torn = tmp_path / "torn"
                shutil.copytree(state, torn, ignore=shutil.ignore_patterns("*.sock"))
                (torn / "journal").write_bytes(journal[:cut])
                with Service("--state-dir", torn) as again:
                    found = again.get("/procs")["procs"]
                whole = cut == len(journal)
                assert set(found) <= {"a", "b", "c"} and (not whole or set(found) == {"a", "b", "c"}), cut
                for name, res in found.items():
                    check_result(res)
                    if res["state"] == "running":
                        assert (name, res["pid"]) == ("b", pid), cut
                    elif res["state"] == "error":
                        assert not whole
                        check_lost(res)
                    else:
                        assert {k: res[k] for k in EXACT} == {k: before[name][k] for k in EXACT}, cut
                shutil.rmtree(torn)
        finally:
            kill(pid, signal.SIGKILL)


# -- the worker becomes the keeper


def test_no_status_and_no_byte_is_lost_with_a_killed_keeper(tmp_path):
    """The worker becomes the keeper, with its own PID and the same listeners."""
    state, go = tmp_path / "state", tmp_path / "go"
    memory = ["stdout", capture("memory", "utf-8")]
    waits = f"echo one; while [ ! -e {go} ]; do sleep 0.01; done; echo two; exit 7"
    with Service("--state-dir", state) as service:
        service.post({"pipe": sh(waits, memory), "early": sh("sleep 0.3; echo early; exit 9", memory)})
        for name in ("pipe", "early"):
            service.result(name, ended=False)
        for _ in range(2):
            keeper = int((state / "lock").read_text())
            worker = worker_pid(keeper)
            began = time.monotonic()
            kill(keeper, signal.SIGKILL)
            service.proc.wait()
            eventually(lambda worker=worker: (state / "lock").read_text() == str(worker), "the next keeper")
            assert set(service.get("/procs")["procs"]) == {"pipe", "early"}
            assert time.monotonic() - began < 5
        go.touch()
        for name, status, output in (("pipe", 7, b"one\ntwo\n"), ("early", 9, b"early\n")):
            res = check_result(service.result(name))
            assert (res["state"], res["status"]["exit_code"], captured(res)) == ("terminated", status, output)
            assert set(res["rusage"].values()) == {None}
        keeper = int((state / "lock").read_text())
        assert Path(f"/proc/{keeper}/comm").read_text() == "procstar\n"
        kill(keeper, signal.SIGTERM)
        eventually(lambda: not procs.is_alive(keeper), "the end")


def test_an_output_that_ends_before_its_process_is_complete_after_two_deaths(tmp_path):
    """The worker that becomes the keeper was started after the end of the output."""
    state, go = tmp_path / "state", tmp_path / "go"
    script = f"echo out; exec >&-; while [ ! -e {go} ]; do sleep 0.01; done; exit 7"
    with Service("--state-dir", state) as service:
        service.post({"p": sh(script, ["stdout", capture("memory", "utf-8")])})
        pid = service.result("p", ended=False)["pid"]
        eventually(lambda: not os.path.exists(f"/proc/{pid}/fd/1"), "the end of the output")
        kill_worker(service.proc.pid)
        steady(lambda: service.result("p", ended=False))
        worker = worker_pid(service.proc.pid)
        kill(service.proc.pid, signal.SIGKILL)
        service.proc.wait()
        eventually(lambda: (state / "lock").read_text() == str(worker), "the next keeper")
        go.touch()
        res = check_result(service.result("p"))
        assert (res["status"]["exit_code"], captured(res)) == (7, b"out\n")
        assert (res["captures"]["stdout"]["complete"], res["captures"]["stdout"]["reason"]) == (True, None)
        kill(worker, signal.SIGTERM)
        eventually(lambda: not procs.is_alive(worker), "the end")


def test_a_killed_single_run_stops_its_processes_and_reports_it(tmp_path):
    spec = json.dumps({"specs": {"p": sleeper(600)}}).encode()
    run = subprocess.Popen([binary(), "--print", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run.stdin.write(spec)
    run.stdin.close()
    run.stdin = None
    eventually(lambda: len(procs.descendants(run.pid)) == 2, "worker and process")
    time.sleep(0.3)
    (worker,) = (pid for pid in procs.descendants(run.pid) if Path(f"/proc/{pid}/comm").read_text() == "procstar-worker\n")
    adopt_orphans(True)
    try:
        kill(run.pid, signal.SIGKILL)
        out, err = run.communicate(timeout=DEADLINE)
        _, status = os.waitpid(worker, 0)
        os.waitpid(json.loads(out)["p"]["pid"], 0)
    finally:
        adopt_orphans(False)
    # The user's process is dead, so this is no success, whatever became of the processes.
    assert os.waitstatus_to_exitcode(status) == 1
    assert f"procstar: its process {run.pid} was killed; stopping 1 processes\n" in err.decode()
    res = json.loads(out)["p"]
    assert (res["state"], res["status"]["signal"]) == ("terminated", "SIGTERM")


def adopt_orphans(yes):
    """Orphaned descendants become children of this process, which can wait for them."""
    PR_SET_CHILD_SUBREAPER = 36
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(yes), 0, 0, 0) == 0


# -- many side by side


def test_twenty_single_runs_share_a_temporary_directory(tmp_path):
    """They run without HOME, and leave no file behind."""
    env = {"TMPDIR": str(tmp_path), "PATH": os.environ["PATH"]}
    running = []
    for n in range(20):
        spec = {"specs": {"p": sh(f"echo {n}; echo err {n} >&2; sleep 0.{n % 5}; exit {n}", ["stdout", capture("memory", None)], ["stderr", capture("tempfile", None)])}}
        run = subprocess.Popen([binary(), "--print", "-"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        run.stdin.write(json.dumps(spec).encode())
        run.stdin.close()
        run.stdin = None
        running.append(run)
    for n, run in enumerate(running):
        out, err = run.communicate(timeout=60)
        assert (run.returncode, err) == (0, b""), (n, run.returncode, err)
        res = check_result(json.loads(out)["p"])
        assert res["status"]["exit_code"] == n
        assert (captured(res), captured(res, "stderr")) == (f"{n}\n".encode(), f"err {n}\n".encode())
    assert left_in(tmp_path) == []


def left_in(tmpdir):
    """Files below the users' directories in a TMPDIR."""
    return [str(p) for base in Path(tmpdir).iterdir() for p in base.iterdir()]


def test_files_of_a_killed_run_are_removed_by_the_next_start(tmp_path):
    """The files of running processes are kept."""
    env = {"TMPDIR": str(tmp_path)}
    memory = Path(f"/dev/shm/procstar-{os.geteuid()}")
    with Service(env=env) as service:
        service.post({"p": sh("head -c 100000 /dev/zero; echo >&2; exec sleep 600", ["stdout", capture("memory", None)], ["stderr", capture("tempfile", None)])})
        eventually(lambda: int(service.http.get("/procs/p").json()["data"]["procs"]["p"]["fds"]["stdout"].get("length", 1)), "output")
        pid = service.result("p", ended=False)["pid"]
        (left,) = left_in(tmp_path)
        mine = {p for p in memory.iterdir() if p.name.startswith(Path(left).name)}
        worker = worker_pid(service.proc.pid)
        kill_instance(service.proc.pid)
        service.proc.wait()
        eventually(lambda: not procs.is_alive(worker), "end of the worker")
    try:
        assert procstar("--print", "-", input=b'{"specs": {}}', env=env).returncode == 0
        assert left_in(tmp_path) == [left]
        assert all(p.exists() for p in mine)
    finally:
        kill(pid, signal.SIGKILL)
    eventually(lambda: not procs.is_alive(pid), "end of the process")
    assert procstar("--print", "-", input=b'{"specs": {}}', env=env).returncode == 0
    assert left_in(tmp_path) == []
    assert not any(p.exists() for p in mine)


def test_equal_connection_ids_do_not_share_memory_captures(tmp_path):
    homes = [tmp_path / "a", tmp_path / "b"]
    for home in homes:
        home.mkdir()
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(Service("--conn-id", "same", env={"TMPDIR": str(h)})) for h in homes)
        out = ["stdout", capture("memory", None)]
        one.post({"p": sh("head -c 100000 /dev/zero", out)})
        one.result("p")
        two.proc.terminate()
        assert two.proc.wait(DEADLINE) == 0
        assert len(captured(one.result("p"))) == 100_000


# -- signals


def to_keeper(keeper):
    """The process that the user started."""
    return keeper


@pytest.mark.parametrize("target", [to_keeper, worker_pid], ids=["keeper", "worker"])
@pytest.mark.parametrize("signum, ends_by", [(signal.SIGTERM, 15), (signal.SIGINT, 15), (signal.SIGQUIT, 9)])
async def test_signals_to_keeper_or_worker_have_the_same_effect(raw, target, signum, ends_by):
    _, agent, wire = await raw.pair()
    pid = (await wire.start(p=sleeper()))["p"]["pid"]
    below = worker_pid(agent.pid)
    kill(target(agent.pid), signum)
    res = None
    while res is None:
        msg = await wire.next()
        res = msg["res"] if msg["type"] == "ProcResult" else None
    assert res["status"]["signum"] == ends_by
    await wire.send("ProcDeleteRequest", proc_id="p")
    with contextlib.suppress(Closed):
        while True:
            await wire.next()
    assert (await agent.exit())[0] == 0
    assert not any(map(procs.is_alive, (agent.pid, below, pid)))


@pytest.mark.parametrize("target", [to_keeper, worker_pid], ids=["keeper", "worker"])
async def test_sigusr1_to_keeper_or_worker_drains(raw, target):
    _, agent, wire = await raw.pair()
    await wire.start(p=sleeper())
    below = worker_pid(agent.pid)
    kill(target(agent.pid), signal.SIGUSR1)
    assert (await wire.next())["shutdown_state"] == "idling"
    await wire.send("ProcSignalRequest", proc_id="p", signum=9)
    await wire.ended()
    await wire.delete("p")
    assert (await agent.exit())[0] == 0
    assert not procs.is_alive(below)


@pytest.mark.parametrize("together", [False, True], ids=["noted", "at once"])
async def test_a_shutdown_survives_the_worker(raw, tmp_path, together):
    """SIGTERM to the keeper, and the worker is killed in the grace period or at once."""
    server, agent, wire = await raw.pair()
    armed, ready, done = tmp_path / "armed", tmp_path / "ready", tmp_path / "done"
    script = f"trap 'touch {ready}' TERM; touch {armed}; while [ ! -e {done} ]; do sleep 0.02; done; exit 4"
    await wire.start(p=sh(script))
    await aeventually(armed.exists, "the trap")
    below = worker_pid(agent.pid)
    if together:
        # The signal arrives at a worker that can no longer handle it.
        kill(below, signal.SIGSTOP)
    agent.signal(signal.SIGTERM)
    if not together:
        await aeventually(ready.exists, "SIGTERM")
    kill(below, signal.SIGKILL)
    wire = await server.connection()
    await aeventually(ready.exists, "SIGTERM")
    sent = await wire.send("ProcStartRequest", specs={"late": sleeper()})
    msg = await wire.next()
    while msg["type"] == "ShutDown":
        msg = await wire.next()
    assert (msg["type"], msg["msg"]) == ("RequestError", sent)
    done.touch()
    assert (await wire.ended())["p"]["status"]["exit_code"] == 4
    await wire.send("ProcDeleteRequest", proc_id="p")
    assert (await agent.exit())[0] == 0


@pytest.mark.parametrize("how", ["print", "output"])
def test_print_survives_the_worker(tmp_path, how):
    """Results are exact and printed once; INPUT from standard input is not started again."""
    runs, go, out = tmp_path / "runs", tmp_path / "go", tmp_path / "out"
    script = f"echo $$ >> {runs}; while [ ! -e {go} ]; do sleep 0.01; done; echo done; exit 6"
    spec = {"specs": {"p": sh(script), "q": until(go, "kill -9 $$")}}
    args = ["--print"] if how == "print" else ["--output", out]
    run = subprocess.Popen([binary(), *args, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    run.stdin.write(json.dumps(spec).encode())
    run.stdin.close()
    run.stdin = None
    eventually(runs.exists, "start")
    for _ in range(3):
        kill_worker(run.pid)
    go.touch()
    printed, _ = run.communicate(timeout=DEADLINE)
    assert run.returncode == 0
    text = printed if how == "print" else out.read_bytes()
    assert text.count(b"\n") == (how == "print")
    results = json.loads(text)
    assert check_result(results["p"])["status"]["exit_code"] == 6
    assert captured(results["p"]) == b"done\n"
    assert check_result(results["q"])["status"]["signum"] == 9
    assert len(runs.read_text().split()) == 1


@pytest.mark.timeout(240)
def test_a_single_run_survives_the_worker_at_any_moment(tmp_path):
    """One line of results, or an error if INPUT was read but not handed over."""
    for n in range(40):
        runs = tmp_path / f"runs{n}"
        spec = tmp_path / f"spec{n}"
        spec.write_text(json.dumps({"specs": {"p": sh(f"echo $$ >> {runs}; exit 6")}}))
        run = subprocess.Popen([binary(), "--print", spec], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        worker = eventually(lambda run=run: worker_pid(run.pid) or run.poll() is not None, "a worker")
        # Moments from the start to after the end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            run.wait(n * 0.001)
        if worker is not True:
            kill(worker, signal.SIGKILL)
        printed, said = run.communicate(timeout=DEADLINE)
        assert run.returncode == 0, said
        # If it was killed while it printed, the next one prints again.
        line = printed.rstrip(b"\n").rpartition(b"\n")[2]
        assert json.loads(line[line.index(b'{"p"') :])["p"]["status"]["exit_code"] == 6
        assert len(runs.read_text().split()) == 1, said


async def test_an_invalid_configuration_prevents_workers_only(raw, tmp_path):
    """Processes continue until SIGTERM, and the exit code is 1."""
    config = tmp_path / "config.toml"
    config.write_text("")
    _, agent, wire = await raw.pair("--config", config)
    pid = (await wire.start(p=sleeper()))["p"]["pid"]
    config.write_text("nonsense")
    kill(worker_pid(agent.pid), signal.SIGKILL)
    await aeventually(lambda: sum("the worker has died" in line for line in agent.log) >= 3, "failing workers")
    assert procs.is_alive(pid)
    agent.signal(signal.SIGTERM)
    assert (await agent.exit())[0] == 1
    assert not procs.is_alive(pid)


async def test_an_idle_instance_does_not_wake_up():
    """Its memory is printed."""
    found = await at_rest()
    print_rest(found)
    for name, (_, woken) in found.items():
        # A ping may occur meanwhile.
        assert woken < 20, (name, woken)
