"""A steady load, whatever becomes of it, and what became of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self

import msgspec

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.errors import Agent99Error
from tests._faults import Figure
from tests._wait import eventually

RATE_PER_S = 300.0
TIMEOUT_S = 1.0
LATE_S = 0.25
"""So much may a request outlive its deadline, where many processes share a core."""
REPEATABLE = ("look_up", "pay")
"""What may be asked twice: idempotent, or under a key."""

now_s = SystemClock().monotonic_s


class Outcome(msgspec.Struct, frozen=True):
    """How one request ended."""

    operation: str
    number: int
    began_s: float
    took_s: float
    instance: str = ""
    """Who answered; empty when nobody did."""
    code: str = ""
    """Of the error; empty when there was none."""


class Load:
    """Requests to the clerks at a steady rate; use it with `async with`.

    The next request does not wait for the one before it: a mesh that is slow is asked as often.
    """

    def __init__(
        self,
        mesh: Mesh,
        seed: int,
        operations: Sequence[str],
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.under_way: dict[int, str] = {}
        """The operations of the requests that have not ended, by number."""
        self.timeout_s = timeout_s
        self._mesh = mesh
        self._luck = random.Random(seed)
        self._operations = operations
        self._asking: set[asyncio.Task[None]] = set()
        self._is_done = False
        self._late_s = 0.0
        """How late a request was made at most: the loop was busy, or the machine."""

    def __repr__(self) -> str:
        return f"Load(outcomes={len(self.outcomes)}, under_way={len(self.under_way)})"

    async def __aenter__(self) -> Self:
        self._pace = asyncio.create_task(self._keep_pace())
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Ask no more, and let every request end. Idempotent."""
        self._is_done = True
        await self._pace
        while self._asking:
            await asyncio.wait(self._asking)

    async def wait_answers(self, count: int, *, timeout_s: float = 20) -> None:
        """Wait for so many more answers."""
        wanted = len(self.answered()) + count
        await eventually(lambda: len(self.answered()) >= wanted, timeout_s=timeout_s)

    def answered(self, *operations: str) -> list[Outcome]:
        """Return the requests that were answered well; all, or those of some operations."""
        return self._of(operations, lambda outcome: not outcome.code)

    def failed(self, *operations: str) -> list[Outcome]:
        """Return the requests that ended in an error; all, or those of some operations."""
        return self._of(operations, lambda outcome: bool(outcome.code))

    def figures(self) -> list[Figure]:
        """Return what must hold of any load, whatever is broken."""
        latest_s = max(outcome.took_s for outcome in self.outcomes) - self.timeout_s
        latest_s -= self._late_s  # while this loop stood still nobody could be on time
        return [
            Figure("requests", len(self.outcomes)),
            Figure("beyond its deadline the latest answer", latest_s, "s", at_most=LATE_S),
            Figure("late by itself, the load", self._late_s, "s"),
        ]

    def _of(self, operations: tuple[str, ...], is_wanted: Callable[[Outcome], bool]) -> list[Any]:
        return [
            outcome
            for outcome in self.outcomes
            if is_wanted(outcome) and (not operations or outcome.operation in operations)
        ]

    async def _keep_pace(self) -> None:
        due_s, number = now_s(), 0
        while not self._is_done:
            self._late_s = max(self._late_s, now_s() - due_s)
            while due_s <= now_s():
                number += 1
                due_s += 1 / RATE_PER_S
                task = asyncio.create_task(self._ask(number, self._luck.choice(self._operations)))
                self._asking.add(task)
                task.add_done_callback(self._asking.discard)
            await asyncio.sleep(due_s - now_s())

    async def _ask(self, number: int, operation: str) -> None:
        self.under_way[number] = operation
        began_s, instance, code = now_s(), "", ""
        until_us = SystemClock().wall_us() + round(self.timeout_s * 1e6)
        try:
            instance = await self._mesh.request(
                "clerk",
                operation,
                {"number": number, "until_us": until_us},
                returns=str,
                timeout_s=self.timeout_s,
                idempotency_key=f"pay-{number}" if operation == "pay" else None,
            )
        except Agent99Error as error:
            code = error.code
        del self.under_way[number]
        took_s = now_s() - began_s
        self.outcomes.append(Outcome(operation, number, began_s, took_s, instance, code))


async def ends(task: asyncio.Task[Any]) -> None:
    """End a task that runs for ever."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def last(seconds: float) -> None:
    """Let so much time pass: how long a fault lasts is part of it."""
    await asyncio.sleep(seconds)
