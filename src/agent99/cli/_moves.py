"""Takes many records out of quarantine, one after the other, as fast as is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from agent99.cli._wish import wait_or
from agent99.clock import Clock
from agent99.errors import Agent99Error, TransportError

if TYPE_CHECKING:
    from agent99.work import Quarantined

FAILURES_MAX = 10
"""So many in a row that cannot be moved: nothing else is tried."""


class Stuck(msgspec.Struct, frozen=True):
    """A record that could not be moved."""

    capability: str
    sequence: int
    code: str
    message: str


class Outcome(msgspec.Struct):
    """What became of those that were meant."""

    wanted: int
    moved: int = 0
    stuck: list[Stuck] = []
    interrupted: bool = False

    @property
    def untried(self) -> int:
        """Those that stand where they stood, and were not tried."""
        return self.wanted - self.moved - len(self.stuck)

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**msgspec.structs.asdict(self), "untried": self.untried}


class Mover:
    """Moves records, each of them whole: a stop is heard between two.

    Args:
        move: Moves one.
        stop: Set when somebody wants an end.
        rate: In a second, at most; None: no bound.
        tell: Called after each that was tried.
    """

    def __init__(
        self,
        move: Callable[[Quarantined], Awaitable[None]],
        stop: asyncio.Event,
        *,
        clock: Clock,
        rate: float | None = None,
        tell: Callable[[], object] = lambda: None,
    ) -> None:
        self._move = move
        self._stop = stop
        self._clock = clock
        self._gap_s = 1.0 / rate if rate is not None else 0.0
        self._tell = tell

    def __repr__(self) -> str:
        return f"Mover(gap_s={self._gap_s:g})"

    async def run(self, records: Sequence[Quarantined], outcome: Outcome) -> None:
        """Move them in their order, and write into `outcome` what became of them."""
        in_a_row = 0
        next_s = self._clock.monotonic_s()
        for record in records:
            if not await self._wait(next_s - self._clock.monotonic_s()):
                outcome.interrupted = True
                return
            next_s = max(next_s, self._clock.monotonic_s() - self._gap_s) + self._gap_s
            try:
                await self._move(record)
                outcome.moved, in_a_row = outcome.moved + 1, 0
            except Agent99Error as error:
                where = record.capability, record.sequence
                outcome.stuck.append(Stuck(*where, error.code, str(error)))
                in_a_row += 1
                if isinstance(error, TransportError) or in_a_row == FAILURES_MAX:
                    return
            self._tell()

    async def _wait(self, wait_s: float) -> bool:
        """Wait; returns False when somebody wants an end."""
        if wait_s > 0 and not self._stop.is_set():
            sleeping = asyncio.ensure_future(self._clock.sleep(wait_s))
            try:
                await wait_or(sleeping, self._stop)
            finally:
                sleeping.cancel()
        return not self._stop.is_set()
