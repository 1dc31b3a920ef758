"""What leaves a pipeline: its rows as events of the log, in columns, and as hints for who watches.

An event has the rows of one turn of the closer, or some of them: at most `ROWS_MAX`, and no more
than an event can hold.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.errors import PayloadTooLargeError
from agent99.systems.analytics._delta import Key, WindowRow
from agent99.systems.analytics._names import results_topic
from agent99.systems.analytics._pages import cut

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._pipeline import Job, Pipeline

ROWS_MAX: Final = 1_000
"""In one event."""
SHOWN_ROWS_MAX: Final = 200
"""In one hint; who is to see more has to ask."""
_LISTS: Final = ("start_us", "end_us", "number", "rows", "revision", "is_retracted", "is_cut")

_log = logging.getLogger("agent99.systems.analytics")


class ClosedWindows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of windows that have closed, or changed since: an event of `windows.{job}.{pipeline}`.

    All lists are of one length: a row has a place in each.
    """

    job: str
    version: int
    pipeline: str
    turn: int
    """In which turn of the closer they came: it grows by 1 with each that has rows."""
    watermark_us: int | None
    """None: there was none yet, as there need not be where windows are by count."""
    start_us: list[int]
    end_us: list[int]
    number: list[int]
    key: dict[str, list[Any]]
    """By the columns of the pipeline's key."""
    values: dict[str, list[Any]]
    """By its aggregates; None of a row that is taken back, or cut."""
    rows: list[int]
    """Records in the window."""
    revision: list[int]
    is_retracted: list[bool]
    is_cut: list[bool]
    """Whether the values of the row were too large for an event: the database has them."""


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """A hint to whoever watches a pipeline: it has closed windows, or changed closed ones."""

    turn: int
    watermark_us: int | None
    rows: list[WindowRow] | None
    """None: too many to be told here; ask for them."""


def put_events(
    transaction: Transaction,
    job: Job,
    pipeline: Pipeline,
    turned: tuple[int, int | None],
    rows: Sequence[WindowRow],
) -> None:
    """Put rows into the outbox, in order.

    Args:
        turned: The turn, and the watermark.

    Delivery: each exactly once in the log, by the outbox's ids; in the order of the turns.

    Raises:
        as `Transaction.append`.
    """
    for first in range(0, len(rows), ROWS_MAX):
        _put(transaction, job, pipeline, turned, rows[first : first + ROWS_MAX])


def _put(
    transaction: Transaction,
    job: Job,
    pipeline: Pipeline,
    turned: tuple[int, int | None],
    rows: Sequence[WindowRow],
) -> None:
    event = _columns(job, pipeline, turned, rows)
    try:
        topic = results_topic(job.name, pipeline.name)
        transaction.append(topic, event, key=f"{job.name}.{pipeline.name}")
    except PayloadTooLargeError:
        if len(rows) == 1:
            if rows[0].is_cut:
                raise
            which = (pipeline.name, rows[0].key, rows[0].start_us)
            _log.warning("%r: the row of %r from %d on is told without its values", *which)
            _put(transaction, job, pipeline, turned, [cut(rows[0])])
            return
        middle = len(rows) // 2
        _put(transaction, job, pipeline, turned, rows[:middle])
        _put(transaction, job, pipeline, turned, rows[middle:])


def _columns(
    job: Job, pipeline: Pipeline, turned: tuple[int, int | None], rows: Sequence[WindowRow]
) -> ClosedWindows:
    turn, watermark_us = turned
    return ClosedWindows(
        job=job.name,
        version=job.version,
        pipeline=pipeline.name,
        turn=turn,
        watermark_us=watermark_us,
        start_us=[row.start_us for row in rows],
        end_us=[row.end_us for row in rows],
        number=[row.number for row in rows],
        key={name: [row.key[at] for row in rows] for at, name in enumerate(pipeline.key)},
        values={name: [row.values.get(name) for row in rows] for name in pipeline.aggregates},
        rows=[row.rows for row in rows],
        revision=[row.revision for row in rows],
        is_retracted=[row.is_retracted for row in rows],
        is_cut=[row.is_cut for row in rows],
    )


def rows_of(event: ClosedWindows) -> list[WindowRow]:
    """Return the rows of an event, in its order: what a group of your own makes of one."""
    keys: list[Key] = list(zip(*event.key.values(), strict=True)) if event.key else []
    return [
        WindowRow(
            pipeline=event.pipeline,
            start_us=event.start_us[at],
            end_us=event.end_us[at],
            key=keys[at] if keys else (),
            values={}
            if event.is_retracted[at] or event.is_cut[at]
            else {name: column[at] for name, column in event.values.items()},
            rows=event.rows[at],
            state="closed",
            revision=event.revision[at],
            is_retracted=event.is_retracted[at],
            is_cut=event.is_cut[at],
            number=event.number[at],
        )
        for at in range(len(event.start_us))
    ]


def has_whole_rows(event: ClosedWindows) -> bool:
    """Tell whether all lists of an event are of one length, as they are where we wrote it."""
    lists = [getattr(event, name) for name in _LISTS]
    return len({len(one) for one in (*lists, *event.key.values(), *event.values.values())}) == 1


def row_alone(event: ClosedWindows, at: int) -> ClosedWindows:
    """Return the event that would tell one row of an event alone."""
    one = slice(at, at + 1)
    lists = {name: getattr(event, name)[one] for name in _LISTS}
    return msgspec.structs.replace(
        event,
        **lists,
        key={name: column[one] for name, column in event.key.items()},
        values={name: column[one] for name, column in event.values.items()},
    )
