"""Brings the events of one subscription to its subscriber, until each was taken."""

from __future__ import annotations

from typing import Final

from agent99 import Agent, NoAgentError, OverloadedError
from agent99.agent import Peer
from agent99.clock import Clock
from agent99.errors import Failure, PausedError
from agent99.groups import Event
from agent99.systems.events._patience import NoAnswerError, Patience
from agent99.systems.events._words import HANDLE_EVENT, Subscription

REQUEST_S: Final = 30.0
"""That a subscriber has to take one event; then it counts as failed, and comes again."""
NO_HANDLER: Final = "NO_HANDLER"
"""Of the failure that a subscriber is there and has no `handle_event`."""
WAIT_S_MIN: Final = 0.1
WAIT_S_MAX: Final = 2.0
"""Between two looks whether anybody is there."""


class Delivery:
    """Gives events to one subscriber by its operation `handle_event`.

    An event that nobody is there to take waits, and does not count as failed: a subscriber that is
    down misses nothing. Nor does one whose answer was lost, with the link or with who was asked: it
    is asked for anew, at once.

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

    def __repr__(self) -> str:
        return f"Delivery({self._to!r})"

    async def deliver(self, event: Event) -> None:
        """Return once the subscriber has taken an event.

        Raises:
            RequestError: it has failed at it; what no attempt will do is a `Failure` that is not
                retryable.
        """
        wait_s = WAIT_S_MIN
        while True:
            try:
                await self._give(event)
            except NoAgentError as error:
                if error.reason == "unknown_operation":
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
        """Ask all who are there; one that fails makes all be asked again: they know it by its id.

        Raises:
            RequestError: what the first one that failed says; of the others, the silent ones.
        """
        peers = await self._some()
        asked = await self._patience.wait(
            self._bus.survey(self._to, HANDLE_EVENT, event.as_cloud_event(), timeout_s=REQUEST_S),
            [peer.instance for peer in peers],
        )
        for answer in asked.answers:
            if answer.error is not None:
                raise answer.error
        if asked.silent:
            raise Failure(
                f"{len(asked.silent)} of {asked.asked} instances did not answer",
                code="SILENT",
                details={"instances": list(asked.silent)},
                retryable=True,
            )

    async def _to_one(self, event: Event) -> None:
        """Ask the active instance; when it is gone, the first of the others becomes it."""
        peers = await self._some()
        by_instance = {peer.instance: peer for peer in peers}
        if self._active not in by_instance:
            self._active = min(by_instance)
        try:
            peer = by_instance[self._active]
            await self._patience.wait(self._request(peer, event), [peer.instance])
        except NoAgentError:
            others = sorted(by_instance.keys() - {self._active})
            self._active = others[0] if others else ""
            raise

    async def _request(self, to: Peer | str, event: Event) -> None:
        await self._bus.request(
            to,
            HANDLE_EVENT,
            event.as_cloud_event(),
            timeout_s=REQUEST_S,
            idempotency_key=event.id,
        )

    async def _some(self) -> list[Peer]:
        """Return who is there.

        Raises:
            NoAgentError: nobody is.
        """
        peers = await self._bus.discover(self._to)
        if not peers:
            raise NoAgentError(f"nobody offers {self._to!r}")
        return peers
