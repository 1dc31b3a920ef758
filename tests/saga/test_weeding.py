"""Sagas that ended keep no place: neither in the hands of an instance nor among what is open."""

from __future__ import annotations

import asyncio

import pytest

from agent99 import Mesh
from agent99.envelope import Name
from agent99.saga import Desk, _keeper, _patrol
from agent99.saga._markers import Marker
from tests._wait import PATIENCE_S, eventually
from tests.saga._journals import OWNER, Hand, done, id_of, started, stuck
from tests.saga._trips import Trips, World


def _marker(operation: str = "book", **how: object) -> Marker:
    return Marker(owner=OWNER, operation=operation, version=1, started_us=1, **how)  # type: ignore[arg-type]  # a test's own


async def _until_open(hand: Hand, *ids: str) -> None:
    """Return once markers stand of these sagas alone."""
    async with asyncio.timeout(PATIENCE_S):
        while list(ids) != [each.saga_id for each in await hand.markers.every()]:
            await asyncio.sleep(0)


async def test_ended_sagas_keep_no_orphan_waiting(
    mesh: Mesh, client: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One look takes over what is open, however many older markers stand of what has ended."""
    monkeypatch.setattr(_keeper, "HELD_MAX", 2)
    monkeypatch.setattr(_patrol, "LOOK_S", 3_600.0)
    hand, world = Hand(client), World()
    for number in range(1, 8):
        await hand.open(number, done())
    orphan = await hand.open(8)
    await mesh.host(Trips(world))
    await eventually(lambda: len(world.booked) == 2)
    assert [f"{orphan}:flight", f"{orphan}:room"] == world.keys
    await _until_open(hand)
    assert 8 == len(await Desk(client).every_saga())


@pytest.mark.parametrize(
    "marker",
    [
        _marker("of code that is gone"),
        _marker(flag="stuck"),
        _marker(flag="look"),
        Marker(owner=OWNER, operation="book", version=9, started_us=1),
    ],
)
async def test_no_marker_of_an_ended_saga_stays(
    mesh: Mesh, client: Mesh, marker: Marker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has ended is not open, whatever its marker says, and with no place for others."""
    monkeypatch.setattr(_keeper, "HELD_MAX", 0)
    hand = Hand(client)
    await hand.write(1, started(), done())
    await hand.write(2, started(), stuck())
    for number in (1, 2):
        await hand.markers.put(Name("trips"), id_of(number), marker)
    await mesh.host(Trips(World()))
    await _until_open(hand, id_of(2))
