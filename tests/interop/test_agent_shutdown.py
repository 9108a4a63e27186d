"""The end of an agent: by itself and by signals, and its last messages."""

import signal

import httpx
import pytest

from support import procs
from support.agent import Closed
from support.http import free_port
from support.specs import TRUE, argv, sh, sleeper
from support.wait import eventually


async def rest(wire):
    """Returns all further messages until the agent closes the connection."""
    messages = []
    while True:
        try:
            messages.append(await wire.next())
        except Closed:
            return messages


def shut_down(state):
    return {"type": "ShutDown", "shutdown_state": state}


async def test_sigusr1_ends_an_idle_agent_at_once(raw):
    _, agent, wire = await raw.pair()
    agent.signal(signal.SIGUSR1)
    messages = await rest(wire)
    assert messages[-1] == shut_down("done")
    assert all(m in (shut_down("idling"), shut_down("done")) for m in messages)
    assert len(messages) <= 2
    assert (await agent.exit())[0] == 0


async def test_sigusr1_drains_until_the_last_process_is_deleted(raw):
    """New processes are refused."""
    _, agent, wire = await raw.pair()
    await wire.start(ended=argv(TRUE))
    await wire.ended()
    await wire.start(runs=sleeper())
    agent.signal(signal.SIGUSR1)
    assert await wire.next() == shut_down("idling")
    sent = await wire.send("ProcStartRequest", specs={"late": argv(TRUE)})
    msg = await wire.expect("RequestError", msg=sent)
    assert "agent shutting down: idling" in msg["err"]
    await wire.delete("ended")
    await wire.send("ProcSignalRequest", proc_id="runs", signum=15)
    await wire.ended()
    await wire.send("ProcDeleteRequest", proc_id="runs")
    assert await rest(wire) == [{"type": "ProcDelete", "proc_id": "runs"}, shut_down("done")]
    assert (await agent.exit())[0] == 0


async def test_a_drain_logs_the_remaining_processes(raw):
    """Their number and IDs, at once."""
    _, agent, wire = await raw.pair()
    await wire.start(runs=sleeper())
    await wire.start(ended=argv(TRUE))
    await wire.ended()
    agent.signal(signal.SIGUSR1)
    await agent.logged("draining: .*2 left, 1 running: runs; 1 ended and not deleted: ended")


async def test_a_draining_agent_registers_as_idling(raw):
    server, agent, wire = await raw.pair()
    await wire.start(p=sleeper())
    agent.signal(signal.SIGUSR1)
    assert await wire.next() == shut_down("idling")
    await wire.ws.close()
    wire = await server.connection()
    assert wire.register["shutdown_state"] == "idling"
    assert wire.register["proc_ids"] == ["p"]
    await wire.send("ProcSignalRequest", proc_id="p", signum=9)
    await wire.ended()
    await wire.send("ProcDeleteRequest", proc_id="p")
    assert (await rest(wire))[-1] == shut_down("done")
    await agent.exit()


@pytest.mark.parametrize("signum, ends_by", [(signal.SIGTERM, 15), (signal.SIGINT, 15), (signal.SIGQUIT, 9)])
async def test_signals_end_processes_and_report_their_results(raw, signum, ends_by):
    """After the deletion the agent is done."""
    _, agent, wire = await raw.pair()
    names = [f"p{n}" for n in range(5)]
    for name in names:
        await wire.start(**{name: sleeper()})
    agent.signal(signum)
    ended = {}
    while len(ended) < len(names):
        msg = await wire.next()
        if msg["type"] == "ProcResult":
            ended[msg["proc_id"]] = msg["res"]
        else:
            assert msg["type"] == "ShutDown", msg
    assert [ended[n]["status"]["signum"] for n in names] == [ends_by] * 5
    for name in names:
        await wire.send("ProcDeleteRequest", proc_id=name)
    messages = [m for m in await rest(wire) if m["type"] != "ShutDown" or m["shutdown_state"] == "done"]
    assert messages == [{"type": "ProcDelete", "proc_id": n} for n in names] + [shut_down("done")]
    code, _ = await agent.exit()
    assert code >= 0


async def test_sigterm_ends_an_idle_agent_at_once(raw):
    """It sends that it is done."""
    _, agent, wire = await raw.pair()
    agent.signal(signal.SIGTERM)
    assert (await rest(wire))[-1] == shut_down("done")
    code, _ = await agent.exit(deadline=4)
    assert code >= 0


