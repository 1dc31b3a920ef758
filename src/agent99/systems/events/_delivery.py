"""Brings the events of one subscription to its subscriber, until each was taken."""

from __future__ import annotations

import asyncio
import math
from typing import Final

import msgspec

from agent99 import Agent, NoAgentError, OverloadedError
from agent99.agent import Peer, link_of
from agent99.clock import Clock
from agent99.errors import Agent99Error, Failure, PausedError
from agent99.groups import Event
from agent99.systems.events._patience import NoAnswerError, Patience, StandstillError
from agent99.systems.events._words import HANDLE_EVENT, Subscription

REQUEST_S: Final = 30.0
"""That a subscriber has to take one event; then it counts as failed, and comes again."""
NO_OPERATION: Final = "unknown_operation"
"""Of a `NoAgentError`: somebody is there, and has no such operation."""
LISTED: Final = frozenset({"ready", "degraded", "paused"})
"""In these states an instance is waited for where every one is to have an event."""
NO_HANDLER: Final = "NO_HANDLER"
"""Of the failure that a subscriber is there and has no `handle_event`."""
WAIT_S_MIN: Final = 0.1
WAIT_S_MAX: Final = 2.0
"""Between two looks whether anybody is there."""
SILENCE_S_MAX: Final = 2.0
"""Who answers no ping for so long stands still: the event is given to the next one, if it is for
one alone."""
ROUNDS_MAX: Final = 4_096
"""Events of which it is remembered who has taken them, while others have not; of one that is
forgotten, all are asked again."""


class Round(msgspec.Struct):
    """How far an event is that every instance is to take."""

    rest: set[str]
    """Instances that have not taken it."""
    is_taken: bool = False
    """Whether one has."""


class Delivery:
    """Gives events to one subscriber by its operation `handle_event`.

    An event that nobody is there to take waits, and does not count as failed: a subscriber that is
    down misses nothing. Nor does one whose answer was lost, with the link or with who was asked: it
    is asked for anew, at once.

    Invariant: of an event that every instance is to take, a round is kept from its first attempt
    until none is left that has not taken it, or until it comes anew.

    Args:
        bus: Who asks.
        patience: Ends waits for what cannot come; all deliveries of a bus share it.
    """

    def __init__(
        self, bus: Agent, subscription: Subscription, clock: Clock, patience: Patience
    ) -> None:
        self._bus = bus
        self._to = subscription.subscriber
        self._clock = clock
        self._patience = patience
        self._give = {"group": self._to_any, "every": self._to_every, "one": self._to_one}[
            subscription.mode
        ]
        self._active = ""
        """Of mode `one`: the instance that is given everything."""
        self._passed_over: set[str] = set()
        """Of mode `one`: who stood still at the event in hand; there is one at a time."""
        self._rounds: dict[int, Round] = {}
        """Of mode `every`: by the sequences of the events that not all have taken."""

    def __repr__(self) -> str:
        return f"Delivery({self._to!r})"

    async def deliver(self, event: Event) -> None:
        """Return once the subscriber has taken an event.

        Raises:
            RequestError: it has failed at it; what no attempt will do is a `Failure` that is not
                retryable.
        """
        if event.attempt == 1:
            self._rounds.pop(event.sequence, None)  # it comes anew: the group was reset
        self._passed_over.clear()
        wait_s = WAIT_S_MIN
        while True:
            try:
                await self._give(event)
            except NoAgentError as error:
                if error.reason == NO_OPERATION:
                    raise Failure(str(error), code=NO_HANDLER, retryable=True) from error
            except (OverloadedError, PausedError, NoAnswerError):
                pass
            else:
                return
            await self._clock.sleep(wait_s)
            wait_s = min(wait_s * 2, WAIT_S_MAX)

    async def _to_any(self, event: Event) -> None:
        await self._patience.wait(self._request(self._to, event))

    async def _to_every(self, event: Event) -> None:
        """Ask those who have not taken it: of all who were there at first, those who still are.

        Raises:
            Agent99Error: what the first one that failed says.
            NoAgentError: nobody is there.
            NoAnswerError: some must be asked anew, or pause.
        """
        listed = self._listed()
        turn = self._rounds.get(event.sequence) or self._begin(event, listed)
        turn.rest &= listed
        peers = [peer for peer in await self._bus.discover(self._to) if peer.instance in turn.rest]
        failures = await asyncio.gather(*(self._ask(peer, event, turn) for peer in peers))
        for failure in failures:
            if failure is not None:
                raise failure
        if turn.rest:
            raise NoAnswerError
        self._rounds.pop(event.sequence, None)
        if not turn.is_taken:
            raise NoAgentError(f"nobody offers {self._to!r}")

    def _begin(self, event: Event, listed: set[str]) -> Round:
        if len(self._rounds) >= ROUNDS_MAX:
            del self._rounds[next(iter(self._rounds))]
        turn = self._rounds[event.sequence] = Round(listed.copy())
        return turn

    async def _ask(self, peer: Peer, event: Event, turn: Round) -> Agent99Error | None:
        """Ask one of all; returns why it failed, if it did."""
        try:
            await self._patience.wait(self._request(peer, event), peer.instance)
        except (OverloadedError, PausedError, NoAnswerError):
            return None  # it stays in the rest
        except NoAgentError as error:
            return error if error.reason == NO_OPERATION else None
        except Agent99Error as error:
            return error
        turn.rest.discard(peer.instance)
        turn.is_taken = True
        return None

    async def _to_one(self, event: Event) -> None:
        """Ask the active instance: the one that was there first, until it is gone or stands still.

        So every instance of the bus chooses the same; then the next one in the order in which they
        started becomes it, and stays it as long as this delivery lasts. An attempt passes over
        each of them once: perhaps the event is what blocks their event loops.
        """
        peers = sorted(await self._bus.discover(self._to), key=_age)
        if not peers:
            raise NoAgentError(f"nobody offers {self._to!r}")
        peer = next((peer for peer in peers if peer.instance == self._active), peers[0])
        self._active = peer.instance
        others = {other.instance for other in peers} - {peer.instance}
        can_pass = others - self._passed_over and peer.instance not in self._passed_over
        silence_s_max = SILENCE_S_MAX if can_pass else math.inf
        try:
            await self._patience.wait(
                self._request(peer, event), peer.instance, silence_s_max=silence_s_max
            )
        except (NoAgentError, StandstillError):
            self._passed_over.add(peer.instance)
            self._active = peers[(peers.index(peer) + 1) % len(peers)].instance
            raise

    async def _request(self, to: Peer | str, event: Event) -> None:
        await self._bus.request(
            to,
            HANDLE_EVENT,
            event.as_cloud_event(),
            timeout_s=REQUEST_S,
            idempotency_key=event.id,
        )

    def _listed(self) -> set[str]:
        """Return the instances that take events, now or when they go on."""
        known = link_of(self._bus).registry.table.explain(self._to, kind="capability")
        return {one.instance for one in known.candidates if one.state in LISTED}


def _age(peer: Peer) -> tuple[int, str]:
    return peer.description.started_us, peer.instance
