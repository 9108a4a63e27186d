"""Agents with the Python package's server: the usual work of a scheduler."""

import asyncio
import hashlib
import signal
import uuid

import pytest

from procstar import proto
import procstar.spec
from procstar.agent.exc import NoOpenConnectionInGroup, ProcessUnknownError
from procstar.agent.proc import AgentMessageError, FdData, Result
from procstar.lib.py import Interval
from procstar.testing.agent import Assembly, ProcstarError
from support.shapes import captured, check_result
from support.specs import SLEEP, TRUE, argv, capture, file, sh, sleeper, until
from support.wait import aeventually, within


def plain(result):
    """The result as sent by the agent."""
    res = dict(vars(result))
    res.pop("procstar")
    return check_result(res)


async def final(proc):
    """Returns the next update, which must be the final result."""
    res = await within(anext(proc.updates), "the final result")
    assert isinstance(res, Result)
    assert res.state != "running"
    return plain(res)


async def start(asm, spec, **kw):
    """Starts a process that must run, and returns it."""
    proc, res = await within(asm.server.start(str(uuid.uuid4()), spec, **kw), "the first result")
    assert plain(res)["state"] == "running"
    return proc


async def test_a_spec_of_the_package_runs(assembly):
    res = plain(await within(assembly.run(procstar.spec.make_proc("echo hello; echo there >&2")), "a result"))
    assert res["status"]["exit_code"] == 0
    assert res["fds"]["stdout"] == {"type": "text", "text": "hello\n", "encoding": "utf-8"}
    assert res["fds"]["stderr"]["text"] == "there\n"


async def test_the_connection_describes_the_launched_process(assembly):
    (conn,) = assembly.server.connections.values()
    (agent,) = assembly.conn_procs.values()
    assert conn.info.proc.pid == agent.pid
    assert conn.info.conn.group_id == "default"
    assert conn.info.conn.restricted_exe is None
    assert conn.shutdown_state == proto.ShutdownState.active


async def test_a_running_process_has_a_running_result_and_takes_signals(assembly):
    proc, first = await assembly.server.start("sleeper", sleeper())
    assert plain(first)["proc_stat"]["pid"] == first.pid
    assert first.proc_statm.size > 0
    await proc.send_signal(signal.SIGTERM)
    res = await final(proc)
    assert res["pid"] == first.pid
    assert res["status"]["signal"] == "SIGTERM"
    await within(proc.delete(), "deletion")
    assert "sleeper" not in assembly.server.processes


@pytest.mark.parametrize("spec", [argv("/nonexistent"), argv(TRUE, fds=[["3", file("/nonexistent/x")]])])
async def test_a_failed_start_has_two_results(assembly, spec):
    proc, first = await within(assembly.server.start("bad", spec), "the first result")
    assert first.state == "error"
    res = await final(proc)
    assert res["state"] == "error"
    assert res["errors"][0].startswith(("execve failed: /nonexistent: ", "failed to set up fd 3: "))
    assert res["status"]["exit_code"] in (125, 127)
    await within(proc.delete(), "deletion")


async def test_awaiting_a_process_with_a_refused_spec_raises(assembly):
    """The next spec works."""
    proc = await assembly.server.request_start("bad", {"argv": [TRUE], "unknown": 1})
    with pytest.raises(AgentMessageError, match="unknown") as info:
        await within(anext(proc.updates), "an error")
    assert info.value.msg["specs"] == {"bad": {"argv": [TRUE], "unknown": 1}}
    assert plain(await assembly.run(argv(TRUE)))["status"]["exit_code"] == 0


async def test_an_unknown_process_raises(assembly):
    (conn_id,) = assembly.server.connections
    proc = await assembly.server.reconnect(conn_id, "nobody", conn_timeout=5)
    await proc.request_result()
    with pytest.raises(ProcessUnknownError):
        await within(anext(proc.updates), "the answer")