async def test_sigquit_waits_5_s_for_deletions(raw):
    _, agent, wire = await raw.pair()
    pid = (await wire.start(p=sh("trap '' TERM; while :; do sleep 0.05; done")))["p"]["pid"]
    agent.signal(signal.SIGQUIT)
    msg = await wire.next()
    while msg["type"] == "ShutDown":
        msg = await wire.next()
    assert msg["res"]["status"]["signum"] == 9
    assert (await rest(wire))[-1] == shut_down("done")
    code, _ = await agent.exit(deadline=12)
    assert code >= 0
    eventually(lambda: not procs.is_alive(pid), "end of the process")


async def test_output_can_be_read_until_the_end(raw):
    """After SIGQUIT, before the deletion."""
    _, agent, wire = await raw.pair()
    await wire.start(p=sh("echo last words; exec sleep 1000"))
    while (await wire.read("p"))["data"] == b"":
        pass
    agent.signal(signal.SIGQUIT)
    while (await wire.next())["type"] != "ProcResult":
        pass
    assert (await wire.read("p"))["data"] == b"last words\n"
    await wire.send("ProcDeleteRequest", proc_id="p")
    assert (await rest(wire))[-1] == shut_down("done")
    await agent.exit()


async def test_wait_ends_after_the_last_deletion(raw):
    """The state is active until done."""
    _, agent, wire = await raw.pair("--wait")
    await wire.start(a=argv(TRUE))
    await wire.ended()
    await wire.start(b=argv(TRUE))
    await wire.ended()
    await wire.delete("a")
    await wire.send("ProcDeleteRequest", proc_id="b")
    assert await rest(wire) == [{"type": "ProcDelete", "proc_id": "b"}, shut_down("done")]
    assert (await agent.exit())[0] == 0


async def test_wait_does_not_end_before_the_first_process(raw):
    server, agent, wire = await raw.pair("--wait", "--wait-timeout", "600")
    await wire.ws.close()
    wire = await server.connection()
    assert wire.register["shutdown_state"] == "active"
    assert await wire.barrier() == []


async def test_wait_timeout_ends_without_any_process(raw):
    """The state is active until done."""
    _, agent, wire = await raw.pair("--wait", "--wait-timeout", "1.5")
    assert await rest(wire) == [shut_down("done")]
    assert (await agent.exit())[0] == 0


async def test_wait_timeout_applies_before_the_first_process_only(raw):
    _, agent, wire = await raw.pair("--wait", "--wait-timeout", "1.5")
    await wire.start(p=sh("sleep 2.5; echo end"))
    assert (await wire.ended())["p"]["fds"]["stdout"]["text"] == "end\n"
    assert await wire.barrier() == []
    await wire.send("ProcDeleteRequest", proc_id="p")
    assert (await rest(wire))[-1] == shut_down("done")
    await agent.exit()


async def test_exit_ends_when_no_process_runs(raw, tmp_path):
    """Deleted or not."""
    spec = tmp_path / "spec.json"
    spec.write_text('{"specs": {"p": {"argv": ["/usr/bin/sleep", "1000"]}}}')
    _, agent, wire = await raw.pair("--exit", spec)
    assert wire.register["proc_ids"] == ["p"]
    await wire.send("ProcSignalRequest", proc_id="p", signum=15)
    messages = await rest(wire)
    assert [m["type"] for m in messages] == ["ProcResult", "ShutDown"]
    assert messages[0]["res"]["status"]["signum"] == 15
    assert (await agent.exit())[0] == 0


async def test_changes_by_http_are_sent_to_the_scheduler(raw):
    """Starts, ends and deletions."""
    port = free_port()
    _, _, wire = await raw.pair("--serve", "--serve-port", port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
        assert (await http.post("/procs", json={"specs": {"p": sleeper()}})).status_code == 200
        assert (await wire.expect("ProcResult", proc_id="p"))["res"]["state"] == "running"
        assert (await http.post("/procs/p/signals/SIGKILL")).status_code == 200
        assert (await wire.ended())["p"]["status"]["signum"] == 9
        assert (await http.delete("/procs/p")).status_code == 200
        assert await wire.next() == {"type": "ProcDelete", "proc_id": "p"}
        # And vice versa.
        await wire.start(q=argv(TRUE))
        await wire.ended()
        assert list((await http.get("/procs")).json()["data"]["procs"]) == ["q"]
        await wire.delete("q")
        assert (await http.get("/procs/q")).status_code == 404
    assert await wire.barrier() == []
