"""Notices that the owner of open sagas is gone, and has them gone on with here.

Each instance of an agent watches the one before it in the order of their ids: it is pinged by the
services protocol (ADR-32) twice a second. Where the server says that nobody listens, twice in a
row, it is gone; one that is silent for a lease is treated alike: should it live, the fence stops
it. That is quick, and costs the mesh one ping per instance. A slower look at all markers finds what
is left over: sagas of processes that all died, or that died while another was taken over.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from agent99.errors import Agent99Error
from agent99.registry import is_gone
from agent99.wire import ConnectionState

if TYPE_CHECKING:
    from agent99.agent import Host
    from agent99.clock import Clock
    from agent99.ids import Ids
    from agent99.registry import Description
    from agent99.saga._markers import Markers, OpenSaga

PING_S = 0.5
"""Between two pings; and how long an answer may take."""
LEASE_S = 1.5
"""Silence that costs an owner its sagas."""
LOOK_S = 5.0
"""Between two looks at everything that is open,"""
LOOK_COUNT = 1_000
"""as long as there is not more of it,"""
LOOK_SHARE = 0.05
"""and a look takes no more of the time than this: else the looks are further apart."""
HURRY_S = 3.0
"""So long after an instance has left, everything is looked at in each round."""
WEEDED_AT_ONCE = 32
"""Markers whose sagas are asked at a time whether they have ended."""

_log = logging.getLogger("agent99.saga")


class Watched(Protocol):
    """The keeper of an instance's sagas, as far as its patrol needs it."""

    host: Host
    clock: Clock
    ids: Ids
    markers: Markers

    @property
    def held(self) -> Mapping[str, object]:
        """The sagas that are in hand, by id."""
        ...

    def take_over(self, found: OpenSaga) -> None:
        """Go on with a saga whose owner is gone."""
        ...

    async def weed(self, found: OpenSaga) -> bool:
        """Remove the marker of a saga that has ended; returns whether it has."""
        ...

    def look(self, saga_id: str) -> None:
        """Have a saga that is in hand look at what others wrote."""
        ...


class Patrol:
    """Watches the owners of the sagas of one agent, from one instance of it."""

    def __init__(self, keeper: Watched) -> None:
        self._keeper = keeper
        self._clock = keeper.clock
        self._task: asyncio.Task[None] | None = None
        self._look_s = 0.0
        """When to look at everything again; at first at once: what died may have left something."""
        self._hurry_s = 0.0
        """Until when to look at everything in each round."""
        self._known: set[str] = set()
        """Instances that were listed a moment ago."""
        self._dead: set[str] = set()
        """Instances that were found dead, and may still be listed."""

    def __repr__(self) -> str:
        return f"Patrol(dead={len(self._dead)})"

    def start(self) -> None:
        """Watch from now on. Idempotent."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._watch())

    async def stop(self) -> None:
        """Watch no more. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        while True:
            try:
                if self._keeper.host.link.wire.state is ConnectionState.CONNECTED:
                    await self._go_round()
            except Agent99Error as error:
                _log.info("the patrol of %s waits: %s", self._keeper.host.name, error)
            except Exception:  # noqa: BLE001 - it is logged, and the patrol must not end
                # Without it, what dead instances left would lie there until this one ends.
                _log.exception("the patrol of %s goes on after", self._keeper.host.name)
            await self._clock.sleep(PING_S)

    async def _go_round(self) -> None:
        listed = {one.instance for one in self._listed()}
        if self._known - listed:  # somebody has left, and hands its sagas over
            self._hurry_s = self._clock.monotonic_s() + HURRY_S
        self._known = listed
        if self._clock.monotonic_s() >= self._look_s or self._clock.monotonic_s() < self._hurry_s:
            began_s = self._clock.monotonic_s()
            count = await self._look()
            took_s = self._clock.monotonic_s() - began_s
            pause_s = max(LOOK_S * max(1.0, count / LOOK_COUNT), took_s / LOOK_SHARE)
            jitter = 0.75 + self._keeper.ids.fraction() / 2
            self._look_s = self._clock.monotonic_s() + pause_s * jitter
        await self._watch_neighbour()

    async def _watch_neighbour(self) -> None:
        """Look whether the instance before this one lives."""
        neighbour = self._neighbour()
        if neighbour is not None and await self._is_dead(neighbour):
            self._dead.add(neighbour)
            await self._look_at(await self._keeper.markers.every(self._keeper.host.name))

    def _neighbour(self) -> str | None:
        own = self._instance
        listed = {one.instance for one in self._listed()}
        self._dead &= listed
        ring = sorted((listed - self._dead) | {own})
        before = ring[ring.index(own) - 1]
        return None if before == own else before

    @property
    def _instance(self) -> str:
        return self._keeper.host.instance

    def _listed(self) -> Iterable[Description]:
        return self._keeper.host.link.registry.table.named(self._keeper.host.name)

    async def _look(self) -> int:
        """Look at everything that is open; returns how much that is."""
        found = await self._keeper.markers.every(self._keeper.host.name)
        self._dead.clear()
        own = self._instance
        alive = {one.instance for one in self._listed()} | {own}
        owners = sorted({each.marker.owner for each in found} - alive)
        are_dead = await asyncio.gather(*(self._is_dead(owner) for owner in owners))
        self._dead.update(owner for owner, is_dead in zip(owners, are_dead, strict=True) if is_dead)
        await self._look_at(found)
        return len(found)

    async def _look_at(self, found: list[OpenSaga]) -> None:
        keeper = self._keeper
        left: list[OpenSaga] = []
        for each in sorted(found, key=lambda each: each.marker.started_us):
            is_held, flag = each.saga_id in keeper.held, each.marker.flag
            if is_held and flag == "look":
                # In this order: what somebody writes in between is seen, or flagged anew.
                await keeper.markers.flag(each.agent, each.saga_id, "")
                keeper.look(each.saga_id)
            elif not is_held and self._is_left(each):
                left.append(each)
        for start in range(0, len(left), WEEDED_AT_ONCE):
            await self._take_over(left[start : start + WEEDED_AT_ONCE])

    def _is_left(self, found: OpenSaga) -> bool:
        """Tell whether nobody has a saga in hand that is not in hand here."""
        owner = found.marker.owner
        return found.marker.flag == "left" or owner in self._dead or owner == self._instance

    async def _take_over(self, left: list[OpenSaga]) -> None:
        # Whatever the marker says, and whether there is a place or not: what has ended would else
        # take the places of what is open, and stay where no code knows it any more.
        have_ended = await asyncio.gather(*(self._keeper.weed(each) for each in left))
        for each, has_ended in zip(left, have_ended, strict=True):
            if not has_ended and each.marker.flag != "stuck":
                self._keeper.take_over(each)

    async def _is_dead(self, instance: str) -> bool:
        """Tell whether an instance is gone, or silent for a lease."""
        host = self._keeper.host
        subject = f"$SRV.PING.{host.name}.{instance}".encode()
        return await is_gone(host.link.wire, subject, self._clock, ping_s=PING_S, lease_s=LEASE_S)
