"""Folds stored batches of records: their deltas, marks and counts, with the position, at once.

What costs time (to decode, compute, group) is done before the transaction, which only writes. It
checks there what the work was based on; if that has changed meanwhile, the work is done anew.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from agent99.envelope import Name, encode_message, parse_log, peek_header, split_message
from agent99.errors import (
    Agent99Error,
    BadRequestError,
    ClosedError,
    HandlerError,
    InvalidNameError,
    LeaseLostError,
    TransactionConflictError,
    UsageError,
    text_of,
)
from agent99.groups import Batch
from agent99.systems.analytics._board import Board
from agent99.systems.analytics._columns import ColumnBatch, encode_batch
from agent99.systems.analytics._folded_rows import (
    Folded,
    StaleError,
    load_known,
    pack_deltas,
    read_horizons,
    write,
)
from agent99.systems.analytics._sieve import REFUSALS, sieve
from agent99.systems.analytics._stored import read_stored
from agent99.systems.analytics._work import Known, Taken, Work
from agent99.work import Outcome, Place

if TYPE_CHECKING:
    from agent99.journal import Record
    from agent99.systems.analytics._ground import Ground

ATTEMPTS_MAX: Final = 5
"""So often a batch comes again at an event that breaks us; then the event is refused."""
TRIES_MAX: Final = 100
"""So often a batch is folded anew at once: for each event that cannot be, and for each time that a
horizon has moved over what was taken. Then it comes again after a pause."""
HORIZONS_S: Final = 0.25
"""So long after a write the next one goes by the horizons that it found, and reads none: records
that it takes by those are checked when it writes."""
COMMIT_S: Final = 0.05
"""Between two transactions of a partition of which little comes."""
STORED_MANY: Final = 16
"""So many stored batches are much: they wait for no others."""
REFUSED: Final = Name("records")
"""Under which the quarantine keeps, by the name of the group, events that could not be folded."""
WHOLE, UNFIT, REST = "", "unfit", "rest"
"""Parts of an event in quarantine: all of it; its records that no pipeline can take; the others,
which could not be written."""


class Hand(msgspec.Struct):
    """A batch in the hands of the handler."""

    batch: Batch
    taken: dict[int, Taken]
    """By sequence: what is to be folded."""
    refused: dict[int, Exception]
    """By sequence: what cannot be, and why."""
    is_alone: bool = False
    """It has one event, so that what fails is that event's fault."""
    parts: dict[int, dict[str, ColumnBatch]] = msgspec.field(
        default_factory=dict[int, dict[str, ColumnBatch]]
    )
    """By sequence, of what was refused and could be read: the records, in the parts in which they
    go into quarantine; `WHOLE` is as it was stored."""
    buried: set[int] = msgspec.field(default_factory=set[int])
    """What of it is in quarantine."""
    repeated: set[int] = msgspec.field(default_factory=set[int])
    """By sequence: what came before in another event, and has had its effect."""

    def refused_records(self) -> dict[int, int]:
        """Return by sequence how many records were refused."""
        return {
            sequence: sum(part.rows for part in parts.values())
            for sequence, parts in self.parts.items()
        }

    def forget(self, sequence: int) -> None:
        """Have nothing to do for an event: it has had its effect."""
        self.taken.pop(sequence, None)
        self.refused.pop(sequence, None)
        self.parts.pop(sequence, None)


class Share(msgspec.Struct):
    """What is remembered of a partition that is ours."""

    epoch: int
    known: Known
    read_s: float
    """When the horizons that are known were those of the database, by the monotonic clock."""


class Pace:
    """Has batches that follow one another share a transaction. Pure.

    A transaction, and the closers' look at it, cost as much as a thousand records. So where a
    partition has just had one, a few stored batches wait: what comes meanwhile is in the next one.
    """

    def __init__(self) -> None:
        self._ended_s: Final[dict[int, float]] = {}
        """By partition: when its last transaction ended."""

    def __repr__(self) -> str:
        return f"Pace({len(self._ended_s)} partitions)"

    def note(self, partition: int, now_s: float) -> None:
        """Note that a transaction of a partition has ended."""
        self._ended_s[partition] = now_s

    def pause_s(self, partition: int, stored: int, now_s: float) -> float:
        """Return for how long so many stored batches of a partition wait."""
        ended_s = self._ended_s.get(partition)
        if ended_s is None or stored >= STORED_MANY:
            return 0.0
        return max(0.0, ended_s + COMMIT_S - now_s)


