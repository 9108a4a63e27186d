"""Whatever a server sends: an error for that message or silence, and the next one works."""

import asyncio

import msgpack
import pytest

from support.specs import TRUE, argv, sh, sleeper


async def works(wire, name="after"):
    """Asserts that the agent does its work, and that nothing else came meanwhile."""
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
async def test_no_message_no_answer(raw, data):
    """No map, or no `type`: silence, and the connection stays."""
    _, _, wire = await raw.pair()
    await wire.ws.send(data)
    assert await wire.barrier() == []
    await works(wire)


async def test_text_frames(raw):
    """Every message is binary; a text is none."""
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
async def test_bad_requests(raw, msg):
    """The whole request comes back, as it was sent, and the process runs on."""
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


async def test_a_request_comes_back_with_all_it_has(raw):
    """Extra keys, binary values, floats, big integers and nested values are kept."""
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


async def test_deep_nesting(raw):
    """Depth costs the agent nothing: no crash, and the next request is answered."""
    _, _, wire = await raw.pair()
    wire.lenient = True
    for depth in (200, 1000, 100_000):
        # Not unpacked here: Python's own limit is lower than what may come back.
        head = msgpack.packb({"type": "ProcResultRequest"})[1:]
        await wire.ws.send(b"\x82" + head + msgpack.packb("proc_id") + b"\x91" * depth + b"\xc0")
    await works(wire)


async def test_a_type_that_is_no_string(raw):
    """It is not known, whatever it is; the agent stays."""
    _, _, wire = await raw.pair()
    for value in (None, 7, [], {}, b"ProcidListRequest"):
        await wire.ws.send(msgpack.packb({"type": value}))
    assert all(m["type"] == "RequestError" for m in await wire.barrier())
    await works(wire)


async def test_many_bad_messages(raw):
    """1,000 in a row, and good ones between them."""
    _, _, wire = await raw.pair()
    for num in range(1000):
        await wire.send("ProcSignalRequest", proc_id=f"p{num}", signum="x")
        await wire.ws.send(b"\xc1")
    for num in range(1000):
        assert (await wire.expect("RequestError"))["msg"]["proc_id"] == f"p{num}"
    await works(wire)


async def test_a_second_registered(raw):
    """It is not asked for, and changes nothing."""
    _, _, wire = await raw.pair()
    await wire.start(p=sleeper())
    await wire.send("Registered")
    assert all(m["type"] == "RequestError" for m in await wire.barrier())
    await works(wire)


async def test_fragments(raw):
    """A message may come in pieces of one byte, with pings between them."""
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
async def test_a_large_request(raw, fragment):
    """20 MB in one frame or in many; the answer is as large."""
    _, _, wire = await raw.pair()
    proc_id = "x" * 20_000_000
    data = msgpack.packb({"type": "ProcResultRequest", "proc_id": proc_id})
    await wire.ws.send(data if fragment is None else [data[i : i + fragment] for i in range(0, len(data), fragment)])
    assert await wire.next() == {"type": "ProcUnknown", "proc_id": proc_id}
    await works(wire)
