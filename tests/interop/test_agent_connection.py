"""Connections of an agent: attempts, failures, reconnections."""

import asyncio
import os
import subprocess

import httpx

from procstar.agent.server import Server
from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH

from support.agent import TOKEN, Agent, RawServer
from support.http import free_port
from support.shapes import captured
from support.specs import TRUE, argv, capture, sh, sleeper, until
from support.wait import aeventually, within

ONCE = ("--connect-count-max", "1")


async def test_a_refused_token_is_named_in_the_log(raw):
    server = await raw.server(token="another one")
    agent = await raw.agent(server, *ONCE, level="warn")
    code, log = await agent.exit()
    assert code == 1
    assert "token" in log
    assert "another one" not in log and "a token of this suite" not in log


async def test_an_agent_without_token_sends_the_empty_one(raw):
    """A scheduler without a token accepts it."""
    server = await raw.server(token="")
    await raw.agent(server, *ONCE, token=None)
    assert (await server.connection()).register["access_token"] == ""


async def test_an_untrusted_certificate_is_refused(raw):
    """The log says why."""
    server = await raw.server()
    agent = await raw.agent(server, *ONCE, cert=None, level="warn")
    code, log = await agent.exit()
    assert code == 1
    assert "certificate" in log.lower()
    assert server.wires == []


async def test_a_missing_certificate_file_is_named(raw, tmp_path):
    server = await raw.server()
    agent = await raw.agent(server, *ONCE, cert=tmp_path / "no.crt")
    code, log = await agent.exit()
    assert code in (1, 2)
    assert str(tmp_path / "no.crt") in log


def _self_signed(directory, name, *args, days=2):
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), "-subj", "/CN=localhost",
         "-keyout", key, "-out", cert, *args],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


async def test_a_self_signed_ca_certificate_is_accepted(raw, tmp_path):
    """`openssl req -x509` makes such certificates (CA:TRUE)."""
    cert = _self_signed(tmp_path, "ca", "-addext", "subjectAltName=DNS:localhost")
    server = await raw.server(cert=cert)
    await raw.agent(server, *ONCE, cert=cert[0])
    await server.connection()


async def test_a_pinned_certificate_must_be_for_the_host(raw, tmp_path):
    cert = _self_signed(tmp_path, "other", "-addext", "subjectAltName=DNS:other.example")
    server = await raw.server(cert=cert)
    agent = await raw.agent(server, *ONCE, cert=cert[0], level="warn")
    code, log = await agent.exit()
    assert code == 1 and "certificate" in log.lower()


async def test_a_certificate_other_than_the_pinned_one_is_refused(raw, tmp_path):
    cert = _self_signed(tmp_path, "one", "-addext", "subjectAltName=DNS:localhost")
    other = _self_signed(tmp_path, "two", "-addext", "subjectAltName=DNS:localhost")
    server = await raw.server(cert=cert)
    agent = await raw.agent(server, *ONCE, cert=other[0], level="warn")
    code, log = await agent.exit()
    assert code == 1 and "certificate" in log.lower()


async def _failing(host, port):
    async with Agent(port, *ONCE, host=host, level="warn") as agent:
        code, log = await agent.exit()
    assert code == 1
    return log


async def test_a_closed_port_and_an_unknown_name_are_logged_differently():
    closed = await _failing("localhost", free_port())
    unknown = await _failing("no-such-host.invalid", 59789)
    assert "refused" in closed.lower()
    assert "no-such-host.invalid" in unknown
    assert "refused" not in unknown.lower()
    assert any(w in unknown.lower() for w in ("resolve", "lookup"))


