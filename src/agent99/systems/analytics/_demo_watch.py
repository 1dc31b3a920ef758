"""Looks on while the demo runs: what the processors say, and rows as they come."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import Final

from agent99 import Mesh
from agent99.clock import Clock
from agent99.errors import Agent99Error, DeadlineExceededError
from agent99.systems.analytics._client import Analytics
from agent99.systems.analytics._delta import Key, WindowRow
from agent99.systems.analytics._demo_crew import Crew
from agent99.systems.analytics._demo_feed import Feed
from agent99.systems.analytics._demo_job import RETAIL
from agent99.systems.analytics._demo_look import Look
from agent99.systems.analytics._demo_view import QuietScreen
from agent99.systems.analytics._questions import JobStats
from agent99.systems.analytics._watermark import FOREVER_US

LOOK_S: Final = 0.3
"""Between two looks: not more than a glance, where there are many windows."""


class Watch:
    """Knows how everything stands, as somebody on the mesh who is told of it."""

    def __init__(self, mesh: Mesh, crew: Crew, feed: Feed, clock: Clock) -> None:
        self._mesh = mesh
        self._crew = crew
        self._feed = feed
        self._clock = clock
        self._analytics = Analytics(mesh, RETAIL.name)
        self._stats: JobStats | None = None
        self._closed: dict[tuple[int, Key], WindowRow] = {}
        """Revenue by day and country."""
        self._open: list[WindowRow] = []
        self._top: list[WindowRow] = []
        self._before = (clock.monotonic_s(), 0)
        self._rate = 0.0

    def __repr__(self) -> str:
        return f"Watch({self._analytics!r})"

    async def run(self, screen: QuietScreen) -> None:
        """Look again and again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            group.create_task(self._look_on(screen))

    async def wait_closed(self, patience_s: float) -> None:
        """Wait until every window is closed: all records are in, and no more come.

        Raises:
            DeadlineExceededError: some are not, and nothing has changed for so long.
        """
        seen, until_s = self._stats, 0.0
        while not self._is_closed():
            if self._stats != seen or not until_s:
                seen, until_s = self._stats, self._clock.monotonic_s() + patience_s
            if self._clock.monotonic_s() >= until_s:
                raise DeadlineExceededError(f"windows are open, and nothing closes: {seen}")
            await self._clock.sleep(LOOK_S)

    def _is_closed(self) -> bool:
        stats = self._stats
        return stats is not None and all(one.watermark_us == FOREVER_US for one in stats.pipelines)

    async def _follow(self) -> None:
        while True:  # whoever was asked at first may have been killed over it
            with suppress(Agent99Error):
                await self._follow_on()
            await self._clock.sleep(LOOK_S)

    async def _follow_on(self) -> None:
        async with aclosing(self._analytics.follow("country-daily")) as changes:
            async for change in changes:
                self._closed |= {(row.start_us, row.key): row for row in change.rows}

    async def _look_on(self, screen: QuietScreen) -> None:
        while True:
            with suppress(Agent99Error):  # whoever was asked may have been killed just now
                self._stats = await self._analytics.stats()
                self._open = await self._analytics.query("country-daily", state="open")
                self._top = await self._analytics.query("top-products", state="open") or self._top
            self._measure()
            if self._stats is not None:
                screen.draw(self._look(self._stats))
            await self._clock.sleep(LOOK_S)

    def _measure(self) -> None:
        now_s, stored = self._clock.monotonic_s(), self._feed.stored
        before_s, before = self._before
        rate = (stored - before) / max(now_s - before_s, 1e-3)
        self._rate += (rate - self._rate) / 4  # smoothed over about a second
        self._before = (now_s, stored)

    def _look(self, stats: JobStats) -> Look:
        countries: dict[str, int] = {}
        for row in (*self._closed.values(), *self._open):
            country = str(row.key[0])
            countries[country] = countries.get(country, 0) + row.values["revenue_pence"]
        latest = max(self._top, key=lambda row: row.start_us, default=None)
        pids = {peer.instance: peer.description.pid for peer in self._mesh.peers()}
        return Look(
            latest_us=self._feed.latest_us,
            records=self._feed.records,
            stored=self._feed.stored,
            rate=self._rate,
            pipelines=stats.pipelines,
            countries=countries,
            latest=latest,
            pids=pids,
            members=[(one.role, one.pid, one.state) for one in self._crew.members],
        )
