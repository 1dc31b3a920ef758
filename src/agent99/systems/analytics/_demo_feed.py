"""The tills of the demo: each sends its lines and orders, hour by hour of the file's time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from agent99 import Mesh
from agent99.clock import Clock
from agent99.systems.analytics._demo_job import LINES, ORDERS, TILLS
from agent99.systems.analytics._demo_schedule import HOUR_US, Parcel, Schedule, time_us
from agent99.systems.analytics._produced import ProducerOptions
from agent99.systems.analytics._producer import Producer
from agent99.systems.analytics._source import Source

WHOLE_S: Final = 20.0
"""So long the whole file takes, unless it is told how fast to be."""
_HOURS_A_DAY: Final = 24


class Feed:
    """Sends what is due, at all tills together: none is more than an hour ahead of another.

    Args:
        speed: Days of the file in one second; 0: as fast as it goes. None: the whole of it in
            `WHOLE_S` seconds.
    """

    def __init__(self, mesh: Mesh, schedule: Schedule, clock: Clock, speed: float | None) -> None:
        self._mesh = mesh
        self._hours = schedule.hours
        self._clock = clock
        span = self._hours[-1][0] + 1 - self._hours[0][0]
        self._hour_s = WHOLE_S / span if speed is None else speed and 1 / speed / _HOURS_A_DAY
        self._producers: dict[tuple[str, int], Producer[Any]] = {}
        self.records = sum(schedule.sent.values())
        """That there are."""
        self.latest_us = self._hours[0][0] * HOUR_US
        """How far the tills are: the latest time of a record that was sent."""

    def __repr__(self) -> str:
        return f"Feed({self.stored:,} of {self.records:,})"

    @property
    def stored(self) -> int:
        """Records that are acknowledged."""
        return sum(one.statistics.stored for one in self._producers.values())

    @property
    def progress(self) -> float:
        """The share that is acknowledged, 0 to 1."""
        return self.stored / self.records

    async def run(self) -> None:
        """Send everything, and that no more comes.

        Raises:
            Agent99Error: records could not be stored.
        """
        began_s, first = self._clock.monotonic_s(), self._hours[0][0]
        async with AsyncExitStack() as stack:
            for till in range(TILLS):
                await stack.enter_async_context(self._producer(LINES, till))
                await stack.enter_async_context(self._producer(ORDERS, till))
            for hour, parcels in self._hours:
                due_s = began_s + (hour - first) * self._hour_s
                await self._clock.sleep(max(0.0, due_s - self._clock.monotonic_s()))
                await self._send(parcels)
                latest = max(time_us(parcel.records[-1]) for parcel in parcels)
                self.latest_us = max(self.latest_us, latest)
            await asyncio.gather(*(one.finish() for one in self._producers.values()))

    def _producer(self, source: Source[Any], till: int) -> Producer[Any]:
        producer = Producer(self._mesh, source, options=ProducerOptions(shard=till))
        self._producers[source.name, till] = producer
        return producer

    async def _send(self, parcels: Sequence[Parcel]) -> None:
        """Have each till take what is due; it waits where too much is not stored yet."""
        await asyncio.gather(
            *(
                self._producers[parcel.source, parcel.till].send_many(parcel.records)
                for parcel in parcels
            )
        )
