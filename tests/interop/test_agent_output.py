"""Output that is read while it is written: every byte is right."""

import hashlib
import random

import pytest

from support.shapes import captured
from support.specs import argv, capture, sh

SIZE = 100_000_000

# Writes a file in pieces of 200 kB, at the speed of the reader, after it has begun.
WRITER = """
exec 4<"$1"
n=0
while [ $n -lt 500 ]; do
    head -c 200000 <&4 || exit 9
    n=$((n+1))
    [ $((n % 10)) -eq 0 ] && sleep 0.02
done
"""


@pytest.mark.parametrize("mode, attached", [("memory", True), ("tempfile", True), ("tempfile", False)])
async def test_1000_reads_of_a_growing_output_are_exact(raw, random_file, mode, attached):
    """100 MB, read by ranges while written; the final hash is right."""
    data = random_file.read_bytes()
    _, _, wire = await raw.pair()
    await wire.start(p=argv("/bin/sh", "-c", WRITER, "sh", random_file,
                            fds=[["stdout", capture(mode, None, attached)]]))  # fmt: skip
    rng = random.Random(7)
    known = during = 0
    final = None
    for num in range(1000):
        start = rng.randrange(known + 1)
        stop = start + rng.choice((0, 1, 100, 65_536, 1_000_000))
        await wire.send("ProcFdDataRequest", proc_id="p", fd="stdout", start=start, stop=stop)
        msg = await wire.next()
        if msg["type"] == "ProcResult":
            assert final is None
            final, msg = msg["res"], await wire.next()
        assert (msg["type"], msg["start"]) == ("ProcFdData", start)
        assert msg["data"] == data[start : msg["stop"]]
        assert msg["stop"] >= min(stop, known)
        if num % 10 == 0:
            # Requests the end, so that `known` grows with the output.
            await wire.send("ProcFdDataRequest", proc_id="p", fd="stdout", start=known, stop=known + 3_000_000)
            msg = await wire.next()
            if msg["type"] == "ProcResult":
                final, msg = msg["res"], await wire.next()
            assert msg["data"] == data[known : msg["stop"]]
            known = msg["stop"]
        during += final is None
    if final is None:
        (final,) = (await wire.ended()).values()
    # Otherwise the test would have seen only a complete output.
    assert during > 50
    assert final["status"]["exit_code"] == 0
    if attached:
        assert hashlib.sha256(captured(final)).digest() == hashlib.sha256(data).digest()
    else:
        assert final["fds"]["stdout"] == {"type": "detached", "length": SIZE, "encoding": "base64"}
    digest = hashlib.sha256()
    at = 0
    while part := (await wire.read("p", start=at, stop=at + 9_999_999))["data"]:
        digest.update(part)
        at += len(part)
    assert at == SIZE
    assert digest.digest() == hashlib.sha256(data).digest()


async def test_one_range_of_200_mb_is_answered(raw):
    _, _, wire = await raw.pair()
    await wire.start(p=sh("yes 0123456789abcde | head -c 200000000", ("stdout", capture("tempfile", None, False))))
    await wire.ended()
    msg = await wire.read("p")
    assert len(msg["data"]) == 200_000_000
    assert hashlib.sha256(msg["data"]).digest() == hashlib.sha256(b"0123456789abcde\n" * 12_500_000).digest()
    await wire.delete("p")


async def test_reading_does_not_move_the_offset_of_a_child(raw, tmp_path):
    go = tmp_path / "go"
    script = f"printf abc; while [ ! -e {go} ]; do sleep 0.02; done; printf def"
    _, _, wire = await raw.pair()
    await wire.start(p=sh(script, ("stdout", capture("tempfile"))))
    while (await wire.read("p"))["data"] != b"abc":
        pass
    for start in (0, 1, 2, 3):
        await wire.read("p", start=start)
    go.touch()
    assert captured((await wire.ended())["p"]) == b"abcdef"
