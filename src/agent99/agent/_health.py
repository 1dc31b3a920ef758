"""Who hangs, and who takes its requests meanwhile: outlier ejection, as seen from this process.

A process that was frozen, or whose event loop is blocked, stays in its queue groups: the server
goes on handing it its share of the requests. Its silence is noticed here by a request that waits
too long; then each instance is asked by the services protocol (ADR-32) whether it lives, and those
who say nothing are left out until they answer again. The idea is Envoy's outlier detection.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from agent99.agent._destination import Destination
from agent99.agent._tasks import Tasks
from agent99.clock import Clock, TimerHandle
from agent99.dispatch import DEFAULT_OPERATION
from agent99.errors import Agent99Error, NoRespondersError, PermissionDeniedError
from agent99.registry import Description, Registry
from agent99.wire import Wire

DOUBT_S_MAX = 1.0
"""A request to any of several that is unanswered for so long, or for half of its time, is looked
into."""
LOOK_S = 0.25
"""Between two looks at what waits."""
PING_S = 0.5
"""Who does not answer a ping within this is silent."""
READMIT_S_MIN = 1.0
READMIT_S_MAX = 5.0
"""Between two pings of one that is left out: the first after the minimum, then doubling."""
CHECKED_MAX = 64
"""Instances of one target that are asked at once."""

_log = logging.getLogger("agent99.agent")


class Choose(Protocol):
    """Makes the destination of one instance."""

    def __call__(self, name: str, instance: str, operation: str) -> Destination:
        """Return where a request to that instance goes."""
        ...


class Health:
    """Watches the requests of one mesh, and keeps those that hang out of the choice.

    Invariant: of the instances of a target at most a third is left out, or one of two or three; and
    never all of them.
    """

    def __init__(self, wire: Wire, registry: Registry, clock: Clock, one: Choose) -> None:
        self.ejected: set[str] = set()
        """Who is left out, by instance; mostly nobody."""
        self._wire = wire
        self._registry = registry
        self._clock = clock
        self._one = one
        self._waiting: dict[str, tuple[Destination, float, float]] = {}
        self._timer: TimerHandle | None = None
        self._turn = 0
        self._checking: set[bytes] = set()
        self._tasks = Tasks()

    def __repr__(self) -> str:
        return f"Health(waiting={len(self._waiting)}, ejected={len(self.ejected)})"

    # --- for each request -------------------------------------------------------------------------

    def begin(
        self, event_id: str, destination: Destination, sent_s: float, deadline_s: float
    ) -> None:
        """A request to any of several was sent."""
        self._waiting[event_id] = (destination, sent_s, deadline_s)
        if self._timer is None:
            self._timer = self._clock.call_later(LOOK_S, self._look)

    def end(self, event_id: str) -> None:
        """The request is over."""
        self._waiting.pop(event_id, None)

    def around(self, destination: Destination) -> Destination:
        """Return where to send a request, so that one to any of several meets nobody who hangs.

        With nobody of them left out it is the queue group, as always.
        """
        if destination.instance:
            return destination
        serving = self._serving(destination)
        healthy = [one for one in serving if one.instance not in self.ejected]
        if len(healthy) == len(serving) or not healthy:
            return destination
        self._turn += 1
        chosen = healthy[self._turn % len(healthy)]
        return self._one(chosen.name, chosen.instance, destination.operation)

    def close(self) -> None:
        """Watch no more."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._tasks.cancel()

    # --- inside -----------------------------------------------------------------------------------

    def _look(self) -> None:
        self._timer = None
        now_s = self._clock.monotonic_s()
        doubted = {
            destination.subject: destination
            for destination, sent_s, deadline_s in self._waiting.values()
            if now_s - sent_s >= DOUBT_S_MAX or now_s >= (sent_s + deadline_s) / 2
        }
        for subject, destination in doubted.items():
            if subject not in self._checking:
                self._checking.add(subject)
                self._tasks.start(self._check(destination))
        if self._waiting:
            self._timer = self._clock.call_later(LOOK_S, self._look)

    def _serving(self, destination: Destination) -> list[Description]:
        table, operation = self._registry.table, destination.operation
        by_name = destination.kind == "name"
        known = table.named(destination.target) if by_name else table.discover(destination.target)
        if operation == DEFAULT_OPERATION:  # the payload decides
            return list(known)
        return [one for one in known if one.operation(operation) is not None]

    async def _check(self, destination: Destination) -> None:
        """Ask everybody who serves whether they live, and leave out those who say nothing."""
        try:
            await self._leave_out_the_silent(destination)
        finally:
            self._checking.discard(destination.subject)

    async def _leave_out_the_silent(self, destination: Destination) -> None:
        serving = self._serving(destination)[:CHECKED_MAX]
        if len(serving) < 2:
            return
        asked = [one for one in serving if one.instance not in self.ejected]
        answers = await asyncio.gather(*map(self._is_alive, asked))
        silent = [one for one, is_alive in zip(asked, answers, strict=True) if not is_alive]
        if len(silent) == len(serving):
            return  # that is no outlier: it is our own link, or the server
        places = max(1, len(serving) // 3) - (len(serving) - len(asked))
        for one in silent[: max(places, 0)]:
            self._eject(one)

    async def _is_alive(self, one: Description) -> bool:
        """Tell whether an instance answers a ping, or is gone altogether: then nothing is sent."""
        subject = f"$SRV.PING.{one.name}.{one.instance}".encode()
        try:
            await self._wire.request(subject, b"", deadline_s=self._clock.monotonic_s() + PING_S)
        except (NoRespondersError, PermissionDeniedError):  # who may not ask knows nothing
            return True
        except Agent99Error:
            return False
        return True

    def _eject(self, one: Description) -> None:
        if one.instance in self.ejected:
            return
        _log.warning("%s %s does not answer: it is left out", one.name, one.instance)
        self.ejected.add(one.instance)
        self._tasks.start(self._readmit(one))

    async def _readmit(self, one: Description) -> None:
        """Ask one that is left out now and then, until it answers or is gone."""
        wait_s = READMIT_S_MIN
        try:
            while True:
                self._registry.suspect(one.instance, wait_s + PING_S)
                await self._clock.sleep(wait_s)
                if self._registry.table.get(one.instance) is None:
                    return
                if await self._is_alive(one):
                    break
                wait_s = min(2 * wait_s, READMIT_S_MAX)
            self._registry.forgive(one.instance)
            _log.warning("%s %s answers again: it is asked again", one.name, one.instance)
        finally:
            self.ejected.discard(one.instance)