async def test_deleting_a_running_process_is_an_error(assembly):
    """The process continues."""
    proc = await start(assembly, sleeper())
    await proc.request_delete()
    with pytest.raises(AgentMessageError):
        await within(anext(proc.updates), "an error")
    # The error ended the package's iterator; another one shows the process.
    del proc.__dict__["updates"]
    await proc.send_signal(signal.SIGKILL)
    assert (await final(proc))["status"]["signum"] == 9


async def test_a_result_can_be_requested_at_any_time(assembly, tmp_path):
    proc = await start(assembly, until(tmp_path / "go"))
    for _ in range(3):
        await proc.request_result()
        assert plain(await within(anext(proc.updates), "a result"))["state"] == "running"
    (tmp_path / "go").touch()
    assert (await final(proc))["status"]["exit_code"] == 0
    await proc.request_result()
    assert (await final(proc))["status"]["exit_code"] == 0


async def test_1000_requests_of_one_process_complete(assembly):

    async def one(num):
        proc, _ = await assembly.server.start(f"p{num}", sh(f"echo {num}; exit {num % 200}"))
        res = await final(proc)
        assert res["status"]["exit_code"] == num % 200
        assert captured(res) == b"%d\n" % num
        await proc.delete()

    await within(asyncio.gather(*map(one, range(1000))), "1,000 processes", deadline=90)
    assert len(assembly.server.processes) == 0


async def test_one_request_of_1000_processes_has_two_results_each(assembly):
    (conn,) = assembly.server.connections.values()
    specs = {f"p{n}": sh(f"echo {n}") for n in range(1000)}
    await conn.send(proto.ProcStartRequest(specs))
    procs = {i: assembly.server.processes.create(conn, i) for i in specs}

    async def one(num):
        proc = procs[f"p{num}"]
        first = plain(await anext(proc.updates))
        assert first["state"] == "running"
        res = await final(proc)
        assert captured(res) == b"%d\n" % num
        assert res["pid"] == first["pid"]

    await within(asyncio.gather(*map(one, range(1000))), "1,000 processes", deadline=90)


@pytest.mark.parametrize("mode", ["memory", "tempfile"])
@pytest.mark.parametrize("encoding", ["utf-8", None])
async def test_a_result_contains_50_mb_of_output(assembly, mode, encoding):
    proc, _ = await assembly.server.start(
        "big", sh("yes 0123456789abcde | head -c 50000000", ("stdout", capture(mode, encoding)))
    )
    data = captured(await final(proc))
    assert len(data) == 50_000_000
    assert hashlib.sha256(data).digest() == hashlib.sha256(b"0123456789abcde\n" * 3_125_000).digest()


@pytest.mark.parametrize("mode", ["memory", "tempfile"])
async def test_detached_output_is_read_by_ranges(assembly, mode, random_file):
    """100 MB in any order."""
    data = random_file.read_bytes()
    proc, _ = await assembly.server.start(
        "big", argv("/bin/cat", random_file, fds=[["stdout", capture(mode, None, attached=False)]])
    )
    res = await final(proc)
    assert res["fds"]["stdout"] == {"type": "detached", "length": len(data), "encoding": "base64"}
    size = 7_000_001
    starts = list(range(0, len(data), size))[::-1]
    for begin in starts:
        await proc.request_fd_data("stdout", interval=Interval(begin, begin + size))
    for begin in starts:
        part = await within(anext(proc.updates), "a range")
        assert isinstance(part, FdData)
        assert tuple(part.interval) == (begin, min(begin + size, len(data)))
        assert part.data == data[begin : begin + size]
        assert part.encoding is None


async def test_processes_go_to_their_group():
    async with Assembly.start(counts={"red": 2, "blue": 1}) as asm:
        assert {g: len(c) for g, c in asm.server.connections.groups.items()} == {"red": 2, "blue": 1}
        seen = set()
        for num in range(20):
            proc, _ = await asm.server.start(f"p{num}", argv(TRUE), group_id="red")
            await final(proc)
            seen.add(proc.conn_id)
        assert seen <= asm.server.connections.groups["red"]
        proc, _ = await asm.server.start("blue", argv(TRUE), group_id="blue")
        await final(proc)
        assert proc.conn_id in asm.server.connections.groups["blue"]
        with pytest.raises(NoOpenConnectionInGroup):
            await asm.server.start("green", argv(TRUE), group_id="green")


