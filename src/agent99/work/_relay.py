"""Sends what transactions have left in an outbox: in order per key, and nothing is forgotten.

Rows stay until they are safely past the server's acknowledgement, so that a stream that turns out
shorter than it was (its disk lost what had been acknowledged) is filled again from them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import msgspec

from agent99.clock import Clock, wait_done
from agent99.envelope import (
    Header,
    Topic,
    decode_header,
    encode_message,
    parse_key,
)
from agent99.errors import (
    Agent99Error,
    BadRequestError,
    ClosedError,
    DeadlineExceededError,
    LeaseLostError,
    StreamNotFoundError,
)
from agent99.journal import Journal, Stored
from agent99.work._log import Log

if TYPE_CHECKING:
    from agent99.store import Outbox, OutboxHeight, OutboxLease, OutboxReceipt, OutboxRow

_log = logging.getLogger("agent99.work")

ROWS_MAX = 256
"""Rows in hand at once; of each key one is under way."""
PAUSE_S = 1.0
"""Between two tries, where another process owns the outbox, or something is not there."""
LOOK_S = 0.5
"""Between two looks for rows that other processes have added."""
FORGET_S = 30.0
"""Between two removals of rows that are past their time."""


class RelayStatistics(msgspec.Struct, frozen=True):
    """What one relay has done since it began."""

    is_owner: bool
    """Whether it is the one that sends, of all processes on the same database."""
    sent: int
    given_back: int
    """Rows that were sent once more, because a stream had lost them."""
    trouble: str
    """What keeps it from sending now; empty: nothing."""


class Relay:
    """Sends the outbox of one store to the stream of events.

    Invariant: a row is marked as stored only after the server has acknowledged it; of one key the
    next is sent only after the one before. After the link was away, or where a stream counts from
    below what it had, nothing is sent, and nothing that was sent meanwhile is marked, before the
    streams were compared.
    """

    def __init__(
        self, outbox: Outbox, log: Log, journal: Journal, *, clock: Clock, instance: str
    ) -> None:
        self._outbox = outbox
        self._log = log
        self._journal = journal
        self._clock = clock
        self._instance = instance
        self._task: asyncio.Task[None] | None = None
        self._lease: OutboxLease | None = None
        self._sending: list[asyncio.Task[None]] = []
        self._waiting: asyncio.Task[bool] | None = None
        self._held: set[str] = set()  # keys that wait for the next round
        self._heights: dict[str, int] = {}  # what each stream had before the rows in hand
        self._must_compare = True
        self._is_ending = False
        self._forget_s = 0.0
        self._sent = self._given_back = 0
        self._trouble = ""

    def __repr__(self) -> str:
        return f"Relay({self._outbox!r}, sent={self._sent})"

    def statistics(self) -> RelayStatistics:
        """Return the counts now."""
        is_owner = self._lease is not None and self._lease.is_live
        return RelayStatistics(is_owner, self._sent, self._given_back, self._trouble)

    def start(self) -> None:
        """Send from now on, until `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def look_again(self) -> None:
        """The link to the server changed: compare what it has before anything more is sent.

        What is under way is given up, and sent again after what the stream may have lost.
        """
        self._must_compare = True
        for task in self._sending:
            task.cancel()

    async def stop(self, timeout_s: float) -> None:
        """Send what waits, within so many seconds, then let another process have the outbox."""
        task, self._task = self._task, None
        self._is_ending = True
        if task is not None:
            if self._lease is None:  # whoever has it sends
                task.cancel()
            if self._waiting is not None:
                self._waiting.cancel()
            await wait_done(self._clock, task, timeout_s)
            task.cancel()
            await asyncio.wait([task])
        lease, self._lease = self._lease, None
        if lease is not None:
            with suppress(Agent99Error):
                await lease.release()

    # --- inside -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._is_ending:
            try:
                self._lease = await self._outbox.claim()
                if self._lease is not None:
                    self._must_compare = True
                    await self._serve(self._lease)
                    return
            except LeaseLostError as error:
                self._lease = None
                _log.info("another process sends now: %s", error)
            except Agent99Error as error:
                self._report(error)
            await self._clock.sleep(PAUSE_S)

    async def _serve(self, lease: OutboxLease) -> None:
        """Send for as long as the outbox is ours; returns when all is sent and we are ending.

        Raises:
            LeaseLostError, StoreError, ClosedError
        """
        after = 0
        self._held.clear()
        while True:
            try:
                while self._must_compare:
                    await self._compare(lease)
                    after = 0
                    self._held.clear()
                rows = await lease.take(ROWS_MAX, after=after)
                await self._send_all(lease, rows)
            except LeaseLostError:
                raise
            except Agent99Error as error:
                self._report(error)
                after = 0
                self._held.clear()
                await self._clock.sleep(PAUSE_S)
                await lease.take(1)  # ours still? It is a sign of life, too
                continue
            if rows:  # the next ones; past those that cannot be sent, if there are any
                after = rows[-1].position if self._held else 0
                continue
            if after:  # a round is over: what could not be sent is tried again in the next
                after = 0
                self._held.clear()
            else:
                self._trouble = ""
            await self._forget(lease)
            if self._is_ending:
                return
            await self._wait_added()

    async def _wait_added(self) -> None:
        """Wait for rows, or for the end, but for no longer than rows of others may wait."""
        self._waiting = asyncio.get_running_loop().create_task(self._outbox.wait_added(LOOK_S))
        try:
            await asyncio.wait([self._waiting])
        finally:
            self._waiting.cancel()

    async def _compare(self, lease: OutboxLease) -> None:
        """Let wait again what a stream may have lost."""
        self._must_compare = False
        try:
            async with self._renewing(lease):
                self._heights.clear()
                for height in await lease.heights():
                    self._heights[height.stream] = height.sequence
                    await self._compare_one(lease, height)
        except BaseException:
            self._must_compare = True
            raise

    async def _compare_one(self, lease: OutboxLease, height: OutboxHeight) -> None:
        if await self._has_all(height):
            return
        del self._heights[height.stream]
        count = await lease.give_back(height.stream, 0)
        self._given_back += count
        text = "stream %s has lost what it had: %d events are sent once more"
        _log.error(text, height.stream, count)

    async def _has_all(self, height: OutboxHeight) -> bool:
        """Tell whether a stream still has the last message that the outbox knows.

        If not, its end says nothing of what it has lost: others may have appended since.
        """
        try:
            state = await self._journal.stream_state(height.stream)
            if state.last_sequence < height.sequence:
                return False
            record = await self._journal.get(height.stream, height.sequence)
        except StreamNotFoundError:
            return False
        if record is None:  # past its age
            return True
        try:
            return decode_header(record.payload).event_uuid == height.id
        except BadRequestError:
            return False

    async def _send_all(self, lease: OutboxLease, rows: Sequence[OutboxRow]) -> None:
        """Send rows, those of one key one after the other.

        Raises:
            Agent99Error: nothing can be sent now.
        """
        by_key: dict[str, list[OutboxRow]] = {}
        for row in rows:
            if row.key not in self._held:
                by_key.setdefault(row.key, []).append(row)
        if not by_key:
            return
        receipts: list[OutboxReceipt] = []
        loop = asyncio.get_running_loop()
        few = by_key.values()
        self._sending = [loop.create_task(self._send_key(lease, each, receipts)) for each in few]
        try:
            async with self._renewing(lease):
                outcomes = await asyncio.gather(*self._sending, return_exceptions=True)
        finally:
            self._sending = []
            # Where the stream has lost its end, new messages stand where lost ones are recorded.
            if not self._must_compare:
                self._sent += await lease.mark(receipts)
                for receipt in receipts:
                    height = self._heights.get(receipt.stream, 0)
                    self._heights[receipt.stream] = max(height, receipt.sequence)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _send_key(
        self, lease: OutboxLease, rows: Sequence[OutboxRow], receipts: list[OutboxReceipt]
    ) -> None:
        """Send rows of one key, until one cannot be sent: the key is held then.

        Raises:
            Agent99Error: it has nothing to do with the row.
        """
        from agent99.store import OutboxReceipt  # noqa: PLC0415 - loaded: whose rows are these?

        for row in rows:
            if self._must_compare:
                return
            if not lease.is_live:
                raise LeaseLostError("the lease on the outbox ran out while its rows were sent")
            try:
                stored = await self._send(row)
            except (ClosedError, DeadlineExceededError):
                raise
            except Agent99Error as error:
                if error.retryable:
                    raise
                self._held.add(row.key)
                self._report(error)
                return
            if not stored.duplicate and stored.sequence <= self._heights.get(stored.stream, 0):
                self._must_compare = True  # something stands there already: it was made anew
                return
            receipts.append(OutboxReceipt(row.position, stored.stream, stored.sequence))

    async def _send(self, row: OutboxRow) -> Stored:
        header = Header(
            type="event",
            from_uuid=self._instance,
            to_uuid=row.topic,
            event_uuid=row.id,
            timestamp=row.created_us,
            traceparent=row.traceparent or None,
        )
        message = encode_message(header, row.body, row.headers)
        return await self._log.append(
            Topic(row.topic), parse_key(row.key), message, message_id=row.id
        )

    @asynccontextmanager
    async def _renewing(self, lease: OutboxLease) -> AsyncGenerator[None]:
        """Show signs of life while a slow server takes its time."""
        renewing = asyncio.get_running_loop().create_task(self._renew(lease))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait([renewing])

    async def _renew(self, lease: OutboxLease) -> None:
        while True:
            await self._clock.sleep(PAUSE_S)
            with suppress(Agent99Error):  # `is_live` tells whoever sends
                await lease.take(1)

    async def _forget(self, lease: OutboxLease) -> None:
        now_s = self._clock.monotonic_s()
        if now_s >= self._forget_s:
            self._forget_s = now_s + FORGET_S
            await lease.forget()

    def _report(self, error: BaseException) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            _log.warning("events wait in the outbox: %s", error)
