"""The short form of `tests/soak`."""

from support.soak import Soak, report


async def test_15_s_of_mixed_work_leave_nothing_behind(tmp_path):
    """Every result is right."""
    soak = Soak(tmp_path)
    before, after = await soak.run(6, 9)
    print(report(soak, before, after))
    assert not after.grown(before)
    assert soak.reconnections > 1
    assert all(soak.done[kind] > 0 for kind in soak.done) and len(soak.done) == 10, soak.done
