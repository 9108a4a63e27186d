"""Invalid messages of a scheduler: an error or no answer, and the next message works."""

import asyncio

import msgpack
import pytest

from support.specs import TRUE, argv, sh, sleeper


async def works(wire, name="after"):
    """Asserts that the agent works and that it sent nothing else."""
    await wire.start(**{name: argv(TRUE)})
    assert (await wire.ended())[name]["status"]["exit_code"] == 0
    await wire.delete(name)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"no messagepack at all",
        msgpack.packb(None),
        msgpack.packb(7),
        msgpack.packb("ProcidListRequest"),
        msgpack.packb([{"type": "ProcidListRequest"}]),
        msgpack.packb({}),
        msgpack.packb({"proc_id": "p"}),
        msgpack.packb({1: 2}),
        msgpack.packb({"type": "ProcidListRequest"})[:-3],
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\x81" * 200_000,
        b"\x91" * 200_000,
        b"{}",
    ],
    ids=range(17),
)
async def test_values_that_are_not_messages_are_ignored(raw, data):
    """No map, or no `type`: no answer, and the connection stays."""
    _, _, wire = await raw.pair()
    await wire.ws.send(data)
    assert await wire.barrier() == []
    await works(wire)


async def test_text_frames_are_ignored(raw):
    """Valid messages are binary."""
    _, _, wire = await raw.pair()
    await wire.ws.send('{"type": "ProcidListRequest"}')
    await wire.ws.send("")
    assert await wire.barrier() == []
    await works(wire)


@pytest.mark.parametrize(
    "msg",
    [
        {"type": "NoSuchRequest", "proc_id": "p"},
        {"type": ""},
        {"type": "ProcStartRequest"},
        {"type": "ProcStartRequest", "specs": None},
        {"type": "ProcStartRequest", "specs": []},
        {"type": "ProcStartRequest", "specs": {"a": None}},
        {"type": "ProcStartRequest", "specs": {"a": {"argv": [b"bytes"]}}},
        {"type": "ProcStartRequest", "specs": {"a": {"argv": [TRUE], "fds": [["1", {"dup": {"fd": -1}}]]}}},
        {"type": "ProcResultRequest"},
        {"type": "ProcResultRequest", "proc_id": 7},
        {"type": "ProcResultRequest", "proc_id": None},
        {"type": "ProcResultRequest", "proc_id": ["p"]},
        {"type": "ProcDeleteRequest"},
        {"type": "ProcDeleteRequest", "proc_id": {}},
        {"type": "ProcSignalRequest", "proc_id": "p"},
        {"type": "ProcSignalRequest", "proc_id": "p", "signum": "SIGTERM"},
        {"type": "ProcSignalRequest", "proc_id": "p", "signum": None},
        {"type": "ProcSignalRequest", "proc_id": "p", "signum": -15},
        {"type": "ProcSignalRequest", "proc_id": "p", "signum": 15.5},
        {"type": "ProcSignalRequest", "proc_id": "p", "signum": 65},
        {"type": "ProcSignalRequest", "proc_id": "p", "signum": 2**63},
        {"type": "ProcSignalRequest", "signum": 15},
        {"type": "ProcFdDataRequest", "proc_id": "p"},
        {"type": "ProcFdDataRequest", "proc_id": "p", "fd": None, "start": 0, "stop": None},
        {"type": "ProcFdDataRequest", "proc_id": "p", "fd": "stdout", "start": -1, "stop": None},
        {"type": "ProcFdDataRequest", "proc_id": "p", "fd": "stdout", "start": 0, "stop": -1},
        {"type": "ProcFdDataRequest", "proc_id": "p", "fd": "stdout", "start": "0", "stop": None},
        {"type": "ProcFdDataRequest", "proc_id": "p", "fd": "stdout", "start": 0.5, "stop": None},
        {"type": "ProcFdDataRequest", "proc_id": "p", "fd": "stdout", "start": True, "stop": None},
        {"type": "ProcFdDataRequest", "proc_id": "p", "fd": "stdout", "start": 0, "stop": {}},
    ],
    ids=lambda m: str(m)[:100],
)
async def test_an_error_quotes_the_whole_request(raw, msg):
    """It has all fields as sent, and the process continues."""
    _, _, wire = await raw.pair()
    await wire.start(p=sleeper())
    await wire.ws.send(msgpack.packb(msg))
    answer = await wire.next()
    assert set(answer) == {"type", "msg", "err"}, answer
    assert answer["type"] == "RequestError"
    assert answer["msg"] == msg
    assert isinstance(answer["err"], str) and answer["err"]
    await works(wire)
    await wire.send("ProcSignalRequest", proc_id="p", signum=9)
    assert (await wire.ended())["p"]["status"]["signum"] == 9


