"""Connections: how they come about, why they do not, and how they come back."""

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


async def test_a_refused_token(raw):
    """The log says that it is the token."""
    server = await raw.server(token="another one")
    agent = await raw.agent(server, *ONCE, level="warn")
    code, log = await agent.exit()
    assert code == 1
    assert "token" in log
    assert "another one" not in log and "a token of this suite" not in log


async def test_no_token_is_the_empty_one(raw):
    """A server without a token lets in an agent without one."""
    server = await raw.server(token="")
    await raw.agent(server, *ONCE, token=None)
    assert (await server.connection()).register["access_token"] == ""


async def test_no_certificate(raw):
    """An untrusted server is not connected to, and the log says why."""
    server = await raw.server()
    agent = await raw.agent(server, *ONCE, cert=None, level="warn")
    code, log = await agent.exit()
    assert code == 1
    assert "certificate" in log.lower()
    assert server.wires == []


async def test_a_certificate_file_that_is_not_there(raw, tmp_path):
    """It is named."""
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


async def test_a_self_signed_ca_certificate(raw, tmp_path):
    """What `openssl req -x509` makes (CA:TRUE) is accepted as itself."""
    cert = _self_signed(tmp_path, "ca", "-addext", "subjectAltName=DNS:localhost")
    server = await raw.server(cert=cert)
    await raw.agent(server, *ONCE, cert=cert[0])
    await server.connection()


async def test_a_certificate_of_another_host(raw, tmp_path):
    """A pinned certificate must still be for the host."""
    cert = _self_signed(tmp_path, "other", "-addext", "subjectAltName=DNS:other.example")
    server = await raw.server(cert=cert)
    agent = await raw.agent(server, *ONCE, cert=cert[0], level="warn")
    code, log = await agent.exit()
    assert code == 1 and "certificate" in log.lower()


async def test_another_certificate_of_the_host(raw, tmp_path):
    """A pinned certificate does not let in a server that shows another."""
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


async def test_a_closed_port_and_an_unknown_name_differ():
    """Each has a clear log line of its own."""
    closed = await _failing("localhost", free_port())
    unknown = await _failing("no-such-host.invalid", 59789)
    assert "refused" in closed.lower()
    assert "no-such-host.invalid" in unknown
    assert "refused" not in unknown.lower()
    assert any(w in unknown.lower() for w in ("resolve", "lookup"))


