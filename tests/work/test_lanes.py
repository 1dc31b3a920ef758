"""The order of the events of a key in one instance."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.testing import ManualClock
from agent99.work._lanes import Lanes


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class User:
    """Takes the lane of a key for each event, and keeps it until it is told."""

    def __init__(self, lanes: Lanes) -> None:
        self.order: list[int] = []
        self.gate = asyncio.Event()
        self._lanes = lanes

    async def use(self, key: str, sequence: int) -> None:
        async with self._lanes.take(key, sequence):
            self.order.append(sequence)
            await self.gate.wait()


async def test_the_earliest_has_its_turn_whoever_asked_first(clock: ManualClock) -> None:
    """Of those that wait for a key the earliest is next; other keys go on; nothing is left."""
    lanes = Lanes(clock)
    user, other = User(lanes), User(lanes)
    using = [asyncio.ensure_future(user.use("a", number)) for number in (4, 3, 1, 2)]
    using.append(asyncio.ensure_future(other.use("b", 9)))
    await _turns()
    assert ([4], [9]) == (user.order, other.order)
    using[3].cancel()
    user.gate.set()
    other.gate.set()
    await asyncio.gather(*using, return_exceptions=True)
    assert ([4, 1, 3], 0) == (user.order, len(lanes))


async def test_who_leaves_in_the_moment_of_its_turn_passes_it_on(clock: ManualClock) -> None:
    """A turn that was given to somebody who was cancelled goes to the next."""
    lanes = Lanes(clock)
    user = User(lanes)
    using = [asyncio.ensure_future(user.use("a", number)) for number in (1, 2, 3)]
    await _turns()
    user.gate.set()
    await asyncio.sleep(0)  # the first ends in this turn of the loop, and gives its turn to 2
    using[1].cancel()
    await asyncio.gather(*using, return_exceptions=True)
    assert ([1, 3], 0) == (user.order, len(lanes))


async def test_what_comes_again_is_waited_for_and_not_for_ever(clock: ManualClock) -> None:
    """Those behind it are behind until it has come to its end, or its time is over."""
    lanes = Lanes(clock)
    async with lanes.take("a", 1) as lane:
        lane.expect(1, 2.0)
    async with lanes.take("a", 2) as lane:
        assert lane.is_behind(2)
        lane.expect(2, 5.0)
    async with lanes.take("a", 1) as lane:
        assert not lane.is_behind(1)
        lane.settle(1)
    async with lanes.take("a", 3) as lane:
        assert (True, False) == (lane.is_behind(3), lane.is_behind(2))
    await clock.advance(4.9)
    assert 1 == len(lanes)
    await clock.advance(0.2)
    assert 0 == len(lanes)


async def test_how_long_something_is_away_is_known_and_begins_anew(clock: ManualClock) -> None:
    """The first that goes away counts; after a pause, in which nothing could come, all do again."""
    lanes = Lanes(clock)
    async with lanes.take("a", 1) as lane:
        assert 0.0 == lane.blocked_for_s()
        lane.expect(1, 2.0)
    await clock.advance(1.5)
    async with lanes.take("a", 2) as lane:
        lane.expect(2, 2.0)
        assert 1.5 == lane.blocked_for_s()
    lanes.renew(2.0)
    await clock.advance(1.9)
    async with lanes.take("a", 3) as lane:
        assert (True, 1.9) == (lane.is_behind(3), round(lane.blocked_for_s(), 6))
    await clock.advance(0.2)
    assert 0 == len(lanes)


@given(st.permutations(range(6)), st.lists(st.integers(0, 5), max_size=12))
def test_nothing_overtakes_what_was_given_back(arrivals: list[int], given_back: list[int]) -> None:
    """However often events are given back, none is handled before an earlier one that was here."""
    handled, refused, left = list[int](), list(given_back), list(arrivals)
    was_here: set[int] = set()

    async def handle() -> None:
        lanes = Lanes(ManualClock())
        while left:
            number = left.pop(0)
            async with lanes.take("a", number) as lane:
                if lane.is_behind(number) or number in refused:
                    if not lane.is_behind(number):
                        refused.remove(number)
                    was_here.add(number)
                    lane.expect(number, 2.0)
                    left.append(number)
                    continue
                assert not [one for one in was_here if one < number]
                was_here.discard(number)
                handled.append(number)
                lane.settle(number)
        assert 0 == len(lanes)

    asyncio.run(handle())
    assert sorted(arrivals) == sorted(handled)
