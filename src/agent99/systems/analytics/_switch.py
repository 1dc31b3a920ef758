"""Which version of a job is asked for, and how another one takes its place: no gap, nothing twice.

Only the current version tells its rows to the log. A closer asks which one that is in the
transaction of its rows, behind the lock of its own row in `analytics_closer`; a switch takes that
lock of all closers of both versions first. So each row of the old version is written, and told,
before the switch or is silent; and each of the new one is silent, or is told after it. What the new
one has closed and the old one has not is told by the switch itself; what the old one has told and
the new one has yet to close is noted, and not told again (`_told`).

So a switch is exact however far behind the new version is. It is refused all the same until that
one has closed what the old one had closed when the switch was asked for: who asks for rows would
see fewer. At one moment, under load, it never has; but it gets to where the old one was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.errors import Failure
from agent99.systems.analytics._board_cells import NEVER_US
from agent99.systems.analytics._jobs import current_version, lock_job, reader_of_job
from agent99.systems.analytics._query import ROW_COLUMNS, behind, row_of, unknown
from agent99.systems.analytics._questions import VERSION_BEHIND, Goal, Switched
from agent99.systems.analytics._reached import Cursors, Reached, decode_cursors
from agent99.systems.analytics._results import ROWS_MAX, put_events
from agent99.systems.analytics._told import note_told, same_window, settle
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import SECOND_US, CountOf

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._delta import WindowRow
    from agent99.systems.analytics._pipeline import Job, Pipeline

_LOCK_CLOSER: Final = (
    "UPDATE analytics_closer SET turn = turn WHERE reader = :reader AND pipeline = :pipeline"
)
_READ_CLOSERS: Final = (
    "SELECT pipeline, turn, watermark_us, forgotten_us, cursors, told_turn, told_cursors"
    " FROM analytics_closer WHERE reader = :reader ORDER BY pipeline"
)
_SET: Final = "UPDATE analytics_job SET version = :version WHERE mesh = :mesh AND job = :job"
_LEAVE: Final = "UPDATE analytics_closer SET told_turn = turn WHERE reader = :reader"
_COUNT_LACKING: Final = (
    "SELECT count(*) FROM analytics_row WHERE reader = :reader AND pipeline = :pipeline"
    " AND end_us > :since_us AND end_us <= :until_us AND is_retracted = 0"
)
# What the old version has not; and of what could still be corrected, whatever has records that the
# old one had not merged yet: it would have told them, and is silent now. What the old one was still
# to be silent about, from the one before it, counts as told by it.
_UNTOLD: Final = "".join(
    (
        *("SELECT ", ", ".join(f"n.{column}" for column in ROW_COLUMNS)),
        " FROM analytics_row n LEFT JOIN analytics_row o ON o.reader = :old AND ",
        *(same_window("o", "n"), " LEFT JOIN analytics_told t ON t.reader = :old AND "),
        *(same_window("t", "n"), " WHERE n.reader = :new AND n.pipeline = :pipeline"),
        " AND (n.end_us, n.start_us, n.key, n.number) > (:end_us, :start_us, :key, :number)",
        " AND CASE WHEN coalesce(t.records, o.records) IS NULL",
        " THEN n.is_retracted = 0 AND n.turn > :told_turn",
        " WHEN n.end_us <= :settled_us THEN 1 = 0",
        " WHEN n.is_retracted = 1 THEN coalesce(t.is_retracted, o.is_retracted) = 0",
        " ELSE coalesce(t.is_retracted, o.is_retracted) = 0",
        " AND n.records > coalesce(t.records, o.records) END",
        " ORDER BY n.end_us, n.start_us, n.key, n.number LIMIT :limit",
    )
)


class _Closer(msgspec.Struct, frozen=True):
    """A closer as the database has it."""

    turn: int
    reached: Reached
    forgotten_us: int | None
    told_turn: int
    """The last one whose rows were told, when its version was last switched away from."""
    told_cursors: Cursors
    """What the version before it had merged, of which it is still to be silent."""


def check_reached(transaction: Transaction, mesh: str, job: Job, goal: Goal | None) -> None:
    """Refuse a version that has not closed what the current one has.

    Args:
        goal: What that had closed, if the switch was asked for before.

    Raises:
        Failure: how far it is behind, and the goal (`VERSION_BEHIND`).
        as `Transaction.execute`.
    """
    before = current_version(transaction, mesh, job.name)
    if before is None or before == job.version:
        return
    old, new = (reader_of_job(mesh, job.name, each) for each in (before, job.version))
    if goal is None or goal.version != before:
        closers = _closers(transaction, old)
        goal = Goal(before, {name: one.reached for name, one in closers.items()})
    closers = _closers(transaction, new)
    for name in sorted(job.pipelines.keys() & closers.keys() & goal.pipelines.keys()):
        reached, wanted = closers[name].reached, goal.pipelines[name]
        lacks = _lacks(transaction, job.pipelines[name], old, reached, wanted)
        if lacks:
            message = (
                f"version {job.version} of job {job.name!r} is behind version {before} with"
                f" pipeline {name!r}: {lacks}"
            )
            details = {"goal": msgspec.to_builtins(goal, str_keys=True)}
            raise Failure(message, code=VERSION_BEHIND, details=details, retryable=True)


def switch(transaction: Transaction, mesh: str, job: Job) -> Switched:
    """Have a version of a job be the one that is asked for, and tell what the one before has not.

    Delivery: each window that either of them has closed is in the log, once; corrections come from
        this version from now on.

    Raises:
        Failure: the database does not know the job, or the version (`UNKNOWN_JOB`).
        as `Transaction.execute`.
    """
    before = lock_job(transaction, mesh, job.name)
    if before is None:
        raise unknown(f"the database knows no job {job.name!r}")
    if before == job.version:
        return Switched(job.name, job.version, before, 0)
    old, new = (reader_of_job(mesh, job.name, each) for each in (before, job.version))
    closers_old, closers_new = (_lock(transaction, each) for each in (old, new))
    if job.pipelines.keys() - closers_new.keys():
        raise unknown(f"version {job.version} of job {job.name!r} has been dropped")
    transaction.execute(_SET, {"mesh": mesh, "job": job.name, "version": job.version})
    transaction.execute(_LEAVE, {"reader": old})
    told = 0
    for name, pipeline in job.pipelines.items():
        closers = closers_old.get(name), closers_new[name]
        at = closers[1].turn, closers[1].reached.watermark_us
        for rows in _told_now(transaction, pipeline, (old, new), closers):
            put_events(transaction, job, pipeline, at, rows)
            told += len(rows)
    return Switched(job.name, job.version, before, told)


def _closers(transaction: Transaction, reader: str) -> dict[str, _Closer]:
    return {
        row.pipeline: _Closer(
            row.turn,
            Reached(row.watermark_us, decode_cursors(row.cursors)),
            row.forgotten_us,
            row.told_turn,
            decode_cursors(row.told_cursors or "{}"),
        )
        for row in transaction.execute(_READ_CLOSERS, {"reader": reader})
    }


def _lock(transaction: Transaction, reader: str) -> dict[str, _Closer]:
    """Have no closer of a version write until this has ended; returns how far they are.

    One by one, in the order in which all who lock several do so.
    """
    for pipeline in _closers(transaction, reader):
        transaction.execute(_LOCK_CLOSER, {"reader": reader, "pipeline": pipeline})
    return _closers(transaction, reader)


def _lacks(
    transaction: Transaction, pipeline: Pipeline, old: str, reached: Reached, wanted: Reached
) -> str:
    """Say what a closer has yet to do to be as far as the old one was; empty: nothing."""
    if isinstance(pipeline.window, CountOf):  # no time closes them: what was merged does
        places = reached.lacks(wanted.cursors)
        return f"{places:,} places of the log" if places else ""
    since_us, until_us = reached.watermark_us, wanted.watermark_us
    if until_us is None or (since_us is not None and since_us >= until_us):
        return ""
    # A watermark may lie before another one, and behind the same windows.
    span = {"since_us": NEVER_US if since_us is None else since_us, "until_us": until_us}
    values = {"reader": old, "pipeline": pipeline.name} | span
    windows = int(transaction.execute(_COUNT_LACKING, values).scalar() or 0)
    if not windows:
        return ""
    if since_us is None:
        return f"{windows:,} windows; it has no watermark yet"
    if until_us == FOREVER_US:
        return f"{windows:,} windows, up to the end of the source"
    return f"{windows:,} windows, {(until_us - since_us) / SECOND_US:,.1f} s of the records' time"


def _told_now(
    transaction: Transaction,
    pipeline: Pipeline,
    readers: tuple[str, str],
    closers: tuple[_Closer | None, _Closer],
) -> Iterator[list[WindowRow]]:
    """Yield what the switch tells of a pipeline, some rows at a time; note what was told before."""
    old, new = closers
    settled_us = NEVER_US if old is None else _settled_us(pipeline, old)
    bounds = {"settled_us": settled_us, "told_turn": new.told_turn}
    yield from _untold(transaction, pipeline.name, readers, bounds)
    if old is None:
        return
    cursors = _further(old.reached.cursors, old.told_cursors)
    from_us = min(settled_us, _settled_us(pipeline, new))
    is_noted = note_told(transaction, pipeline, readers, from_us, cursors)
    if is_noted and not new.reached.lacks(cursors):
        yield settle(transaction, pipeline, readers[1], new.reached, new.turn)


def _settled_us(pipeline: Pipeline, closer: _Closer) -> int:
    """Return up to which end a closer has left windows as they are, for good."""
    if closer.forgotten_us is None or isinstance(pipeline.window, CountOf):
        return NEVER_US
    return closer.forgotten_us


def _further(one: Cursors, other: Cursors) -> Cursors:
    return one | {part: max(at, one.get(part, at)) for part, at in other.items()}


def _untold(
    transaction: Transaction, pipeline: str, readers: tuple[str, str], bounds: dict[str, int]
) -> Iterator[list[WindowRow]]:
    """Yield the rows of the new version that the old one has not told, in order, some at a time."""
    old, new = readers
    values: dict[str, Any] = {"old": old, "new": new, "pipeline": pipeline, "limit": ROWS_MAX}
    after = behind((NEVER_US, NEVER_US, "", 0))
    while True:
        found = list(transaction.tuples(_UNTOLD, values | bounds | after))
        if found:
            yield [row_of(pipeline, row) for row in found]
        if len(found) < ROWS_MAX:
            return
        after = behind(found[-1])
