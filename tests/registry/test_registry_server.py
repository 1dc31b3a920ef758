"""The registry on a real server."""

from __future__ import annotations

from tests.registry._describe import describe
from tests.registry._mesh import RealMesh


async def test_others_see_what_is_announced(real_mesh: RealMesh) -> None:
    """What one process announces, changes and withdraws, another sees."""
    here, there = await real_mesh.join(), await real_mesh.join()
    mine = await here.announce(describe("i1", "orders", "shop"))
    assert (mine,) == here.table.discover("shop")
    assert (mine,) == await there.wait_for("shop", timeout_s=5)
    paused = await here.announce(describe("i1", "orders", "shop", state="paused"))
    await there.wait_until(lambda table: table.get("i1") == paused, timeout_s=5)
    assert () == there.table.discover("shop")
    await here.withdraw("i1")
    assert here.table.get("i1") is None
    await there.wait_until(lambda table: table.get("i1") is None, timeout_s=5)


async def test_the_dead_are_removed(real_mesh: RealMesh) -> None:
    """Who is gone without a word is gone from every table within a lease and some slack."""
    here, there, watcher = [await real_mesh.join() for _ in range(3)]
    await here.announce(describe("i1"))
    await there.announce(describe("i2"))
    await watcher.wait_until(lambda table: len(table) == 2, timeout_s=5)
    await real_mesh.drop(there)
    for registry in (here, watcher):
        await registry.wait_until(lambda table: table.get("i2") is None, timeout_s=5)
    assert watcher.table.get("i1") is not None
