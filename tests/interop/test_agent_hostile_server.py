"""A hostile scheduler: the agent answers or drops the connection, keeps all processes, and stays
small."""

import asyncio
from collections import Counter
import contextlib
import os
import random

import msgpack
import pytest

from support import bare, procs
from support.agent import Agent
from support.bare import BINARY, CLOSE, CONTINUATION, PING, TEXT, BareServer, frame, header, message
from support.specs import TRUE, argv, capture, sh, sleeper
from support.wait import aeventually

MB = 1 << 20
# Allowed growth of keeper and worker together, for a debug build and a few thousand messages.
ROOM = 48 * MB


def memory(agent):
    """Resident memory of keeper and worker, in bytes."""
    total = 0
    for pid in (agent.pid, *procs.descendants(agent.pid)):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm", "rb") as file:
                ours = pid == agent.pid or file.read() == b"procstar-worker\n"
            with open(f"/proc/{pid}/status") as file:
                fields = dict(line.split(":", 1) for line in file)
            total += int(fields["VmRSS"].split()[0]) * 1024 if ours else 0
    assert total > MB, "an agent has some memory"
    return total


# -- messages

# Values of every type, and of every size that could be mistaken for another.
WRONG = [
    None, True, False, 0, 1, -1, 127, 128, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**31) - 1, -(2**63),
    0.0, -0.5, 1e308, float("nan"), float("inf"), "", "x", "0", "-1", "stdout", "\0", "\ud7ff\ufffe", "é" * 5000, "9" * 400,
    b"", b"stdout", b"\xff" * 300, [], ["x"], [[]], [0] * 3000, {}, {"x": 1}, {"": {}}, {1: 2},
    msgpack.ExtType(5, b"x" * 9), msgpack.Timestamp(1),
]  # fmt: skip

REQUESTS = {
    "ProcResultRequest": {"proc_id": "target"},
    "ProcSignalRequest": {"proc_id": "target", "signum": 0},
    "ProcFdDataRequest": {"proc_id": "target", "fd": "stdout", "start": 0, "stop": None},
    "ProcDeleteRequest": {"proc_id": "target"},
    "ProcStartRequest": {"specs": {}, "all_or_nothing": False, "idempotent": False},
    "ProcidListRequest": {},
    "Registered": {},
    "Nonsense": {"proc_id": "target"},
}

PROC = {
    "argv": [TRUE], "exe": TRUE, "id": "x", "env": {"inherit": False, "vars": {"A": "b"}}, "fds": [["stdout", capture()]],
    "labels": {"a": "b"}, "lookup_path": True, "cwd": "/", "umask": "0022", "user": "root", "group": "root", "groups": [0],
    "rlimits": {"nofile": 64}, "nice": 0, "oom_score_adj": 0, "cpu_affinity": [0], "io_priority": {"class": "best-effort", "level": 4},
    "pdeath_signal": "SIGKILL", "signals": {"block": ["SIGHUP"]}, "timeout": 100.0, "stop": {"signal": "SIGTERM", "grace": 1.0},
    "systemd_properties": {"scope": {"oom_policy": "kill"}},
}  # fmt: skip


def same(a, b):
    """Equality in which NaN equals NaN."""
    return msgpack.packb(a) == msgpack.packb(b)


def bad_requests():
    """Every message with every field missing, of every wrong type, or nested once more."""
    for kind, fields in REQUESTS.items():
        yield {"type": kind}
        yield {"type": kind, "unknown": {"key": [1]}}
        for field in fields:
            yield {"type": kind} | {k: v for k, v in fields.items() if k != field}
            for value in WRONG:
                yield {"type": kind} | fields | {field: value}
    for value in WRONG:
        yield {"type": value, "proc_id": "target"}


