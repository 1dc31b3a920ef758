"""A producer publishes events, consumers hear them by topic: at most once, whoever listens now.

$ agent99 run examples/producer_consumer.py
$ agent99 call thermometer measure count=5
$ agent99 survey thermostat heard
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from agent99 import Agent, on, operation

HEARD_MAX = 1_000


class Measured(msgspec.Struct):
    """An event."""

    room: str
    celsius: float


class Thermometer(Agent):
    """Publishes what it measures."""

    capabilities = ("thermometer",)

    @operation
    async def measure(
        self, room: str = "hall", count: Annotated[int, Meta(ge=1, le=1_000)] = 1
    ) -> int:
        """Publish so many measurements; returns how many."""
        for number in range(count):
            await self.publish(f"measured.{room}", Measured(room, 20 + number / 10))
        return count


class Thermostat(Agent):
    """Hears every room."""

    capabilities = ("thermostat",)

    async def start(self) -> None:
        """Begin with nothing heard."""
        self.measurements: list[Measured] = []

    @on("measured.*")
    async def take(self, event: Measured) -> None:
        """Remember the latest."""
        self.measurements.append(event)
        del self.measurements[:-HEARD_MAX]

    @operation
    async def heard(self) -> list[Measured]:
        """Return what was heard, the latest last."""
        return self.measurements
