"""An agent that books trips: sagas whose steps a test makes fail as it likes."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import msgspec

from agent99 import Agent, Failure
from agent99.errors import DeadlineExceededError, NoAgentError
from agent99.saga import Saga, Step, Undo, saga
from agent99.saga._keeper import Keeper


class Trip(msgspec.Struct, frozen=True):
    """What a customer wants."""

    to: str
    days: int = 1


class Ticket(msgspec.Struct, frozen=True):
    """What a step returns."""

    number: int
    of: str


class World:
    """What the steps did, for all instances of the agent; it honours keys."""

    def __init__(self) -> None:
        self.booked: dict[str, Ticket] = {}
        """By key."""
        self.undone: list[tuple[str, Ticket | None]] = []
        self.attempts: Counter[str] = Counter()
        self.keys: list[str] = []
        self.fails: dict[str, list[BaseException]] = {}
        """What a step raises, attempt by attempt, before it does anything."""
        self.fails_after: dict[str, list[BaseException]] = {}
        """The same, once it has taken effect."""
        self.gate = asyncio.Event()
        self.gate.set()

    def book(self, step: Step, of: str) -> Ticket:
        """Take effect, once for each key."""
        self.attempts[step.name] += 1
        self.keys.append(step.key)
        _raise_next(self.fails, step.name)
        ticket = self.booked.setdefault(step.key, Ticket(len(self.booked) + 1, of))
        _raise_next(self.fails_after, step.name)
        return ticket

    def let_go(self, undo: Undo[Ticket]) -> None:
        """Undo what a step did."""
        self.attempts[f"undo {undo.name}"] += 1
        _raise_next(self.fails, f"undo {undo.name}")
        self.undone.append((undo.name, undo.result))
        self.booked.pop(undo.step_key, None)


def _raise_next(fails: dict[str, list[BaseException]], name: str) -> None:
    if fails.get(name):
        raise fails[name].pop(0)


def no_answer() -> BaseException:
    """Return what a step raises whose answer did not come."""
    return DeadlineExceededError("no answer")


def nobody() -> BaseException:
    """Return what a step raises that certainly did not run."""
    return NoAgentError("nobody is there", reason="nobody")


def refusal() -> BaseException:
    """Return what a step raises that is refused for good."""
    return Failure("sold out", code="SOLD_OUT")


class Trips(Agent):
    """Books trips."""

    capabilities = ("trips",)
    name = "trips"

    def __init__(self, world: World) -> None:
        self.world = world

    @saga
    async def book(self, trip: Trip, saga: Saga) -> list[Ticket]:
        """Book a flight and a room, one after the other."""
        flight = await saga.step("flight", self.fly, trip.to, undo=self.let_go)
        room = await saga.step("room", self.stay, trip.to, trip.days, undo=self.let_go)
        if trip.days > 100:
            raise Failure("too long", code="TOO_LONG", details={"days": trip.days})
        return [flight, room]

    @saga
    async def both(self, trip: Trip, saga: Saga) -> list[Ticket]:
        """Book them side by side."""
        return list(
            await asyncio.gather(
                saga.step("flight", self.fly, trip.to, undo=self.let_go),
                saga.step("room", self.stay, trip.to, trip.days, undo=self.let_go),
            )
        )

    @saga
    async def hasty(self, trip: Trip, saga: Saga) -> Ticket:
        """Book a flight with little patience, and ask whether it was booked."""
        return await saga.step(
            "flight", self.fly, trip.to, undo=self.let_go, query=self.find, patience_s=0.2
        )

    @saga
    async def impatient(self, trip: Trip, saga: Saga) -> Ticket:
        """Book a flight with little patience."""
        flight = await saga.step("flight", self.fly, trip.to, undo=self.let_go, patience_s=0.1)
        await saga.step("thanks", self.thank)
        return flight

    @saga
    async def paid(self, trip: Trip, saga: Saga) -> Ticket:
        """Book, pay, and print: paid is paid."""
        flight = await saga.step("flight", self.fly, trip.to, undo=self.let_go)
        await saga.pivot("payment", self.pay, flight)
        return await saga.step("print", self.print_out, flight, patience_s=0.1)

    @saga
    async def patient(self, trip: Trip, seconds: float, saga: Saga) -> Ticket:
        """Book, then wait."""
        flight = await saga.step("flight", self.fly, trip.to, undo=self.let_go)
        await saga.sleep(seconds)
        return flight

    @saga
    async def times(self, saga: Saga) -> tuple[datetime, datetime, UUID, UUID]:
        """Say when it is, and draw ids."""
        first, drawn = await saga.now(), saga.uuid()
        await saga.sleep(0.01)
        await saga.step("thanks", self.thank)
        return first, await saga.now(), drawn, saga.uuid()

    async def fly(self, step: Step, to: str) -> Ticket:
        """Book a flight."""
        await self.world.gate.wait()
        return self.world.book(step, to)

    async def stay(self, step: Step, to: str, days: int) -> Ticket:
        """Book a room."""
        return self.world.book(step, f"{days} days in {to}")

    async def pay(self, step: Step, flight: Ticket) -> Ticket:
        """Pay."""
        return self.world.book(step, f"money for {flight.number}")

    async def print_out(self, step: Step, flight: Ticket) -> Ticket:
        """Print."""
        self.world.book(step, "paper")
        return flight

    async def thank(self, step: Step) -> None:
        """Be polite."""
        self.world.book(step, "thanks")

    async def find(self, step: Step, to: str) -> Ticket | None:
        """Tell whether a flight is booked."""
        del to
        self.world.attempts["find"] += 1
        return self.world.booked.get(step.key)

    async def let_go(self, undo: Undo[Ticket], *_what: Any) -> None:
        """Undo a booking."""
        self.world.let_go(undo)


def keeper_of(agent: Trips) -> Keeper:
    """Return what keeps the sagas of an agent that is hosted."""
    assert agent._running is not None
    (keeper,) = agent._running.host.duties
    return cast("Keeper", keeper)
