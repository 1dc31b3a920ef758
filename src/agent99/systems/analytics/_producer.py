"""Sends records to whoever ingests them: gathered into batches, each stored once."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from math import isfinite
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

from agent99.clock import Clock, SystemClock, wait_done
from agent99.errors import (
    Agent99Error,
    ClosedError,
    DeadlineExceededError,
    NoAgentError,
    OverloadedError,
    PausedError,
    RequestCancelledError,
    RequestError,
    TransportError,
    UsageError,
)
from agent99.ids import Ids, SystemIds
from agent99.systems.analytics._ingested import Finished, Ingested
from agent99.systems.analytics._produced import (
    BatchFailedError,
    ProducerOptions,
    ProducerStatistics,
)
from agent99.systems.analytics._source import Source

R = TypeVar("R", bound=msgspec.Struct)
AGAIN_S = 0.05
"""Before the second attempt; it doubles up to `AGAIN_S_MAX`."""
AGAIN_S_MAX = 1.0
CLOSE_S = 5.0
"""So long a producer whose block was left by an error tries to send what it has."""

_DID_NOT_RUN = (NoAgentError, OverloadedError, PausedError)
_IS_UNKNOWN = (TransportError, DeadlineExceededError, RequestCancelledError)
_encode = msgspec.json.Encoder().encode


class Asks(Protocol):
    """By whom records are sent: a mesh, or an agent."""

    @property
    def request(self) -> Callable[..., Coroutine[Any, Any, Any]]:
        """See `Mesh.request`."""
        ...


class _Ingest(msgspec.Struct, frozen=True, omit_defaults=True):
    data: list[msgspec.Raw]
    source: str
    batch_id: str
    shard: int | None = None


class _Finish(msgspec.Struct, frozen=True):
    source: str
    batch_id: str
    shard: int | None


class _Batch(msgspec.Struct, eq=False):
    id: str
    done: asyncio.Future[None]
    """Ends when it is stored, or has failed."""
    records: list[Any]
    """As they were given."""
    encoded: list[msgspec.Raw]
    bytes: int = 0
    is_unknown: bool = False
    """Whether an attempt ended without an answer: it may be stored."""


class Producer(Generic[R]):
    """Sends records of one source; use it with `async with`, at whose end all are stored.

        async with Producer(mesh, LINES) as producer:
            for line in lines:
                await producer.send(line)

    `send` returns when the record is in the buffer; `flush`, and the end of the block, when all
    before are stored. A batch that could not be stored is raised by the next call, once, as a
    `BatchFailedError` that has its records.

    Args:
        of: The open mesh, or an agent that runs on it.
        source: Whose records these are.
        options: How they are gathered, and for how long they are tried.
        clock: The source of time.
        ids: For the ids of batches, and for jitter.

    Delivery: each record once, in the order of the calls, as long as one batch is in flight.
    """

    def __init__(
        self,
        of: Asks,
        source: Source[R],
        *,
        options: ProducerOptions | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
    ) -> None:
        self.source = source
        self._floats = [name for name, field in source.fields.items() if field.kind is float]
        self._of = of
        self._options = options or ProducerOptions()
        self._clock = clock or SystemClock()
        self._ids = ids or SystemIds()
        self._open: _Batch | None = None
        self._ready: deque[_Batch] = deque()
        self._flying: set[_Batch] = set()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._failures: list[BatchFailedError] = []
        self._senders: list[asyncio.Task[None]] = []
        self._sent = self._stored = self._failed = self._batches = self._retries = 0
        self._told = 0

    def __repr__(self) -> str:
        return f"Producer({self.source.name!r}, waiting={self._waiting})"

    async def __aenter__(self) -> Self:
        """Begin to send.

        Raises:
            UsageError: it was used before.
        """
        if self._senders:
            raise UsageError("a producer is entered once")
        nowhere = contextvars.Context()  # batches do not end with the request that is in hand here
        loop = asyncio.get_running_loop()
        self._senders = [
            loop.create_task(self._send_batches(), context=nowhere.copy())
            for _ in range(self._options.in_flight_max)
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Store what was sent, and end; after an error, what can be stored in 5 s.

        Raises:
            BatchFailedError: some could not be; not raised over an error of the block.
        """
        try:
            if error is None:
                await self.flush()
            else:
                await self._flush_in_haste(error)
        finally:
            senders = tuple(self._senders)
            for sender in senders:
                sender.cancel()
            await asyncio.gather(*senders, return_exceptions=True)

    async def send(self, record: R) -> None:
        """Take a record; waits while `buffer_records_max` are not stored.

        Delivery: returned = in the buffer. It is stored when a later `flush` has returned.

        Raises:
            BatchFailedError: records before could not be stored; this one was not taken.
            UsageError: it is no record of the source, or has what JSON cannot say: a NaN, an
                infinity, half a character; or the producer is not entered.
            ClosedError: the block was left.
        """
        self._check()
        encoded = self._encoded(record)
        while self._waiting >= self._options.buffer_records_max:
            self._room.clear()
            await self._room.wait()
            self._check()
        self._add(record, encoded)

    async def send_many(self, records: Iterable[R]) -> None:
        """Take records one after the other; see `send`.

        Raises:
            as `send`: those before the one that it raised at were taken.
        """
        for record in records:
            await self.send(record)

    async def flush(self) -> None:
        """Wait until all that was sent before is stored.

        Raises:
            BatchFailedError: some could not be.
            UsageError, ClosedError: as `send`.
        """
        self._check()
        self._seal()
        before = [batch.done for batch in (*self._ready, *self._flying)]
        if before:
            await asyncio.wait(before)
        self._check()

    async def finish(self) -> None:
        """Store all that was sent, and that no more comes: windows need not wait for it.

        Raises:
            BatchFailedError: some could not be stored, and the end was not told.
            RequestError, TransportError: whether the end was told is unknown.
        """
        await self.flush()
        batch = self._batch()
        end = _Finish(self.source.name, batch.id, self._options.shard)
        await self._ask("finish", end, batch, Finished)

    @property
    def statistics(self) -> ProducerStatistics:
        """What became of the records."""
        return ProducerStatistics(
            sent=self._sent,
            stored=self._stored,
            failed=self._failed,
            waiting=self._waiting,
            batches=self._batches,
            retries=self._retries,
        )

    # --- gathering --------------------------------------------------------------------------------

    @property
    def _waiting(self) -> int:
        return self._sent - self._stored - self._failed

    def _check(self) -> None:
        if self._failures:
            first, *others = self._failures
            self._failures.clear()
            first.others = tuple(others)
            self._told += sum(len(each.records) for each in (first, *others))
            raise first
        if not self._senders:
            raise UsageError("enter the producer first: `async with Producer(...) as producer`")
        for sender in self._senders:
            if sender.done():
                raise ClosedError("producer") from _error_of(sender)

    def _encoded(self, record: R) -> msgspec.Raw:
        if not isinstance(record, self.source.kind):
            raise UsageError(f"{record!r} is no record of {self.source}")
        for name in self._floats:
            value = getattr(record, name)
            if type(value) is float and not isfinite(value):  # JSON would say null
                raise UsageError(f"{name} of {record!r} is no number")
        try:
            return msgspec.Raw(_encode(record))
        except (TypeError, ValueError) as error:
            raise UsageError(f"{record!r} cannot be sent: {error}") from error

    def _add(self, record: R, encoded: msgspec.Raw) -> None:
        options, batch, size = self._options, self._open, len(encoded)
        if batch is not None and batch.bytes + size > options.batch_bytes_max:
            self._seal()
            batch = None
        if batch is None:
            batch = self._open = self._batch()
            self._clock.call_later(options.linger_s, partial(self._seal, batch))
        batch.records.append(record)
        batch.encoded.append(encoded)
        batch.bytes += size
        self._sent += 1
        if len(batch.records) >= options.batch_records_max:
            self._seal()

    def _batch(self) -> _Batch:
        return _Batch(self._ids.uuid(), asyncio.get_running_loop().create_future(), [], [])

    def _seal(self, only: _Batch | None = None) -> None:
        """Have what is gathered sent."""
        batch = self._open
        if batch is not None and (only is None or only is batch):
            self._ready.append(batch)
            self._open = None
            self._changed.set()

    # --- sending ----------------------------------------------------------------------------------

    async def _send_batches(self) -> None:
        while True:
            while not self._ready:
                self._changed.clear()
                await self._changed.wait()
            batch = self._ready.popleft()
            self._flying.add(batch)
            try:
                await self._send(batch)
            finally:
                self._flying.discard(batch)
                self._room.set()
                batch.done.cancel()  # does nothing where it is stored, or has failed

    async def _send(self, batch: _Batch) -> None:
        count = len(batch.records)
        payload = _Ingest(batch.encoded, self.source.name, batch.id, self._options.shard)
        try:
            await self._ask("ingest", payload, batch, Ingested)
        except Agent99Error as error:
            records = tuple(batch.records)
            self._failures.append(
                BatchFailedError(batch.id, records, error, is_unknown=batch.is_unknown)
            )
            self._failed += count
        else:
            self._stored += count
            self._batches += 1
        batch.done.set_result(None)

    async def _ask(self, operation: str, payload: Any, batch: _Batch, returns: Any) -> Any:
        """Ask until there is an answer that will not change."""
        options, clock = self._options, self._clock
        give_up_s = clock.monotonic_s() + options.give_up_s
        wait_s = AGAIN_S
        while True:
            try:
                return await self._of.request(
                    options.capability,
                    operation,
                    payload,
                    returns=returns,
                    timeout_s=options.timeout_s,
                    idempotency_key=batch.id,
                )
            except (RequestError, TransportError) as error:
                batch.is_unknown |= isinstance(error, _IS_UNKNOWN)
                if not _may_come_again(error) or clock.monotonic_s() + wait_s >= give_up_s:
                    raise
            self._retries += 1
            await clock.sleep(wait_s * (0.5 + self._ids.fraction() / 2))
            wait_s = min(2 * wait_s, AGAIN_S_MAX)

    async def _flush_in_haste(self, error: BaseException) -> None:
        """Store what can be stored soon; what could not be stands beside the error of the block."""
        self._seal()
        before = [batch.done for batch in (*self._ready, *self._flying)]
        if before:
            all_of_it = asyncio.gather(*before, return_exceptions=True)
            await wait_done(self._clock, all_of_it, CLOSE_S)
        if lost := self._failed + self._waiting - self._told:
            error.add_note(f"{lost:,} records of {self!r} are not known to be stored")


def _error_of(sender: asyncio.Task[None]) -> BaseException | None:
    return None if sender.cancelled() else sender.exception()


def _may_come_again(error: RequestError | TransportError) -> bool:
    return error.retryable or isinstance(error, (*_DID_NOT_RUN, *_IS_UNKNOWN))
