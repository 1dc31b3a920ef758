"""Stored events are read from a place on, without a group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from agent99 import Mesh, UsageError
from agent99.groups import Event, Start, follow_events, read_events
from tests.groups.test_event_group import Numbered
from tests.groups.test_group import fill

STARTS: dict[Start, list[int]] = {
    "first": [0, 0, 1, 1],
    "new": [],
    "last": [1],
    "last-per-key": [1, 1],
    4: [1, 1],
}


@pytest.mark.parametrize("start", STARTS, ids=str)
async def test_what_is_there_is_read(mesh: Mesh, start: Start) -> None:
    """Reading begins where it is told to, gives what matches in order, and ends."""
    await fill(mesh, 2, range(1))
    await mesh.append("invoice.sent", {"number": 9}, key="k0")
    await fill(mesh, 2, range(1, 2))
    events = [event async for event in read_events(mesh, "order.*", start=start)]
    assert STARTS[start] == [event.decode(Numbered).number for event in events]
    assert sorted(event.sequence for event in events) == [event.sequence for event in events]


async def test_several_topics_are_read_in_the_order_of_the_log(mesh: Mesh) -> None:
    """Whichever of them an event is of; the newest of all is one event."""
    topics = ("order.placed", "invoice.sent", "order.paid", "stock.low")
    for number in range(12):
        await mesh.append(topics[number * 7 % 4], {"number": number}, key="k0")
    wanted = [number for number in range(12) if topics[number * 7 % 4] != "stock.low"]
    some = ["order.*", "invoice.sent"]
    events = [event async for event in read_events(mesh, some)]
    assert wanted == [event.decode(Numbered).number for event in events]
    (last,) = [event async for event in read_events(mesh, some, start="last")]
    assert wanted[-1] == last.decode(Numbered).number
    with pytest.raises(UsageError, match="overlap"):
        await anext(read_events(mesh, ["order.*", "order.paid"]))


@pytest.mark.parametrize("start", [start for start in STARTS if start != "new"], ids=str)
async def test_what_comes_is_followed(mesh: Mesh, start: Start) -> None:
    """Following gives what is read, and then what comes."""
    await fill(mesh, 2, range(1))
    await mesh.append("invoice.sent", {"number": 9}, key="k0")
    await fill(mesh, 2, range(1, 2))
    async with aclosing(follow_events(mesh, ["order.*"], start=start)) as events:
        numbers = [await _number(events) for _ in STARTS[start]]
        await fill(mesh, 1, range(2, 4))
        numbers += [await _number(events) for _ in range(2)]
    assert [*STARTS[start], 2, 3] == numbers


async def _number(events: AsyncIterator[Event]) -> int:
    return (await anext(events)).decode(Numbered).number


async def test_what_cannot_be_read(mesh: Mesh) -> None:
    """A place in the future, or no topics, in words; what is no event is left out."""
    await fill(mesh, 1, range(2))
    stranger = mesh.link.subjects.log_listen_partition(1).replace("*.*.>", "x.k9.order.odd")
    await mesh.link.journal.append(stranger, b"no envelope")
    assert 2 == len([event async for event in read_events(mesh)])
    with pytest.raises(UsageError, match="in the future"):
        await anext(read_events(mesh, start=9))
    with pytest.raises(UsageError, match="no topics"):
        await anext(follow_events(mesh, ()))
