"""Who hangs, and who takes its requests meanwhile: outlier ejection, as seen from this process.

A process that was frozen, or whose event loop is blocked, stays in its queue groups: the server
goes on handing it its share of the requests. Its silence is noticed here by a request that waits
too long; then each instance is asked by the services protocol (ADR-32) whether it lives, and those
who say nothing are left out until they answer again. The idea is Envoy's outlier detection.

One that hangs for longer than its lease is no longer in the registry, and still in its queue
groups: it stays left out until it answers, or the server says that it is gone.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from typing import Protocol

from agent99.agent._ask import Ask
from agent99.agent._destination import Destination
from agent99.agent._tasks import Tasks
from agent99.clock import Clock, TimerHandle, wait_done
from agent99.dispatch import DEFAULT_OPERATION
from agent99.errors import Agent99Error, NoRespondersError, PermissionDeniedError
from agent99.observe import Hooks, InstanceEjected
from agent99.registry import Description, Registry
from agent99.wire import Wire

DOUBT_S_MAX = 1.0
"""A request to any of several that is unanswered for so long, or for half of its time, is looked
into."""
LOOK_S = 0.1
"""Between two looks at what waits."""
PING_S = 0.5
"""Who does not answer a ping within this is silent."""
PONG_S = 0.1
"""Who lives has answered it by now: they are asked once more what may be asked twice."""
READMIT_S_MIN = 1.0
READMIT_S_MAX = 5.0
"""Between two pings of one that is left out: the first after the minimum, then doubling."""
CHECKED_MAX = 64
"""Instances of one target that are asked at once."""

_log = logging.getLogger("agent99.agent")


class _Life(enum.Enum):
    ALIVE = "alive"
    GONE = "gone"
    SILENT = "silent"


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

    def __init__(
        self, wire: Wire, registry: Registry, clock: Clock, one: Choose, hooks: Hooks
    ) -> None:
        self.ejected: dict[str, Description] = {}
        """Who is left out, by instance; mostly nobody."""
        self._wire = wire
        self._registry = registry
        self._clock = clock
        self._one = one
        self._hooks = hooks
        self._waiting: dict[str, Ask] = {}
        self._timer: TimerHandle | None = None
        self._turn = 0
        self._checking: set[bytes] = set()
        self._tasks = Tasks()

    def __repr__(self) -> str:
        return f"Health(waiting={len(self._waiting)}, ejected={len(self.ejected)})"

    # --- for each request -------------------------------------------------------------------------

    def begin(self, ask: Ask) -> None:
        """A request to any of several was sent."""
        self._waiting[ask.event_id] = ask
        if self._timer is None:
            self._timer = self._clock.call_later(LOOK_S, self._look)

    def end(self, event_id: str) -> None:
        """The request is over."""
        self._waiting.pop(event_id, None)

    def around(self, destination: Destination, *, without: str = "") -> Destination:
        """Return where to send a request, so that one to any of several meets nobody who hangs.

        With nobody of them left out it is the queue group, as always.

        Args:
            without: An instance that is to be passed by as well.
        """
        if destination.instance:
            return destination
        left_out = {one.instance for one in self._left_out(destination)}
        if without:
            left_out.add(without)
        if not left_out:
            return destination
        healthy = [one for one in self.serving(destination) if one.instance not in left_out]
        return self._in_turn(healthy, destination) if healthy else destination

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
        for ask in self._waiting.values():
            subject = ask.meant.subject
            if subject not in self._checking and _is_doubtful(ask, now_s):
                self._checking.add(subject)
                self._tasks.start(self._check(ask.meant))
        if self._waiting:
            self._timer = self._clock.call_later(LOOK_S, self._look)

    def serving(self, destination: Destination) -> list[Description]:
        """Return who serves what is asked, in whatever health, as far as the table knows."""
        table, operation = self._registry.table, destination.operation
        if destination.instance:
            one = table.get(destination.instance)
            return [one] if one is not None and _offers(one, operation) else []
        by_name = destination.kind == "name"
        known = table.named(destination.target) if by_name else table.discover(destination.target)
        return [one for one in known if _offers(one, operation)]

    def _left_out(self, destination: Destination) -> list[Description]:
        """Return who of those who serve is left out, whether or not the table still knows it."""
        return [one for one in self.ejected.values() if _serves(one, destination)]

    async def _check(self, destination: Destination) -> None:
        """Ask everybody who serves whether they live, and leave out those who say nothing."""
        try:
            await self._leave_out_the_silent(destination)
        finally:
            self._checking.discard(destination.subject)

    async def _leave_out_the_silent(self, destination: Destination) -> None:
        serving = self.serving(destination)[:CHECKED_MAX]
        asked = [one for one in serving if one.instance not in self.ejected]
        looks = [self._tasks.start(self._look_at(one)) for one in asked]
        every = asyncio.gather(*looks)
        while not every.done():
            await wait_done(self._clock, every, PONG_S)
            pairs = zip(asked, looks, strict=True)
            alive = [one for one, look in pairs if look.done() and look.result() is _Life.ALIVE]
            if len(alive) < len(serving):
                self._repeat(destination, alive)
        lives = zip(asked, await every, strict=True)
        silent = [one for one, life in lives if life is _Life.SILENT]
        if len(serving) < 2 or len(silent) == len(serving):
            return  # nobody else is there, or all are silent: that is our own link, or the server
        places = max(1, len(serving) // 3) - len(self._left_out(destination))
        for one in silent[: max(places, 0)]:
            self._eject(one)

    def _repeat(self, meant: Destination, alive: list[Description]) -> None:
        """Have those who answer asked what may be in the hands of one who does not, once each."""
        now_s, living = self._clock.monotonic_s(), {one.instance for one in alive}
        for ask in tuple(self._waiting.values()) if alive else ():
            is_in_doubt = ask.meant.subject == meant.subject and _is_doubtful(ask, now_s)
            if is_in_doubt and not ask.is_repeated and ask.destination.instance not in living:
                ask.is_repeated = True
                ask.caller.repeat(ask, self._in_turn(alive, meant))

    def _in_turn(self, alive: list[Description], destination: Destination) -> Destination:
        self._turn += 1
        chosen = alive[self._turn % len(alive)]
        return self._one(chosen.name, chosen.instance, destination.operation)

    async def _look_at(self, one: Description) -> _Life:
        """Tell whether an instance answers a ping, or is gone altogether."""
        subject = f"$SRV.PING.{one.name}.{one.instance}".encode()
        try:
            await self._wire.request(subject, b"", deadline_s=self._clock.monotonic_s() + PING_S)
        except NoRespondersError:
            return _Life.GONE
        except PermissionDeniedError:  # who may not ask knows nothing
            return _Life.ALIVE
        except Agent99Error:
            return _Life.SILENT
        return _Life.ALIVE

    def _eject(self, one: Description) -> None:
        if one.instance in self.ejected:
            return
        _log.warning("%s %s does not answer: it is left out", one.name, one.instance)
        self.ejected[one.instance] = one
        if (tell := self._hooks.ejected) is not None:
            tell(InstanceEjected(one.name, one.instance, "it does not answer"))
        self._tasks.start(self._readmit(one))

    async def _readmit(self, one: Description) -> None:
        """Ask one that is left out now and then, until it answers or is gone."""
        wait_s = READMIT_S_MIN
        try:
            while True:
                self._registry.suspect(one.instance, wait_s + PING_S)
                await self._clock.sleep(wait_s)
                if (life := await self._look_at(one)) is not _Life.SILENT:
                    break
                wait_s = min(2 * wait_s, READMIT_S_MAX)
            self._registry.forgive(one.instance)
            reason = "it answers again" if life is _Life.ALIVE else "it is gone"
            _log.warning("%s %s is left out no longer: %s", one.name, one.instance, reason)
            if (tell := self._hooks.ejected) is not None:
                tell(InstanceEjected(one.name, one.instance, reason, is_back=True))
        finally:
            self.ejected.pop(one.instance, None)


def _offers(one: Description, operation: str) -> bool:
    is_default = operation == DEFAULT_OPERATION  # the payload decides
    return is_default or one.operation(operation) is not None


def _serves(one: Description, destination: Destination) -> bool:
    target = destination.target.lower()
    offered = (one.name,) if destination.kind == "name" else one.capabilities
    if target not in (name.lower() for name in offered):
        return False
    return _offers(one, destination.operation)


def _is_doubtful(ask: Ask, now_s: float) -> bool:
    half_s = (ask.sent_s + ask.deadline_s) / 2
    return now_s - ask.sent_s >= DOUBT_S_MAX or now_s >= half_s