async def test_every_field_of_every_message_may_be_invalid(raw):
    """Each message has at most one answer, in order, of a type that the protocol defines."""
    _, agent, wire = await raw.pair()
    # 1 is among the wrong values, and a valid signal number.
    await wire.start(target=sh("trap '' HUP; echo output; exec sleep 1000"))
    while (await wire.read("target"))["data"] != b"output\n":
        pass
    before = memory(agent)
    unknown = set()
    count = Counter()
    for msg in bad_requests():
        await wire.ws.send(msgpack.packb(msg))
        answers = await wire.barrier()
        assert len(answers) <= 1, (msg, answers)
        if msg["type"] == "ProcidListRequest":
            await wire.expect("ProcidList", proc_ids=["target"])
            continue
        if not answers:
            # Some requests are valid: they have an effect, or name an ID that is unknown again.
            silent = msg["type"] in ("ProcSignalRequest", "Registered") or msg["type"] == "ProcStartRequest" and msg["specs"] == {}
            assert silent or msg.get("proc_id") in unknown, msg
            continue
        (answer,) = answers
        count[answer["type"]] += 1
        if answer["type"] == "RequestError":
            assert same(answer["msg"], msg), (answer, msg)
            assert 0 < len(answer["err"]) < 10_000
        elif answer["type"] == "ProcUnknown":
            assert answer["proc_id"] == msg["proc_id"] != "target"
            unknown.add(msg["proc_id"])
        elif answer["type"] == "ProcFdData":
            assert msg["type"] == "ProcFdDataRequest" and answer["stop"] - answer["start"] == len(answer["data"]) <= 7
            assert answer["start"] == (msg.get("start") or 0)
        else:
            assert (answer["type"], msg["type"]) == ("ProcResult", "ProcResultRequest"), (answer, msg)
    assert count["RequestError"] > 200 and count["ProcUnknown"] > 5 and count["ProcFdData"] > 10, count
    assert memory(agent) < before + ROOM
    await wire.send("ProcSignalRequest", proc_id="target", signum=9)
    assert (await wire.ended())["target"]["status"]["signum"] == 9


def bad_specs():
    """Every key of a spec and of its parts with every wrong value."""
    for key in PROC:
        for value in WRONG:
            yield PROC | {key: value}
    for key in ("env", "stop", "signals", "io_priority", "rlimits", "labels", "systemd_properties"):
        for inner in PROC[key]:
            for value in WRONG:
                yield PROC | {key: PROC[key] | {inner: value}}
    for value in WRONG:
        for fd in (["stdout", value], [value, capture()], ["stdout", {"capture": value}], ["stdout", {"dup": {"fd": value}}],
                   ["stdout", {"file": {"path": value}}], ["stdin", {"pipe-read": {"proc_id": value, "fd": "stdout"}}],
                   ["stdin", {"data": {"text": value}}], ["stdout", {"capture": {"keep": {"head": value}}}]):  # fmt: skip
            yield PROC | {"fds": [fd]}


async def test_every_key_of_a_spec_may_be_invalid(raw):
    """The request is refused with all of it, or accepted with two results."""
    _, agent, wire = await raw.pair()
    specs = {f"p{n}": msgpack.unpackb(msgpack.packb(spec), strict_map_key=False) for n, spec in enumerate(bad_specs())}
    before = memory(agent)
    # Few requests at a time: more would only wait in queues.
    todo = list(specs.items())
    accepted = []
    while todo:
        some, todo = todo[:100], todo[100:]
        for proc_id, spec in some:
            await wire.send("ProcStartRequest", specs={proc_id: spec})
        accepted += await _answered(wire, dict(some))
    assert memory(agent) < before + ROOM
    await wire.send("ProcidListRequest")
    listed = (await wire.expect("ProcidList"))["proc_ids"]
    assert listed == accepted, "accepted ones, in their order, and no other"
    assert 50 < len(listed) < len(specs) / 2
    await wire.delete(*listed)


async def _answered(wire, specs):
    """Waits for the error or both results of each request; returns the accepted ones in order."""
    results = Counter()
    refused = set()
    while len(refused) + sum(n == 2 for n in results.values()) < len(specs):
        msg = await wire.next()
        if msg["type"] == "RequestError":
            ((proc_id, spec),) = msg["msg"]["specs"].items()
            assert same(spec, specs[proc_id]) and proc_id not in refused and msg["err"]
            refused.add(proc_id)
        else:
            proc_id = msg["proc_id"]
            assert msg["type"] == "ProcResult" and proc_id not in refused, msg
            results[proc_id] += 1
            assert results[proc_id] == 1 or results[proc_id] == 2 and msg["res"]["state"] != "running", msg
    return [proc_id for proc_id in specs if proc_id in results]


