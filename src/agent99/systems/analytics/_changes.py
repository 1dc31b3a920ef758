"""What changes of a pipeline's rows, as it changes: hints, and questions where one was missed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from agent99.envelope import split_message
from agent99.errors import Agent99Error
from agent99.systems.analytics._delta import WindowRow
from agent99.systems.analytics._results import Turned

if TYPE_CHECKING:
    from agent99.systems.analytics._questions import RowsPage
    from agent99.wire import Message

HINTS_MAX: Final = 64
"""That wait; one more is dropped, and asked for later."""
_decode = msgspec.json.Decoder(Turned).decode

AskSince = Callable[[int], Awaitable[tuple[list[WindowRow], "RowsPage"]]]
"""Returns the rows that came in a later turn than the given one, and the first page of them."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a pipeline since the last change."""

    rows: list[WindowRow]
    """Of windows that have closed, or changed; of the first change, all that there are."""
    watermark_us: int | None
    """Up to where windows were closed then, microseconds."""
    is_snapshot: bool = False
    """It is the first one, or the first one of the version that the job was switched to."""


class Changes:
    """Follows the turns of a closer.

    Invariant: all rows of the turns up to `turn` were given out.

    Args:
        ask: Returns what has come since a turn.
    """

    def __init__(self, ask: AskSince) -> None:
        self._ask: Final = ask
        self._hints: Final[asyncio.Queue[Turned]] = asyncio.Queue(HINTS_MAX)
        self.turn = -1

    def __repr__(self) -> str:
        return f"Changes(turn={self.turn}, hints={self._hints.qsize()})"

    def hear(self, message: Message) -> None:
        """Take a hint; what makes no sense, or is too much, is asked for later."""
        with suppress(msgspec.DecodeError, Agent99Error, asyncio.QueueFull):
            _, body = split_message(message.payload)
            self._hints.put_nowait(_decode(body))

    async def next(self, poll_s: float) -> Change | None:
        """Return the next change; None: there is none yet, or nobody can be asked just now."""
        hint = await self._hint(poll_s)
        if hint is not None and hint.turn <= self.turn:
            return None
        if hint is not None and hint.turn == self.turn + 1 and hint.rows is not None:
            self.turn = hint.turn
            return Change(rows=hint.rows, watermark_us=hint.watermark_us)
        try:
            rows, page = await self._ask(self.turn)
        except Agent99Error:
            return None
        self.turn = page.turn
        return Change(rows=rows, watermark_us=page.watermark_us) if rows else None

    async def _hint(self, timeout_s: float) -> Turned | None:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._hints.get()
        except TimeoutError:
            return None
