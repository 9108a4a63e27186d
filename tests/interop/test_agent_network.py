"""Broken networks between two hosts of this test, and schedulers that end connections early.

After each disturbance, all results have arrived, once and in order, within the configured times.
Needs root, iproute2 and iptables.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys

import pytest

from procstar.testing import TLS_CERT_PATH, TLS_KEY_PATH
from support import netns
from support.agent import Agent, RawServer
from support.bare import PING, BareServer, frame, message, read_frame, upgrade_answer
from support.specs import sh
from support.wait import DEADLINE, aeventually, within
from support.work import Work

READ_TIMEOUT = 2.0
# The longest wait between attempts, plus an attempt in progress whose SYN is repeated.
RECONNECT = 1.0 + 5.0


@pytest.fixture(scope="module")
def cert(tmp_path_factory):
    """A certificate for the scheduler's name."""
    return netns.certificate(tmp_path_factory.mktemp("cert"))


@pytest.fixture
def lab():
    """Two hosts."""
    with netns.Lab() as made:
        yield made


@contextlib.asynccontextmanager
async def pair(lab, cert, *args):
    """A scheduler here, an agent there, and their first connection."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(RawServer(host=lab.addresses[0], cert=cert, close_timeout=0.2))
        agent = Agent(server.port, *args, host=netns.NAME, cert=cert[0], prefix=lab.prefix)
        await stack.enter_async_context(agent)
        yield server, agent, await server.connection()


# -- the cable


async def test_a_short_cut_of_the_cable_keeps_the_connection(lab, cert, tmp_path):
    """The cut is shorter than the read timeout, and no message is lost."""
    work = Work(tmp_path, 20)
    ids = list(work.specs)
    async with pair(lab, cert, "--agent-read-timeout", 20) as (server, _, wire):
        await work.start(wire, *ids[:10])
        lab.cut()
        await work.start(wire, *ids[10:])
        # The first ten processes end meanwhile.
        await aeventually(lambda: work.ran().total() == 10, "the start of what had arrived")
        await asyncio.sleep(0.8)
        lab.mend()
        await work.finish(server)
        await work.check(server)
        assert server.wires == [wire]


@pytest.mark.parametrize("how", ["link", "silence"])
async def test_the_agent_reconnects_after_a_long_cut_of_the_cable(lab, cert, tmp_path, how):
    """The agent notices within the read timeout, and reconnects soon after the cable is joined."""
    work = Work(tmp_path, 20)
    ids = list(work.specs)
    async with pair(lab, cert, "--agent-read-timeout", READ_TIMEOUT) as (server, agent, wire):
        await work.start(wire, *ids[:10])
        lab.cut() if how == "link" else lab.lose(1)
        loop = asyncio.get_running_loop()
        cut = loop.time()
        await work.start(wire, *ids[10:])
        await agent.logged("connection lost")
        assert loop.time() - cut < READ_TIMEOUT + 1
        lost = lab.lost()
        if how == "link":
            await agent.logged("cannot connect")
        else:
            # Another lost packet: the agent has tried to connect, and waits for an answer.
            await aeventually(lambda: lab.lost() > lost, "an attempt")
        lab.mend() if how == "link" else lab.lose(0)
        await work.finish(server, deadline=RECONNECT + 3)
        await work.check(server)
        assert len(server.wires) == 2
        assert server.wires[1].register["conn"] == wire.register["conn"]


async def test_the_connection_survives_the_loss_of_half_of_the_packets(lab, cert, tmp_path):
    """TCP repeats the packets to the agent."""
    work = Work(tmp_path, 20)
    ids = list(work.specs)
    async with pair(lab, cert, "--agent-read-timeout", 40) as (server, _, wire):
        netns.retry_soon(wire.ws.transport.get_extra_info("socket"))
        lab.lose(0.5)
        await work.start(wire, *ids)
        await work.finish(server, deadline=40)
        await work.check(server)
        assert lab.lost() > 10
        assert server.wires == [wire], "the connection is kept"


async def test_the_name_is_looked_up_for_each_attempt(lab, cert, tmp_path):
    """The scheduler moves to another address."""
    work = Work(tmp_path, 10, seconds=2)
    async with pair(lab, cert) as (server, _, wire):
        await work.start(wire, *work.specs)
        await server.stop()
        server.host = lab.addresses[1]
        lab.serve_at(lab.addresses[1])
        await server.start()
        await work.finish(server)
        await work.check(server)
        assert len(server.wires) == 2


# -- schedulers that stop


async def test_a_frozen_scheduler_is_replaced_after_the_read_timeout(tmp_path):
    """The frozen scheduler neither reads nor writes; the next one gets all results."""
    work = Work(tmp_path, 10)
    async with BareServer() as dead, Agent(dead.port, "--agent-read-timeout", READ_TIMEOUT) as agent:
        connection = await dead.connection()
        connection.writer.transport.pause_reading()
        for proc_id, spec in work.specs.items():
            await connection.send(message("ProcStartRequest", specs={proc_id: spec}))
        await agent.logged("connection lost.*nothing received")
        back = await dead.connection()
        assert sorted(back.register["proc_ids"]) == sorted(work.specs)
        for proc_id in work.specs:
            await back.send(message("ProcResultRequest", proc_id=proc_id))
        ended = {}
        while len(ended) < len(work.specs):
            msg = await back.next_of("ProcResult")
            if msg["res"]["state"] != "running":
                assert ended.setdefault(msg["proc_id"], msg["res"]) == msg["res"]
        for proc_id, res in ended.items():
            assert res["fds"]["stdout"]["text"].startswith(f"{proc_id}\n")


async def test_a_scheduler_that_pings_but_does_not_read_keeps_the_connection():
    """The agent waits with little memory; later every byte arrives in order."""
    async with BareServer() as server, Agent(server.port, "--agent-read-timeout", 3) as agent:
        connection = await server.connection()
        await connection.send(message("ProcStartRequest", specs={"p": sh("seq 1000000")}))
        while (await connection.next_of("ProcResult"))["res"]["state"] == "running":
            pass
        connection.writer.transport.pause_reading()
        for start in range(0, 6_000_000, 1_000_000):
            stop = start + 1_000_000
            await connection.send(message("ProcFdDataRequest", proc_id="p", fd="stdout", start=start, stop=stop))

        async def ping():
            while True:
                await connection.send(frame(PING, b"still here"))
                await asyncio.sleep(0.5)

        pings = asyncio.ensure_future(ping())
        # Longer than the read timeout.
        await asyncio.sleep(4)
        assert not any("connection lost" in line for line in agent.log)
        connection.writer.transport.resume_reading()
        want = b"".join(b"%d\n" % n for n in range(1, 1_000_001))[:6_000_000]
        for start in range(0, 6_000_000, 1_000_000):
            msg = await connection.next_of("ProcFdData")
            assert (msg["start"], msg["data"]) == (start, want[start : start + 1_000_000])
        pings.cancel()


async def test_one_byte_a_second_keeps_the_connection_alive():
    """The agent's messages do not wait for the rest."""
    async with BareServer() as server, Agent(server.port, "--agent-read-timeout", 1.5) as agent:
        connection = await server.connection()
        await connection.send(message("ProcStartRequest", specs={"p": sh("sleep 2.5; echo slow")}))
        assert (await connection.next_of("ProcResult"))["res"]["state"] == "running"

        async def drip():
            for byte in frame(PING, b"drip"):
                await asyncio.sleep(1)
                await connection.send(bytes([byte]))

        task = asyncio.ensure_future(drip())
        res = (await connection.next_of("ProcResult"))["res"]
        assert res["fds"]["stdout"]["text"] == "slow\n"
        assert not task.done(), "while the ping was still coming"
        await task
        while (await within(read_frame(connection.reader), "a pong"))[2] != b"drip":
            pass
        assert not any("connection lost" in line for line in agent.log)