async def test_messages_may_be_nested_10000_deep(raw):
    """As an unknown key, in a known one, in a spec, as a type, as a key."""
    _, agent, wire = await raw.pair()
    await wire.start(p=sleeper())
    wire.lenient = True
    before = memory(agent)
    for depth in (1000, 1025, 10_000, 100_000):
        for deep in (b"\x91" * depth + b"\xc0", b"\x81\xa1a" * depth + b"\xc0", b"\x81\xa4argv" * depth + b"\xc0"):
            for place in (
                b"\x82\xa4type\xb1ProcResultRequest\xa7proc_id",
                b"\x82\xa4type\xb0ProcStartRequest\xa5specs",
                b"\x82\xa4type\xb0ProcStartRequest\xa5specs\x81\xa1a",
                b"\x82\xa4type\xb0ProcStartRequest\xa5specs\x81\xa1a\x82\xa4argv\x91\xa1x\xa3env\x81\xa4vars\x81\xa1v",
                b"\x82\xa4type\xb0ProcStartRequest\xa5specs\x81\xa1a\x82\xa4argv\x91\xa1x\xa3fds\x91\x92\xa11",
                b"\x82\xa4type\xa7Unknown\xa1x",
                b"\x81\xa4type",
                b"\x81",
            ):
                await wire.ws.send(place + deep + (b"\xc0" if place == b"\x81" else b""))
    assert await wire.barrier() == [], "errors, which are ignored, and nothing else"
    assert memory(agent) < before + ROOM
    await wire.send("ProcSignalRequest", proc_id="p", signum=9)
    assert (await wire.ended())["p"]["status"]["signum"] == 9


@pytest.mark.parametrize("depth", [100, 10_000, 1_000_000])
def test_deeply_nested_json_is_refused_with_400(service, depth):
    at_home = service()
    for text in ("[" * depth, '{"specs":' * depth, '{"specs":{"a":' + "[" * depth + "]" * depth + "}}"):
        rsp = at_home.http.post("/procs", content=text, headers={"content-type": "application/json"})
        assert rsp.status_code == 400, rsp.text[:200]
        assert len(rsp.content) < 100_000
    at_home.post({"after": argv(TRUE)})
    assert at_home.result("after")["state"] == "terminated"


async def test_random_messages_are_answered_at_most_once(raw):
    """Random bytes, and valid messages with a few changed bytes."""
    _, agent, wire = await raw.pair()
    await wire.start(p=sleeper())
    wire.lenient = True
    rng = random.Random(6)
    good = [msgpack.packb({"type": kind} | fields) for kind, fields in REQUESTS.items() if kind != "ProcDeleteRequest"]
    good.append(msgpack.packb({"type": "ProcStartRequest", "specs": {"q": PROC}}))
    before = memory(agent)
    for _ in range(3000):
        data = bytearray(rng.choice(good))
        match rng.randrange(4):
            case 0:
                data = rng.randbytes(rng.choice((1, 10, 1000)))
            case 1:
                data = data[: rng.randrange(len(data))]
            case 2:
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            case _:
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(4)] = rng.randbytes(rng.randrange(5))
        await wire.ws.send(bytes(data))
    await wire.barrier()
    assert memory(agent) < before + ROOM
    # Some changes leave a valid request, even one of a signal: no signal number that ends the
    # sleeper
    # is one bit away.
    await wire.send("ProcResultRequest", proc_id="p")
    await aeventually(lambda: wire.messages[-1].get("proc_id") == "p", "an answer")
    assert wire.messages[-1]["type"] == "ProcResult"


# -- frames

