"""Folds a batch into a generation: effects, position and failures in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from agent99.clock import Clock
from agent99.errors import Agent99Error, LeaseLostError, text_of
from agent99.groups import Batch, Event, event_of
from agent99.journal import Record
from agent99.projections import _book as book_
from agent99.projections._projection import Definition
from agent99.projections._tables import Names, Tables

if TYPE_CHECKING:
    from agent99.store import Transaction

Outcome = Literal["done", "held", "over"]
_ERROR_CHARACTERS_MAX: Final = 500
_NOTE_FIRST: Final = (
    "UPDATE agent99_projection_generation SET first_sequence = :first WHERE name = :name"
    " AND generation = :generation AND (first_sequence IS NULL OR first_sequence > :first)"
)
_NOTE_FAILURE: Final = (
    "INSERT INTO agent99_projection_failure (name, generation, sequence, part, event_id, type,"
    " error, is_set_aside) VALUES (:name, :generation, :sequence, :part, :event_id, :type, :error,"
    " :is_set_aside) ON CONFLICT (name, generation, sequence) DO UPDATE SET"
    " error = excluded.error, is_set_aside = excluded.is_set_aside"
)
_COUNT_ASIDE: Final = (
    "SELECT count(*) FROM agent99_projection_failure"
    " WHERE name = :name AND generation = :generation AND is_set_aside = 1"
)


class EventError(Exception):
    """`apply` raised at an event: the transaction took no effect. Private to the room."""

    def __init__(self, record: Record, event: Event | None, part: int, cause: Exception) -> None:
        super().__init__(f"event at {record.sequence}: {text_of(cause)}")
        self.sequence = record.sequence
        self.event_id = "" if event is None else event.id
        self.type = "" if event is None else event.type
        self.part = part
        self.error = f"{type(cause).__name__}: {text_of(cause)}"[:_ERROR_CHARACTERS_MAX]
        cause_code = cause if isinstance(cause, Agent99Error) else None
        self.may_pass = cause_code is not None and cause_code.retryable


class Fold:
    """Folds batches into the tables of one generation.

    Invariant: the tables and the positions of the generation say the same at each commit.
    """

    def __init__(self, definition: Definition, generation: int, clock: Clock) -> None:
        self.names: Final[Names] = definition.names(generation)
        self._definition = definition
        self._generation = generation
        self._clock = clock
        self._which = {"name": definition.name, "generation": generation}

    def __repr__(self) -> str:
        return f"Fold({self._definition!r}, generation={self._generation})"

    def fold(
        self,
        transaction: Transaction,
        batch: Batch,
        aside: Mapping[int, EventError],
        *,
        may_wait: bool,
    ) -> Outcome:
        """Fold a batch; returns `held` if that must wait, `over` if nobody will read it.

        Args:
            transaction: What all of it is in.
            batch: Of one partition.
            aside: By sequence: what is left out, and noted.
            may_wait: Whether it waits if it is to; it has waited long enough otherwise.

        Raises:
            EventError: `apply` raised, at an event that is not to be left out.
            LeaseLostError: another member owns the partition.
            as `Transaction.execute`.
        """
        book_.share(transaction, self._definition.name)
        found = book_.one(transaction, self._definition.name, self._generation)
        if found is None or not found.is_at_work:
            return "over"
        is_held = found.state == "live" and found.held_until_us > self._clock.wall_us()
        if is_held and may_wait:
            return "held"
        records = batch.fresh(transaction)
        if not records:
            return "done"
        first = records[0].sequence
        if found.first_sequence is None or first < found.first_sequence:
            transaction.execute(_NOTE_FIRST, self._which | {"first": first})
        tables = Tables(transaction, self.names, self._definition.version)
        for record in records:
            left_out = aside.get(record.sequence)
            if left_out is None:
                self._apply(tables, record, batch)
            else:
                self.note(transaction, left_out, is_set_aside=True)
        return "done"

    def note(self, transaction: Transaction, failed: EventError, *, is_set_aside: bool) -> None:
        """Note an event at which `apply` raised, so that the status says so."""
        values: dict[str, Any] = {
            "sequence": failed.sequence,
            "part": failed.part,
            "event_id": failed.event_id,
            "type": failed.type,
            "error": failed.error.replace("\0", "�"),
            "is_set_aside": int(is_set_aside),
        }
        transaction.execute(_NOTE_FAILURE, self._which | values)

    def count_aside(self, transaction: Transaction) -> int:
        """Return how many events of the generation were left out."""
        return int(transaction.execute(_COUNT_ASIDE, self._which).scalar() or 0)

    def _apply(self, tables: Tables, record: Record, batch: Batch) -> None:
        event: Event | None = None
        transaction, projection = tables.transaction, self._definition.projection
        try:
            # Without the member's claim: `is_new` has been asked here, it must not be again.
            event = event_of(record, attempt=batch.attempt)
            if projection.ignores_repeats and not transaction.first_time(
                event.id, reader=batch.reader
            ):
                return
            projection.apply(tables, event)
            if transaction.doom is not None:  # it was caught, but nothing can take effect any more
                raise transaction.doom
        except LeaseLostError:
            raise
        except Exception as error:  # a user's code: it is noted with the event, and goes on
            raise EventError(record, event, batch.partition, error) from error