async def test_five_agents_share_200_processes():
    async with Assembly.start(counts={"default": 5}) as asm:
        results = await within(
            asyncio.gather(*(asm.run(sh("echo $PPID")) for _ in range(200))), "200 processes", deadline=60
        )
        agents = {p.pid for p in asm.conn_procs.values()}
        assert len(agents) == 5
        used = {r.procstar.proc.pid for r in results}
        assert used <= agents and len(used) > 1
        assert all(vars(r)["proc_stat"]["ppid"] == int(r.fds.stdout.text) for r in results)


async def test_an_agent_with_a_wrong_token_exits_with_1():
    asm = Assembly(access_token="right")
    await asm.start_server()
    try:
        with pytest.raises(ProcstarError, match="failed with 1 before connecting"):
            await within(asm.start_procstars({"default": 1}, access_token="wrong"), "the agent's end")
        assert len(asm.server.connections) == 0
    finally:
        await asm.aclose()


async def test_a_restarted_server_gets_results_of_running_processes(assembly, tmp_path):
    """The agent has the same ID."""
    asm = assembly
    (conn,) = asm.server.connections.values()
    running = await start(asm, until(tmp_path / "go", "echo done"))
    ended = await start(asm, sh("echo ended"))
    await final(ended)

    await asm.stop_server()
    await asm.start_server()
    await aeventually(lambda: conn.open and conn.info.stats.num_connections == 2, "the agent is back")
    assert list(asm.server.connections) == [conn.conn_id]

    # The server requests the results of all known processes.
    assert plain(await within(anext(running.updates), "a result"))["state"] == "running"
    assert captured(await final(ended)) == b"ended\n"
    (tmp_path / "go").touch()
    assert captured(await final(running)) == b"done\n"
    for proc in (running, ended):
        await within(proc.delete(), "deletion")


async def test_an_agent_reconnects_after_ten_restarts_of_the_server(assembly):
    (conn,) = assembly.server.connections.values()
    for num in range(2, 12):
        await assembly.stop_server()
        await assembly.start_server()
        await aeventually(lambda n=num: conn.open and conn.info.stats.num_connections == n, "the agent is back")
        assert plain(await assembly.run(argv(TRUE)))["state"] == "terminated"


async def test_a_new_server_learns_processes_from_the_registration(assembly, tmp_path):
    await start(assembly, until(tmp_path / "go", "echo kept"))
    (proc_id,) = assembly.server.processes
    await assembly.stop_server()
    assembly.server = type(assembly.server)()
    await assembly.start_server()
    proc = await aeventually(lambda: assembly.server.processes.get(proc_id), "the process")
    await proc.request_result()
    assert plain(await within(anext(proc.updates), "a result"))["state"] == "running"
    (tmp_path / "go").touch()
    assert captured(await final(proc)) == b"kept\n"


async def test_sigusr1_drains_and_ends(assembly):
    """The state is idling while there is a process, then done."""
    (conn,) = assembly.server.connections.values()
    (agent,) = assembly.conn_procs.values()
    proc = await start(assembly, argv(SLEEP, 1000))
    agent.send_signal(signal.SIGUSR1)
    await aeventually(lambda: conn.shutdown_state == proto.ShutdownState.idling, "idling")
    with pytest.raises(NoOpenConnectionInGroup):
        await assembly.server.start("late", argv(TRUE))
    await proc.send_signal(signal.SIGTERM)
    await final(proc)
    await within(proc.delete(), "deletion")
    assert await within(agent.wait(), "exit of the agent") == 0
    await aeventually(lambda: len(assembly.server.connections) == 0, "the connection is dropped")


async def test_a_process_that_ends_at_once_has_a_pid(assembly):
    for num in range(50):
        proc, first = await assembly.server.start(f"p{num}", argv(TRUE))
        assert plain(first)["state"] == "running"
        assert (await final(proc))["pid"] == first.pid