async def test_an_error_keeps_all_values_of_a_request(raw):
    """Extra keys, binary values, floats, large integers and nested values."""
    _, _, wire = await raw.pair()
    nested = "end"
    for _ in range(60):
        nested = [nested]
    sent = await wire.send(
        "ProcSignalRequest", proc_id="p", signum="x",
        extra={"b": b"\x00\xff", "f": 1.25, "big": 2**64 - 1, "low": -(2**63), "nil": None, "n": nested, "l": [True]},
    )  # fmt: skip
    assert (await wire.expect("RequestError"))["msg"] == sent
    await works(wire)


async def test_deep_nesting_does_not_crash_the_agent(raw):
    """The agent answers the next request."""
    _, _, wire = await raw.pair()
    wire.lenient = True
    for depth in (200, 1000, 100_000):
        # Not decoded here: Python's limit is lower than the depth of the answer.
        head = msgpack.packb({"type": "ProcResultRequest"})[1:]
        await wire.ws.send(b"\x82" + head + msgpack.packb("proc_id") + b"\x91" * depth + b"\xc0")
    await works(wire)


async def test_a_type_must_be_a_string(raw):
    """Any other type is unknown; the agent stays connected."""
    _, _, wire = await raw.pair()
    for value in (None, 7, [], {}, b"ProcidListRequest"):
        await wire.ws.send(msgpack.packb({"type": value}))
    assert all(m["type"] == "RequestError" for m in await wire.barrier())
    await works(wire)


async def test_valid_requests_among_1000_invalid_ones_are_answered(raw):
    _, _, wire = await raw.pair()
    for num in range(1000):
        await wire.send("ProcSignalRequest", proc_id=f"p{num}", signum="x")
        await wire.ws.send(b"\xc1")
    for num in range(1000):
        assert (await wire.expect("RequestError"))["msg"]["proc_id"] == f"p{num}"
    await works(wire)


async def test_a_second_registered_is_ignored(raw):
    _, _, wire = await raw.pair()
    await wire.start(p=sleeper())
    await wire.send("Registered")
    assert all(m["type"] == "RequestError" for m in await wire.barrier())
    await works(wire)


async def test_a_message_may_be_fragmented(raw):
    """The frames have one byte each, with pings between them."""
    _, _, wire = await raw.pair()
    request = msgpack.packb({"type": "ProcStartRequest", "specs": {"p": sh("echo pieces")}})

    async def pieces():
        for i in range(len(request)):
            yield request[i : i + 1]
            if i % 10 == 0:
                await (await wire.ws.ping())

    await asyncio.wait_for(wire.ws.send(pieces()), 20)
    await wire.expect("ProcResult", proc_id="p")
    assert (await wire.ended())["p"]["fds"]["stdout"]["text"] == "pieces\n"


@pytest.mark.parametrize("fragment", [None, 1000, 70_000])
async def test_a_request_of_20_mb_is_answered(raw, fragment):
    """The request comes in one frame or many; the answer is as large."""
    _, _, wire = await raw.pair()
    proc_id = "x" * 20_000_000
    data = msgpack.packb({"type": "ProcResultRequest", "proc_id": proc_id})
    await wire.ws.send(data if fragment is None else [data[i : i + fragment] for i in range(0, len(data), fragment)])
    assert await wire.next() == {"type": "ProcUnknown", "proc_id": proc_id}
    await works(wire)