async def test_an_answer_without_tls_fails_the_attempt():

    async def serve(_, writer):
        writer.write(b"HTTP/1.1 400 no\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Agent(server.sockets[0].getsockname()[1], *ONCE) as agent:
        code, _ = await agent.exit()
        assert code == 1


async def test_connect_count_max_counts_failures_in_a_row(raw):
    """Each failure is logged."""
    async with Agent(free_port(), "--connect-count-max", "3", level="warn") as agent:
        code, log = await agent.exit()
    assert code == 1
    assert log.lower().count("refused") >= 3


async def test_attempts_continue_until_a_scheduler_listens(raw):
    async with RawServer() as server:
        await server.stop()
        agent = await raw.agent(server, "--connect-interval-start", "0.05")
        await agent.logged("(?i)refused")
        await server.start()
        await server.connection()


async def test_a_new_connection_registers_all_processes(raw, tmp_path):
    """The connection ID is the same, no result is sent unasked, and results can be requested."""
    server, agent, wire = await raw.pair("--conn-id", "same", "--group-id", "g")
    await wire.start(ended=sh("echo 1"))
    await wire.ended()
    await wire.start(deleted=argv(TRUE))
    await wire.ended()
    await wire.delete("deleted")
    await wire.start(ends=until(tmp_path / "go", "echo while away; exit 5"))
    await wire.start(runs=sleeper())
    proc = wire.register["proc"]
    await server.stop()
    assert wire.closed.is_set()
    (tmp_path / "go").touch()
    # The process ends while nobody listens, as failed attempts show.
    await agent.logged("(?i)refused")
    await server.start()
    wire = await server.connection()
    register = wire.register
    assert register["conn"] == {"conn_id": "same", "group_id": "g", "restricted_exe": None}
    assert register["proc"] == proc
    assert sorted(register["proc_ids"]) == ["ended", "ends", "runs"]
    while True:
        await wire.send("ProcResultRequest", proc_id="ends")
        # If the process ends only now, its result is sent unasked.
        res = (await wire.expect("ProcResult", proc_id="ends"))["res"]
        if res["state"] == "terminated":
            break
    assert res["status"]["exit_code"] == 5
    assert captured(res) == b"while away\n"
    await wire.barrier()
    await wire.send("ProcSignalRequest", proc_id="runs", signum=9)
    assert (await wire.ended())["runs"]["status"]["signum"] == 9
    await wire.delete("ended", "ends", "runs")


async def test_results_of_lost_connections_are_not_sent_unasked(raw, tmp_path):
    server, agent, wire = await raw.pair()
    names = [f"p{n}" for n in range(20)]
    for name in names:
        await wire.start(**{name: until(tmp_path / "go", f"touch {tmp_path}/{name}")})
    await server.stop()
    (tmp_path / "go").touch()
    await aeventually(lambda: all((tmp_path / n).exists() for n in names), "all have run")
    # By the second failed attempt, the processes have ended too.
    await aeventually(lambda: sum("refused" in m.lower() for m in agent.log) >= 2, "two attempts")
    await server.start()
    wire = await server.connection()
    assert await wire.barrier() == []
    for name in names:
        await wire.send("ProcResultRequest", proc_id=name)
        assert (await wire.expect("ProcResult", proc_id=name))["res"]["state"] == "terminated"


async def test_unknown_ids_are_reported_once_in_each_connection(raw):
    server, _, wire = await raw.pair()
    for _ in range(2):
        await wire.send("ProcResultRequest", proc_id="nobody")
        await wire.expect("ProcUnknown")
        await wire.send("ProcResultRequest", proc_id="nobody")
        assert await wire.barrier() == []
        await wire.ws.close()
        wire = await server.connection()


async def test_a_registration_resets_the_count_of_attempts(raw):
    server, _, wire = await raw.pair(*ONCE)
    for _ in range(5):
        await wire.ws.close()
        wire = await server.connection()
        assert wire.register["proc_ids"] == []


async def test_exhausted_attempts_exit_with_1(raw):
    server, agent, wire = await raw.pair("--connect-count-max", "2")
    await server.stop()
    code, log = await agent.exit()
    assert code == 1
    assert "refused" in log.lower()


async def test_the_agent_answers_a_close_at_once(raw):
    _, _, wire = await raw.pair()
    await within(wire.ws.close(4000, "bye"), "the closing handshake", deadline=5)
    assert wire.ws.close_code == 4000


async def test_the_agent_reconnects_after_a_cut_connection(raw):
    """The connection ends without a Close."""
    server, _, wire = await raw.pair()
    await wire.start(p=sleeper())
    wire.ws.transport.abort()
    wire = await server.connection()
    assert wire.register["proc_ids"] == ["p"]


async def test_a_connection_without_messages_times_out(raw):
    server, _, wire = await raw.pair("--agent-read-timeout", "1")
    wire.ws.transport.pause_reading()
    again = await server.connection()
    assert again.register["conn"] == wire.register["conn"]
    wire.ws.transport.abort()


async def test_a_missing_answer_to_the_registration_fails_within_10_s(raw):
    server = await raw.server(answer=False)
    agent = await raw.agent(server, *ONCE)
    await server.connection()
    code, log = await agent.exit(deadline=15)
    assert code == 1
    assert "registration timed out" in log
    assert "token" not in log and "refused" not in log


async def test_two_agents_with_one_id_back_off():
    """The package's server ends the older connection; both agents log why and count it."""
    server = Server()
    tls_cert = (TLS_CERT_PATH, TLS_KEY_PATH)
    listener = await server.run(host="127.0.0.1", port=0, tls_cert=tls_cert, access_token=TOKEN)
    port = listener.sockets[0].getsockname()[1]
    same = ("--conn-id", "twin")
    try:
        async with Agent(port, *same), Agent(port, *same, "--connect-count-max", "2", level="warn") as agent:
            code, log = await agent.exit()
    finally:
        listener.close()
        await within(listener.wait_closed(), "end of the server")
    assert code == 1
    assert 'another agent may use the connection ID "twin"' in log
    assert server.connections["twin"].info.stats.num_connections < 30


async def test_an_unready_gateway_is_logged_and_retried(raw):
    answers = [503, 503]

    def gateway(connection, _):
        return connection.respond(answers.pop(), "not yet") if answers else None

    server = await raw.server(process_request=gateway)
    agent = await raw.agent(server, level="warn")
    await server.connection()
    log = "".join(agent.log)
    assert log.count("server answered 503 Service Unavailable") == 2
    assert "websocket server" not in log and "ERROR" not in log


async def test_the_agent_answers_pings_while_idle_and_while_busy(raw):
    """While idle, during a long output, and with the same data."""
    _, _, wire = await raw.pair()
    for num in range(50):
        await within(await wire.ws.ping(b"%d" % num), "a pong", deadline=5)
    await wire.start(p=sh("head -c 50000000 /dev/zero", ("stdout", capture(encoding=None))))
    await wire.ended()
    await wire.send("ProcResultRequest", proc_id="p")
    for _ in range(20):
        await within(await wire.ws.ping(), "a pong", deadline=10)
    await wire.expect("ProcResult")


async def test_an_agent_answers_pings_within_a_second(raw):
    """The scheduler drops an agent that does not."""
    server = await raw.server(ping_interval=0.05, ping_timeout=1)
    await raw.agent(server)
    wire = await server.connection()
    await aeventually(lambda: wire.ws.latency > 0, "a first pong")
    for _ in range(3):
        await wire.start(p=sh("sleep 0.5; head -c 10000000 /dev/zero"))
        await wire.ended()
        await wire.delete("p")
    assert not wire.closed.is_set()


async def test_a_scheduler_that_stops_reading_delays_no_process_and_no_client(raw):
    """HTTP clients and processes continue."""
    port = free_port()
    server, agent, wire = await raw.pair("--serve", "--serve-port", port)
    await wire.start(p=sh("head -c 20000000 /dev/zero", ("stdout", capture(encoding=None))))
    await wire.ended()
    wire.ws.transport.pause_reading()
    for _ in range(12):
        await wire.send("ProcResultRequest", proc_id="p")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
        for num in range(10):
            rsp = await http.post("/procs", json={"specs": {f"h{num}": argv(TRUE)}})
            assert rsp.status_code == 200
            while (await http.get(f"/procs/h{num}")).json()["data"]["procs"][f"h{num}"]["state"] == "running":
                pass
    # Well below the requested 320 MB.
    assert _rss(agent.pid) < 200_000_000
    wire.ws.transport.resume_reading()
    for _ in range(12):
        msg = await wire.next()
        while msg["proc_id"] != "p":
            msg = await wire.next()


def _rss(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
