"""Turns to compute keys: whose they are, and when they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from agent99.dispatch import new_event_loop
from agent99.systems.cache._leads import LOOK_AT, Lead, Leads


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of `agent99 run`."""
    return {"agent99": new_event_loop}


def _lead(token: int, until_s: float = 10.0) -> Lead:
    return Lead(f"who{token}", token, until_s, ("t",) if token % 2 else ())


async def test_those_that_wait_hear_of_the_end() -> None:
    """Who waits for a turn's end hears of it once, with what it found; who left does not."""
    leads = Leads()
    lead = _lead(1)
    leads.begin("k", lead, 0.0)
    waits, left = lead.park(), lead.park()
    lead.leave(left)
    leads.end("another")
    assert not waits.done()
    leads.end("k", found_nothing=True)
    leads.end("k")
    assert waits.result()
    assert not left.done()
    assert leads.find("k") is None


def test_a_later_turn_ends_the_one_before() -> None:
    """A token is good as long as its turn is the last one of its key."""
    leads = Leads()
    leads.begin("k", _lead(1), 0.0)
    assert leads.holds("k", 1)
    leads.begin("k", _lead(2), 20.0)
    assert not leads.holds("k", 1)
    assert leads.holds("k", 2)


def test_several_end_together() -> None:
    """Turns end by key or by tag, and all of them where the partition has another owner."""
    leads = Leads()
    for token in range(4):
        leads.begin(f"k{token}", _lead(token), 0.0)
    leads.end_where(lambda _, lead: "t" in lead.tags)
    assert [True, False, True, False] == [leads.holds(f"k{token}", token) for token in range(4)]
    leads.end_all()
    assert 0 == len(leads)


def test_turns_of_the_dead_do_not_pile_up() -> None:
    """Of turns that ran out, and for whose keys nobody asks again, only so many are remembered."""
    leads = Leads()
    for token in range(20 * LOOK_AT):
        leads.begin(f"k{token}", _lead(token, until_s=token + 10.0), float(token))
        assert len(leads) <= LOOK_AT
    assert all(leads.holds(f"k{token}", token) for token in range(20 * LOOK_AT - 9, 20 * LOOK_AT))
