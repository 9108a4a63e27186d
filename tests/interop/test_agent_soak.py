"""The short form of `tests/soak`."""

from support.soak import Soak, report


async def test_mixed_work(tmp_path):
    """15 seconds of every kind of work: every result is right, and nothing is left over."""
    soak = Soak(tmp_path)
    before, after = await soak.run(6, 9)
    print(report(soak, before, after))
    assert not after.grown(before)
    assert soak.reconnections > 1
    assert all(soak.done[kind] > 0 for kind in soak.done) and len(soak.done) == 10, soak.done