BAD_FRAMES = {
    "reserved bits": (frame(BINARY, b"x", reserved=0x40), 1002),
    "all reserved bits": (frame(BINARY, b"x", reserved=0x70), 1002),
    "unknown opcode": (frame(3, b"x"), 1002),
    "unknown control opcode": (frame(15, b"x"), 1002),
    "masked": (header(BINARY, 5, masked=True) + b"keyshello"[:9], 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "ping of 4 GiB": (header(PING, 1 << 32), 1002),
    "continues nothing": (frame(CONTINUATION, b"x"), 1002),
    "message in a message": (frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"), 1002),
    "text in a message": (frame(BINARY, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "4 GiB and nothing behind": (header(BINARY, 1 << 32), 1009),
    "a byte above the limit": (header(BINARY, (1 << 30) + 1), 1009),
    "1 EiB": (header(BINARY, 1 << 60) + b"some", 1009),
    "top bit": (header(BINARY, 1 << 63), 1002),
    "all bits": (b"\xff" * 14, 1002),
    "pieces above the limit": (frame(BINARY, b"x" * 1000, fin=False) + header(CONTINUATION, 1 << 30), 1009),
    "close of one byte": (frame(CLOSE, b"x"), 1002),
    "close with a code that none may send": (frame(CLOSE, b"\x03\xed"), 1002),
    "close with a reason that is no text": (frame(CLOSE, b"\x03\xe8\xff\xfe"), 1002),
    "close in a message": (frame(BINARY, b"x", fin=False) + frame(CLOSE, b"\x03\xe8bye"), 1000),
    "HTTP": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 1002),
}


async def test_invalid_frames_drop_the_connection():
    """The Close says why, and the agent reconnects with its process."""
    async with BareServer() as server, Agent(server.port) as agent:
        connection = await server.connection()
        await connection.send(message("ProcStartRequest", specs={"p": sleeper()}))
        first = (await connection.next_of("ProcResult"))["res"]
        before = memory(agent)
        for name, (data, code) in BAD_FRAMES.items():
            await connection.send(data)
            said = await connection.end()
            assert said is not None and said[0] == code, (name, said)
            connection = await server.connection()
            assert connection.register["proc_ids"] == ["p"], name
        assert memory(agent) < before + ROOM
        await connection.send(message("ProcResultRequest", proc_id="p"))
        assert (await connection.next_of("ProcResult"))["res"]["pid"] == first["pid"]


async def test_a_declared_length_costs_no_memory():
    """A few bytes of a message with the maximum length arrive; then the message times out."""
    async with BareServer() as server, Agent(server.port, "--agent-read-timeout", 1.5) as agent:
        connection = await server.connection()
        before = memory(agent)
        await connection.send(header(BINARY, 1 << 30) + b"\xdf\xff\xff\xff\xff")
        # A ping would only be more of the message, so the read timeout ends the connection.
        connection_2 = await server.connection()
        assert connection_2.register["conn"] == connection.register["conn"]
        assert memory(agent) < before + ROOM


async def test_messages_in_the_wrong_order_are_ignored():
    """Requests before the registration is answered, and two answers to it."""
    async with BareServer(registered=False) as server, Agent(server.port):
        connection = await server.connection()
        early = message("ProcStartRequest", specs={"early": sleeper()})
        for data in (early, message("ProcDeleteRequest", proc_id="early"), message("ProcidListRequest"), frame(PING, b"early")):
            await connection.send(data)
        for _ in range(2):
            await connection.send(message("Registered"))
        await connection.send(message("ProcidListRequest"))
        answers = []
        while not answers or answers[-1]["type"] != "ProcidList":
            answers.append(await connection.read())
        # The agent ignores early requests: the scheduler is not yet authenticated.
        assert answers[-1]["proc_ids"] == []
        assert {a["type"] for a in answers[:-1]} <= {"RequestError"}, answers
        await connection.send(message("ProcStartRequest", specs={"late": argv(TRUE)}))
        for state in ("running", "terminated"):
            assert (await connection.next_of("ProcResult"))["res"]["state"] == state


# -- floods

async def test_a_scheduler_that_never_reads_stops_the_agent_from_reading():
    """10,000 requests without reading; later all answers arrive in order."""
    async with BareServer() as server, Agent(server.port) as agent:
        connection = await server.connection()
        before = memory(agent)
        count = 10_000

        async def flood():
            for start in range(0, count, 100):
                names = (f"{n:02000}" for n in range(start, start + 100))
                await connection.send(b"".join(message("ProcResultRequest", proc_id=name) for name in names))

        connection.reader._transport.pause_reading()
        task = asyncio.ensure_future(flood())
        # The agent stops reading once all buffers are full: then this side can write no more.
        sizes = []

        def stands_still():
            sizes.append(connection.writer.transport.get_write_buffer_size())
            return task.done() or len(sizes) > 50 and len(set(sizes[-50:])) == 1 and sizes[-1] > 0

        await aeventually(stands_still, "the agent to stop reading")
        assert not task.done(), "the agent took 20 MB of requests whose answers wait"
        assert memory(agent) < before + ROOM
        connection.reader._transport.resume_reading()
        for n in range(count):
            assert (await connection.read())["proc_id"] == f"{n:02000}"
        await task
        assert memory(agent) < before + ROOM


async def test_a_ping_is_answered_after_a_flood_of_pings():
    """200,000 pings of which no pong is read; then one more, which is answered."""
    async with BareServer() as server, Agent(server.port) as agent:
        connection = await server.connection()
        before = memory(agent)
        connection.reader._transport.pause_reading()
        pings = frame(PING, b"p" * 125) * 1000
        for _ in range(200):
            await connection.send(pings)
        await connection.send(frame(PING, b"last"))
        assert memory(agent) < before + ROOM
        connection.reader._transport.resume_reading()
        while (await bare.read_frame(connection.reader))[2] != b"last":
            pass
