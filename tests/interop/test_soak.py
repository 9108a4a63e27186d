"""The short form of `tests/soak`."""

from support.soak import Soak, report


async def test_mixed_work(tmp_path):
    """20 seconds of every kind of work: every result is right, and nothing is left over."""
    soak = Soak(tmp_path)
    before, after = await soak.run(8, 12)
    print(report(soak, before, after))
    assert not after.grown(before)
    assert soak.reconnections > 2
    assert all(soak.done[kind] > 0 for kind in soak.done) and len(soak.done) == 10, soak.done