async def test_a_server_that_speaks_no_tls():
    """An answer that is no TLS ends the attempt."""

    async def serve(_, writer):
        writer.write(b"HTTP/1.1 400 no\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Agent(server.sockets[0].getsockname()[1], *ONCE) as agent:
        code, _ = await agent.exit()
        assert code == 1


async def test_a_count_of_attempts(raw):
    """`--connect-count-max` counts failures in a row, and each is logged."""
    async with Agent(free_port(), "--connect-count-max", "3", level="warn") as agent:
        code, log = await agent.exit()
    assert code == 1
    assert log.lower().count("refused") >= 3


async def test_the_server_may_come_later(raw):
    """Attempts go on until somebody listens."""
    async with RawServer() as server:
        await server.stop()
        agent = await raw.agent(server, "--connect-interval-start", "0.05")
        await agent.logged("(?i)refused")
        await server.start()
        await server.connection()


async def test_reconnection(raw, tmp_path):
    """Same ID, all processes registered, nothing unasked; the results are there for the asking."""
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
    # It ends while nobody listens: failed attempts show that this is so.
    await agent.logged("(?i)refused")
    await server.start()
    wire = await server.connection()
    register = wire.register
    assert register["conn"] == {"conn_id": "same", "group_id": "g", "restricted_exe": None}
    assert register["proc"] == proc
    assert sorted(register["proc_ids"]) == ["ended", "ends", "runs"]
    while True:
        await wire.send("ProcResultRequest", proc_id="ends")
        # Its end may come only now, and is then told unasked.
        res = (await wire.expect("ProcResult", proc_id="ends"))["res"]
        if res["state"] == "terminated":
            break
    assert res["status"]["exit_code"] == 5
    assert captured(res) == b"while away\n"
    await wire.barrier()
    await wire.send("ProcSignalRequest", proc_id="runs", signum=9)
    assert (await wire.ended())["runs"]["status"]["signum"] == 9
    await wire.delete("ended", "ends", "runs")


async def test_nothing_queued_is_sent_later(raw, tmp_path):
    """Results of processes that ended in between are not sent unasked."""
    server, agent, wire = await raw.pair()
    names = [f"p{n}" for n in range(20)]
    for name in names:
        await wire.start(**{name: until(tmp_path / "go", f"touch {tmp_path}/{name}")})
    await server.stop()
    (tmp_path / "go").touch()
    await aeventually(lambda: all((tmp_path / n).exists() for n in names), "all have run")
    # Two failed attempts later they have ended, too.
    await aeventually(lambda: sum("refused" in m.lower() for m in agent.log) >= 2, "two attempts")
    await server.start()
    wire = await server.connection()
    assert await wire.barrier() == []
    for name in names:
        await wire.send("ProcResultRequest", proc_id=name)
        assert (await wire.expect("ProcResult", proc_id=name))["res"]["state"] == "terminated"


async def test_forgotten_unknowns(raw):
    """What was answered as unknown counts for one connection only."""
    server, _, wire = await raw.pair()
    for _ in range(2):
        await wire.send("ProcResultRequest", proc_id="nobody")
        await wire.expect("ProcUnknown")
        await wire.send("ProcResultRequest", proc_id="nobody")
        assert await wire.barrier() == []
        await wire.ws.close()
        wire = await server.connection()


async def test_the_count_starts_anew(raw):
    """A registration resets the count of failed attempts."""
    server, _, wire = await raw.pair(*ONCE)
    for _ in range(5):
        await wire.ws.close()
        wire = await server.connection()
        assert wire.register["proc_ids"] == []


async def test_a_lost_server_ends_it(raw):
    """With the server gone for good, the count is used up, and it exits with 1."""
    server, agent, wire = await raw.pair("--connect-count-max", "2")
    await server.stop()
    code, log = await agent.exit()
    assert code == 1
    assert "refused" in log.lower()


async def test_a_close_is_answered(raw):
    """The server's Close gets one back, at once."""
    _, _, wire = await raw.pair()
    await within(wire.ws.close(4000, "bye"), "the closing handshake", deadline=5)
    assert wire.ws.close_code == 4000


async def test_a_cut_connection(raw):
    """A connection that is cut without a Close is made again."""
    server, _, wire = await raw.pair()
    await wire.start(p=sleeper())
    wire.ws.transport.abort()
    wire = await server.connection()
    assert wire.register["proc_ids"] == ["p"]


async def test_a_silent_server(raw):
    """After the read timeout the connection counts as lost."""
    server, _, wire = await raw.pair("--agent-read-timeout", "1")
    wire.ws.transport.pause_reading()
    again = await server.connection()
    assert again.register["conn"] == wire.register["conn"]
    wire.ws.transport.abort()


async def test_no_registered(raw):
    """A server that does not answer the registration has failed, within 10 s."""
    server = await raw.server(answer=False)
    agent = await raw.agent(server, *ONCE)
    await server.connection()
    code, log = await agent.exit(deadline=15)
    assert code == 1
    assert "registration timed out" in log
    assert "token" not in log and "refused" not in log


async def test_two_agents_of_one_id():
    """The package's server ends the older connection: they come ever more rarely, are told why, and count it."""
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


async def test_a_gateway_that_is_not_ready(raw):
    """Its status is logged with its reason, and the agent tries again."""
    answers = [503, 503]

    def gateway(connection, _):
        return connection.respond(answers.pop(), "not yet") if answers else None

    server = await raw.server(process_request=gateway)
    agent = await raw.agent(server, level="warn")
    await server.connection()
    log = "".join(agent.log)
    assert log.count("server answered 503 Service Unavailable") == 2
    assert "websocket server" not in log and "ERROR" not in log


async def test_pings_are_answered(raw):
    """At any time: idle, with a long output on its way, and with the same data."""
    _, _, wire = await raw.pair()
    for num in range(50):
        await within(await wire.ws.ping(b"%d" % num), "a pong", deadline=5)
    await wire.start(p=sh("head -c 50000000 /dev/zero", ("stdout", capture(encoding=None))))
    await wire.ended()
    await wire.send("ProcResultRequest", proc_id="p")
    for _ in range(20):
        await within(await wire.ws.ping(), "a pong", deadline=10)
    await wire.expect("ProcResult")


async def test_a_server_that_pings_often(raw):
    """The server drops an agent that does not answer within a second; this one stays."""
    server = await raw.server(ping_interval=0.05, ping_timeout=1)
    await raw.agent(server)
    wire = await server.connection()
    await aeventually(lambda: wire.ws.latency > 0, "a first pong")
    for _ in range(3):
        await wire.start(p=sh("sleep 0.5; head -c 10000000 /dev/zero"))
        await wire.ended()
        await wire.delete("p")
    assert not wire.closed.is_set()


async def test_a_peer_that_stops_reading(raw):
    """It delays nobody: HTTP clients and processes go on."""
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
    # Well below the 320 MB that were asked for.
    assert _rss(agent.pid) < 200_000_000
    wire.ws.transport.resume_reading()
    for _ in range(12):
        msg = await wire.next()
        while msg["proc_id"] != "p":
            msg = await wire.next()


def _rss(pid):
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
