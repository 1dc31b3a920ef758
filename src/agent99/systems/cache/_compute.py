"""One load of a key at a time in the whole cluster: its owner gives turns, and lets others wait.

The value comes back as a change that names the turn (`Change.lead`). Whatever changes the key
meanwhile ends the turn, a delete of what is not there too: what was computed before it is not
stored after it. It is how memcached's leases keep stale values out (Nishtala et al., Scaling
Memcache at Facebook, NSDI 2013, 3.2.1), with the waiting at the owner instead of at the callers.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import msgspec

from agent99.clock import Clock, Deadlines, wait_ended
from agent99.errors import Failure
from agent99.systems.cache._door import BAD_KEY, is_key
from agent99.systems.cache._holding import Holding
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._leads import Lead
from agent99.systems.cache._owner import Owner
from agent99.systems.cache._values import NOTHING

PARK_S_MAX = 1.0
"""So long one request waits at the owner; then it is made again, of whoever is that by then."""
LOAD_S_MAX = 3_600.0
PARKED_MAX = 1_024
"""Requests that wait at one node, a quarter of those that it serves at once: reads have the rest.
A process has one for each key."""


class Turn(IntEnum):
    """What is there to do for who wants a value."""

    MOVED = 0
    """Ask somebody else: the node does not own the key (now)."""
    THERE = 1
    """Read it."""
    NOTHING = 2
    """There is none to be had: somebody looked, just now or not long ago."""
    LOAD = 3
    """Compute it; nobody else does."""
    WAIT = 4
    """Another one is at it still: ask again."""
    FULL = 5
    """Too many wait here: ask again in a while."""


class AskTurn(msgspec.Struct, frozen=True):
    """Asks a key's owner for the turn to compute it, unless there is a value by now."""

    epoch: int
    """Of the table by which it was sent."""
    key: str
    """The full key."""
    who: str
    """Names who asks; who asks again has the turn that it has."""
    load_s: float
    """How long the turn lasts, in seconds: then another one may have it."""
    seen: int = 0
    """The version that is to be replaced; any other is an answer."""
    tags: tuple[str, ...] = ()
    """Of the value to come: who deletes by one of them ends the turn."""


class Turned(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is there to do."""

    turn: int
    token: int = 0
    """Of a turn: it goes with the value."""
    table: bytes = b""
    """A newer table than the one by which it was asked; empty: there is none."""


class EndTurn(msgspec.Struct, frozen=True):
    """Gives a turn back without a value."""

    key: str
    token: int
    found_nothing: bool = False
    """There is no value, and that is not to be remembered; else: it failed, let another one try."""


class TurnDesk:
    """Gives the turns of the keys that a node owns.

    Args:
        now_us: The node's time.
    """

    def __init__(
        self, owner: Owner, clock: Clock, deadlines: Deadlines, now_us: Callable[[], int]
    ) -> None:
        self.parked = 0
        """Requests that wait here."""
        self._owner = owner
        self._clock = clock
        self._deadlines = deadlines
        self._now_us = now_us

    def __repr__(self) -> str:
        return f"TurnDesk(parked={self.parked})"

    async def ask(self, ask: AskTurn) -> Turned:
        """Answer as soon as there is something to do, or in `PARK_S_MAX`.

        Raises:
            Failure: BAD_KEY.
        """
        if not is_key(ask.key):
            raise Failure("it has no namespace, or is no key", code=BAD_KEY)
        until_s = self._clock.monotonic_s() + PARK_S_MAX
        partition = partition_of(ask.key)
        while True:
            holding = self._owner.serving(partition)
            if holding is None or not holding.takes_changes:
                return Turned(Turn.MOVED)
            staged = holding.staged.get(ask.key)
            if staged is not None:  # what comes of it is for everybody to see in a moment
                if not await wait_ended(self._deadlines, staged.settled, until_s):
                    return Turned(Turn.WAIT)
                continue
            answer = self._look(holding, ask)
            if answer is not None:
                return answer
            if self._clock.monotonic_s() >= until_s:
                return Turned(Turn.WAIT)
            if self.parked >= PARKED_MAX:
                return Turned(Turn.FULL)
            lead = holding.leads.find(ask.key)
            if lead is not None and await self._park(lead, until_s):
                return Turned(Turn.NOTHING)

    def end(self, end: EndTurn) -> bool:
        """Take a turn back; returns whether it was one still."""
        holding = self._owner.serving(partition_of(end.key))
        if holding is None or not holding.leads.holds(end.key, end.token):
            return False
        holding.leads.end(end.key, found_nothing=end.found_nothing)
        return True

    def _look(self, holding: Holding, ask: AskTurn) -> Turned | None:
        """Return what is there to do at once; None: it is to wait for whose turn it is."""
        entry = self._owner.store.get(holding.partition, ask.key, self._now_us())
        if entry is not None and entry.version != ask.seen:
            return Turned(Turn.NOTHING if entry.kind == NOTHING else Turn.THERE)
        now_s = self._clock.monotonic_s()
        lead = holding.leads.find(ask.key)
        if lead is not None and lead.who == ask.who:  # it has not heard the answer
            return Turned(Turn.LOAD, lead.token)
        if lead is not None and lead.until_s > now_s:
            return None
        ends_s = now_s + min(max(ask.load_s, 0.0), LOAD_S_MAX)
        # A version that no item will have: as unique as a token is to be, also after a hand-over.
        begun = Lead(ask.who, holding.next_version(), ends_s, ask.tags)
        holding.leads.begin(ask.key, begun, now_s)
        if lead is not None:
            lead.wake(found_nothing=False)
        return Turned(Turn.LOAD, begun.token)

    async def _park(self, lead: Lead, until_s: float) -> bool:
        """Wait for the end of a turn; returns whether it found nothing."""
        ended = lead.park()
        self.parked += 1
        try:
            await wait_ended(self._deadlines, ended, min(until_s, lead.until_s))
        finally:
            self.parked -= 1
            lead.leave(ended)
        return ended.done() and ended.result()