class Folding:
    """The handler of the group that reads the records of a job.

    Invariant: what is remembered of a partition is what its last transaction has left; it is
    forgotten when a transaction fails, or the partition comes anew.

    Args:
        ground: What it stands on.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground: Final = ground
        self._chunks: Final = {
            one.name: Board(one).chunk_of for one in ground.job.pipelines.values()
        }
        self._sources: Final = {
            pipelines[0].source.topic: pipelines[0].source
            for pipelines in ground.by_source.values()
        }
        self._shares: Final[dict[int, Share]] = {}
        self._pace: Final = Pace()
        self.topic: Final = f"analytics.folded.{ground.group}"
        """Of the hint that something was folded."""

    def __repr__(self) -> str:
        return f"Folding({self._ground!r}, partitions={len(self._shares)})"

    async def handle(self, batch: Batch) -> None:
        """Fold a batch; returned = its effect is in the database.

        Raises:
            LeaseLostError: another member owns the partition.
            StoreError or one of its kinds.
            JournalError, DeadlineExceededError, TransportError, ClosedError: an event could not be
                put into quarantine.
        """
        clock, partition = self._ground.clock, batch.partition
        pause_s = self._pace.pause_s(partition, len(batch.records), clock.monotonic_s())
        if pause_s:
            await clock.sleep(pause_s)
        try:
            await self._fold(batch)
        except Exception as error:  # what of: it is looked for
            if not _is_its_own(error, batch):
                raise
            # One event breaks whatever it is in: each is folded by itself, and that one refused.
            for record in batch.records:
                await self._fold(msgspec.structs.replace(batch, records=(record,)), is_alone=True)
        self._pace.note(partition, clock.monotonic_s())
        await self._ground.tell(self.topic, None)

    # --- inside -----------------------------------------------------------------------------------

    async def _fold(self, batch: Batch, *, is_alone: bool = False) -> None:
        hand = Hand(batch, {}, {}, is_alone)
        try:
            await self._decode(hand)
            for _ in range(TRIES_MAX):
                if await self._is_done(hand):
                    break
                self._shares.pop(batch.partition, None)
            else:
                raise TransactionConflictError(TRIES_MAX, "the horizons moved over the batch")
        except BaseException:
            self._shares.pop(batch.partition, None)
            raise

    async def _decode(self, hand: Hand) -> None:
        for record in hand.batch.records:
            await asyncio.sleep(0)  # a batch at a time: others have a turn of the event loop
            try:
                hand.taken[record.sequence] = read_stored(record, self._sources)
            except Exception as error:  # noqa: BLE001 - what others wrote: it is told where it goes
                self._refuse(hand, record.sequence, error)

    async def _is_done(self, hand: Hand) -> bool:
        """Fold and write once; returns False where that is to be done anew."""
        ground, batch = self._ground, hand.batch
        known = await self._known(batch)
        work = Work(ground.by_source, known)
        if not await self._is_folded(hand, work):
            return False
        for record in batch.records:
            if record.sequence in hand.refused.keys() - hand.buried:
                await self._bury(record, hand)
                hand.buried.add(record.sequence)
        try:
            horizons = await self._written(hand, work, known)
        except StaleError as stale:
            for sequence in stale.done | stale.repeated:
                hand.forget(sequence)
            hand.repeated |= stale.repeated
            hand.repeated -= stale.done
            return False
        except Exception as error:  # of an event by itself: it is told where the event goes
            if not hand.is_alone or not hand.taken:
                raise
            self._refuse_whole(hand, batch.position, error)
            return False
        if horizons is None:  # what was remembered is older than what the database has
            self._shares.pop(batch.partition, None)
        else:
            known.marks |= work.marks
            known.horizons = horizons
            self._shares[batch.partition] = Share(batch.epoch, known, ground.clock.monotonic_s())
        return True

    async def _written(self, hand: Hand, work: Work, known: Known) -> dict[str, int | None] | None:
        """Write once; returns the horizons, or None where all of it was written before."""
        ground, batch = self._ground, hand.batch
        folded = Folded(
            work=work,
            taken=list(hand.taken.values()),
            handled=hand.taken.keys() | hand.refused.keys() | hand.repeated,
            refused=self._by_pipeline(batch, dict.fromkeys(hand.refused, 1)),
            refused_records=self._by_pipeline(batch, hand.refused_records()),
            repeated=self._by_pipeline(batch, dict.fromkeys(hand.repeated, 1)),
            deltas=pack_deltas(ground.job, work, self._chunks),
            ordinals=known.ordinals,
            seen_us=ground.clock.wall_us(),
        )
        return await ground.store.transaction(
            partial(write, job=ground.job, batch=batch, folded=folded)
        )

    async def _known(self, batch: Batch) -> Known:
        ground, share = self._ground, self._shares.get(batch.partition)
        if share is None or share.epoch != batch.epoch:
            load = partial(load_known, job=ground.job, reader=ground.reader, part=batch.partition)
            known = await ground.store.read(load)
            share = Share(batch.epoch, known, ground.clock.monotonic_s())
            self._shares[batch.partition] = share
        elif ground.clock.monotonic_s() - share.read_s > HORIZONS_S:
            look = partial(read_horizons, reader=ground.reader)
            share.known.horizons = await ground.store.read(look)
        return share.known

    async def _is_folded(self, hand: Hand, work: Work) -> bool:
        """Fold all that can be; returns False after the first event that cannot."""
        for taken in hand.taken.values():
            await asyncio.sleep(0)  # as in `_decode`
            try:
                work.add(taken)
            except Exception as error:  # noqa: BLE001 - a user's code: it is told where the event goes
                self._sort_out(hand, taken, error)
                return False
        return True

    def _sort_out(self, hand: Hand, taken: Taken, error: Exception) -> None:
        """Leave out of an event the records that no pipeline can take; all, where that is in vain.

        Raises:
            the error: it is to be tried again.
        """
        pipelines = self._ground.by_source.get(taken.batch.source, ())
        sieved = None
        if isinstance(error, REFUSALS) and taken.sequence not in hand.parts:
            sieved = sieve(taken.batch, pipelines)
        if sieved is None:
            self._refuse_whole(hand, taken.sequence, error)
            return
        self._refuse(hand, taken.sequence, error)
        hand.parts[taken.sequence] = {UNFIT: sieved.unfit}
        (source,) = {pipeline.source for pipeline in pipelines}
        latest_us = max(sieved.fit.columns[source.time])
        hand.taken[taken.sequence] = taken._replace(batch=sieved.fit, latest_us=latest_us)

    def _refuse_whole(self, hand: Hand, sequence: int, error: Exception) -> None:
        """Leave an event out that could be read.

        Raises:
            the error: it is to be tried again.
        """
        self._refuse(hand, sequence, error)
        part = REST if sequence in hand.parts else WHOLE
        hand.parts.setdefault(sequence, {})[part] = hand.taken.pop(sequence).batch
        hand.buried.discard(sequence)

    def _refuse(self, hand: Hand, sequence: int, error: Exception) -> None:
        """Leave an event out for good; what is not its own fault may pass.

        Raises:
            the error: it is to be tried again.
        """
        if not _is_its_own(error, hand.batch):
            raise error
        hand.refused[sequence] = error

    def _by_pipeline(self, batch: Batch, numbers: Mapping[int, int]) -> dict[str, int]:
        """Sum up numbers of events by pipeline; what is of no known source counts for all."""
        counts: dict[str, int] = {}
        for record in batch.records:
            if record.sequence not in numbers:
                continue
            try:
                source = self._sources.get(parse_log(record.subject).topic)
            except InvalidNameError:
                source = None
            names = [
                one.name
                for one in self._ground.job.pipelines.values()
                if source is None or one.source.name == source.name
            ]
            for name in names:
                counts[name] = counts.get(name, 0) + numbers[record.sequence]
        return counts

    async def _bury(self, record: Record, hand: Hand) -> None:
        """Put an event into quarantine, or what is left out of it; done twice, it is there once."""
        parts = hand.parts.get(record.sequence)
        if parts is None or WHOLE in parts:
            await self._bury_part(record, hand)
            return
        header, _ = split_message(record.payload)
        source = self._sources[parse_log(record.subject).topic]
        for part, batch in parts.items():
            message = encode_message(header, bytes(encode_batch(source, batch)))
            await self._bury_part(msgspec.structs.replace(record, payload=message), hand, part)

    async def _bury_part(self, record: Record, hand: Hand, part: str = WHOLE) -> None:
        error, ground = hand.refused[record.sequence], self._ground
        told = (
            error
            if isinstance(error, BadRequestError)
            else BadRequestError(text_of(error))
            if isinstance(error, Agent99Error)
            else HandlerError(f"{type(error).__name__}: {text_of(error)}")
        )
        outcome = Outcome(told, "".join(traceback.format_exception(error)))
        topic = record.subject
        place = Place(ground.streams.log, Name(ground.group), REFUSED, topic, "group", part)
        await ground.quarantine.bury(
            record,
            peek_header(record.payload),
            outcome,
            place,
            reason="unreadable",
            attempts=hand.batch.attempt,
        )


def _is_its_own(error: Exception, batch: Batch) -> bool:
    """Tell whether an error is the fault of an event: what may pass is none, unless it does not."""
    if isinstance(error, BadRequestError | UsageError):
        return True
    passes = isinstance(error, LeaseLostError | ClosedError)
    passes = passes or (isinstance(error, Agent99Error) and error.retryable)
    return not passes and batch.attempt >= ATTEMPTS_MAX