# -- schedulers that break off


class Ends:
    """The connection of one attempt, brought to some phase of TLS, upgrade or registration by
    hand."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS_CERT_PATH, TLS_KEY_PATH)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    async def _step(self, call, *args):
        """One call of TLS with the received bytes; its output is not sent."""
        while True:
            try:
                return call(*args)
            except ssl.SSLWantReadError:
                await self.flush()
                self.incoming.write(await self._some())

    async def _some(self):
        data = await self.reader.read(1 << 16)
        if not data:
            raise ConnectionError("the agent has closed")
        return data

    async def flush(self, part=1.0):
        """Sends the output of TLS, or the first part of it."""
        data = self.outgoing.read()
        self.writer.write(data[: int(len(data) * part)])
        await self.writer.drain()

    async def hello(self, part):
        """Reads the ClientHello and sends a part of the answer."""
        self.incoming.write(await self._some())
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        await self.flush(part)

    async def handshake(self):
        """The whole TLS handshake."""
        await self._step(self.tls.do_handshake)
        await self.flush()

    async def request(self):
        """TLS and the upgrade request."""
        await self.handshake()
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self._step(self.tls.read, 1 << 16)
        return data

    async def say(self, data):
        """Sends bytes inside TLS."""
        self.tls.write(data)
        await self.flush()

    async def upgraded(self):
        """TLS and the upgrade."""
        await self.say(upgrade_answer(await self.request()))

    async def registered(self):
        """TLS, upgrade, and the agent's registration."""
        await self.upgraded()
        await self._step(self.tls.read, 1 << 16)

    async def goodbye(self):
        """Sends close_notify; TCP stays open."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        await self.flush()

    def reset(self):
        """Resets TCP."""
        sock = self.writer.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


def _http(status, *headers, body=b""):
    async def answer(ends):
        await ends.request()
        await ends.say(b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", b""]) + body)

    return answer


async def _bytes(ends, data):
    await ends._some()
    ends.writer.write(data)
    await ends.writer.drain()


async def _first(ends, part):
    request = await ends.request()
    answer = upgrade_answer(request)
    await ends.say(answer[: int(len(answer) * part)])


async def _wrong_accept(ends):
    await ends.request()
    await ends.say(upgrade_answer(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: c29tZXRoaW5nIGVsc2U=\r\n\r\n"))


async def _after_registration(ends, data):
    await ends.registered()
    await ends.say(data)


async def _nothing(ends):
    pass


REGISTERED = message("Registered")

# Actions of the scheduler before it ends the connection.
PHASES = {
    "accepted": _nothing,
    "hello read": lambda e: e.hello(0),
    "a byte of its hello sent": lambda e: e.hello(0.001),
    "half of its hello sent": lambda e: e.hello(0.5),
    "its hello sent": lambda e: e.hello(1),
    "TLS": lambda e: e.handshake(),
    "TLS, and its end": lambda e: e.handshake(),
    "request read": lambda e: e.request(),
    "a quarter of the upgrade": lambda e: _first(e, 0.25),
    "most of the upgrade": lambda e: _first(e, 0.95),
    "a wrong upgrade": _wrong_accept,
    "upgraded": lambda e: e.upgraded(),
    "registration read": lambda e: e.registered(),
    "half a header": lambda e: _after_registration(e, REGISTERED[:1]),
    "half of Registered": lambda e: _after_registration(e, REGISTERED[:-3]),
    "something else than Registered": lambda e: _after_registration(e, message("ProcidListRequest")),
    "garbage for Registered": lambda e: _after_registration(e, b"\xff" * 100),
    "a Close": lambda e: _after_registration(e, frame(8, b"\x03\xe8no")),
    "plain HTTP": lambda e: _bytes(e, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
    "SSH": lambda e: _bytes(e, b"SSH-2.0-OpenSSH_9.2p1\r\n"),
    "zeros": lambda e: _bytes(e, bytes(5000)),
    "an alert": lambda e: _bytes(e, b"\x15\x03\x03\x00\x02\x02\x28"),
    "200": _http(b"200 OK", b"Content-Length: 5", body=b"hello"),
    "301": _http(b"301 Moved Permanently", b"Location: https://localhost:1/", b"Content-Length: 0"),
    "404": _http(b"404 Not Found", b"Content-Type: text/html", body=b"<html>" * 1000),
    "503": _http(b"503 Service Unavailable", b"Retry-After: 3600"),
    "101 to something else": _http(b"101 Switching Protocols", b"Upgrade: h2c", b"Connection: Upgrade"),
    "1 MiB of headers": _http(b"200 OK", *[b"X-%d: " % n + b"x" * 1000 for n in range(1000)]),
    "no HTTP": lambda e: _first_bytes(e, b"\0\xff" * 500),
}


async def _first_bytes(ends, data):
    await ends.request()
    await ends.say(data)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_an_end_in_any_phase_is_followed_by_another_attempt(how, tmp_path):
    """The last attempt succeeds, and all results arrive."""
    work = Work(tmp_path, 10, seconds=0.2)
    phases = iter(PHASES.items())
    done = []
    proxied = []

    async def serve(reader, writer):
        proxied.append(writer)
        if (phase := next(phases, None)) is None:
            # A real scheduler takes over, byte by byte.
            there, back = await asyncio.open_connection("127.0.0.1", server.port)
            proxied.append(back)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
            return
        name, act = phase
        ends = Ends(reader, writer)
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await within(act(ends), f"phase {name!r}")
            if name.endswith("and its end"):
                await ends.goodbye()
            if how == "reset":
                ends.reset()
        done.append(name)
        writer.close()

    async def _pump(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async with RawServer() as server:
        # The first connection goes to the real scheduler, which starts the work; its end is the
        # first event.
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        first, phases = phases, iter(())
        intervals = ("--connect-interval-start", 0.02, "--connect-interval-max", 0.05)
        async with Agent(port, *intervals) as agent:
            wire = await server.connection()
            await work.start(wire, *work.specs)
            # An answer shows that all messages have arrived.
            await aeventually(lambda: work.ran().total() == len(work.specs), "starts")
            phases = first
            await wire.ws.close()
            await work.finish(server, deadline=DEADLINE + len(PHASES))
            await work.check(server)
            assert done == list(PHASES)
            assert len(server.wires) == 2
            failures = [line for line in agent.log if " WARN " in line or "ERROR" in line]
            assert len(failures) >= len(PHASES), "every failure is logged"
        listener.close()
        for writer in proxied:
            writer.close()


# Endless actions of the scheduler in each phase, and the longest duration of the phase.
STALLS = {
    "accepted": (_nothing, 10),
    "half of its hello": (lambda e: e.hello(0.5), 10),
    "TLS": (lambda e: e.handshake(), 10),
    "half of the upgrade": (lambda e: _first(e, 0.5), 10),
    "upgraded": (lambda e: e.upgraded(), 3),
    "half of Registered": (lambda e: _after_registration(e, REGISTERED[:-3]), 3),
}
DRIPS = {
    "TLS": (lambda e: _drip(e, raw=True), 10),
    "upgrade": (lambda e: _drip(e, b"HTTP/1.1 101 Switching Protocols\r\n" + b"X: y\r\n" * 100), 10),
    "Registered": (lambda e: _drip(e, REGISTERED, registered=True), 3),
}


async def _drip(ends, data=b"", *, raw=False, registered=False):
    """Sends a byte a second, forever."""
    if raw:
        ends.incoming.write(await ends._some())
        with contextlib.suppress(ssl.SSLWantReadError):
            ends.tls.do_handshake()
        for byte in ends.outgoing.read():
            ends.writer.write(bytes([byte]))
            await asyncio.sleep(1)
    await (ends.registered() if registered else ends.request())
    for byte in data:
        await ends.say(bytes([byte]))
        await asyncio.sleep(1)


async def test_each_phase_has_a_timeout():
    """Single bytes do not extend the timeout. All phases run at the same time here."""
    stalls = [(f"silent: {name}", *stall) for name, stall in STALLS.items()]
    stalls += [(f"a byte a second: {name}", *drip) for name, drip in DRIPS.items()]
    await asyncio.gather(*(_stall(*stall) for stall in stalls))


async def _stall(name, act, limit):
    began = []
    again = asyncio.get_running_loop().create_future()
    hold = []

    async def serve(reader, writer):
        hold.append(writer)
        began.append(asyncio.get_running_loop().time())
        if len(began) == 2 and not again.done():
            again.set_result(None)
        if len(began) == 1:
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await act(Ends(reader, writer))
                await reader.read()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    env = {"PROCSTAR_AGENT_REGISTER_TIMEOUT": "3"}
    async with Agent(port, "--connect-interval-max", 0.2, env=env) as agent:
        await within(again, f"the next attempt: {name}", deadline=limit + 4)
        took = began[1] - began[0]
        assert limit - 0.1 <= took <= limit + 2, (name, took)
        assert any(" WARN " in line or "ERROR" in line for line in agent.log), name
    listener.close()
    for writer in hold:
        writer.transport.abort()


# -- a name server that does not answer

# Runs in namespaces of its own: receives the queries of `argv`, sends SIGTERM after the first one,
# and
# prints the exit code.
SILENT_NAME_SERVER = """
import signal, socket, subprocess, sys
queries = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
queries.bind(("127.0.0.1", 53))
queries.settimeout(60)
program = subprocess.Popen(sys.argv[1:])
queries.recvfrom(512)
program.send_signal(signal.SIGTERM)
print(program.wait(60))
"""


@pytest.mark.parametrize("argv", [("--agent", "--agent-host", "name.test"), ("ps", "--url", "http://name.test:1")])
def test_an_unanswered_lookup_does_not_delay_the_end(tmp_path, argv):
    """The log does not report a failed agent."""
    conf = tmp_path / "resolv.conf"
    # Longer than any timeout.
    conf.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:5\n")
    hosts = tmp_path / "nsswitch.conf"
    hosts.write_text("hosts: dns\n")
    mount = f"ip link set lo up && mount --bind {conf} /etc/resolv.conf && mount --bind {hosts} /etc/nsswitch.conf"
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", f'{mount} && exec "$0" "$@"', sys.executable, "-c", SILENT_NAME_SERVER,
         os.environ["PROCSTAR"], *argv],
        # Commands ignore directories of other users.
        env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    # A command without a keeper ends by the signal.
    assert (done.returncode, done.stdout) == (0, "0\n" if "--agent" in argv else "-15\n"), done
    assert done.stderr == ""
