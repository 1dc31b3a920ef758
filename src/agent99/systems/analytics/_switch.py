"""Which version of a job is asked for, and how another one takes its place: no gap, nothing twice.

Only the current version tells its rows to the log. A closer asks which one that is in the
transaction of its rows, behind the lock of its own row in `analytics_closer`; a switch takes that
lock of all closers of both versions first. So each row of the old version is written, and told,
before the switch or is silent; and each of the new one is silent, or is told after it. What the new
one has closed and the old one has not is told by the switch itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent99.errors import Failure
from agent99.systems.analytics._board_cells import NEVER_US
from agent99.systems.analytics._closed_rows import Cursors, decode_cursors
from agent99.systems.analytics._jobs import current_version, reader_of_job
from agent99.systems.analytics._query import ROW_COLUMNS, behind, row_of, unknown
from agent99.systems.analytics._questions import VERSION_BEHIND, Switched
from agent99.systems.analytics._results import ROWS_MAX, put_events
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import SECOND_US, CountOf

if TYPE_CHECKING:
    from agent99.store import Transaction
    from agent99.systems.analytics._delta import WindowRow
    from agent99.systems.analytics._pipeline import Job, Pipeline

_LOCK_JOB: Final = (
    "UPDATE analytics_job SET version = version WHERE mesh = :mesh AND job = :job"  # for its lock
)
_LOCK_CLOSERS: Final = "UPDATE analytics_closer SET turn = turn WHERE reader = :reader"
_READ_CLOSERS: Final = (
    "SELECT pipeline, turn, watermark_us, forgotten_us, cursors FROM analytics_closer"
    " WHERE reader = :reader"
)
_SET: Final = "UPDATE analytics_job SET version = :version WHERE mesh = :mesh AND job = :job"
# What ended since; and of what could still be corrected, whatever has records that the old version
# had not merged yet: it would have told them, and is silent now. What only the old one has merged
# the new one will yet merge, and tell.
_UNTOLD: Final = "".join(
    (
        *("SELECT ", ", ".join(f"n.{column}" for column in ROW_COLUMNS)),
        " FROM analytics_row n LEFT JOIN analytics_row o ON o.reader = :old",
        " AND o.pipeline = n.pipeline AND o.end_us = n.end_us AND o.start_us = n.start_us",
        " AND o.key = n.key AND o.number = n.number",
        " WHERE n.reader = :new AND n.pipeline = :pipeline",
        " AND (n.end_us, n.start_us, n.key, n.number) > (:end_us, :start_us, :key, :number)",
        " AND CASE WHEN o.reader IS NULL THEN n.is_retracted = 0",
        " WHEN n.is_retracted = 1 THEN o.is_retracted = 0",
        " ELSE o.is_retracted = 1 OR n.records > o.records END",
        " ORDER BY n.end_us, n.start_us, n.key, n.number LIMIT :limit",
    )
)


class _Reach(NamedTuple):
    """How far a closer was when it last wrote."""

    turn: int
    watermark_us: int | None
    forgotten_us: int | None
    cursors: Cursors


def switch(transaction: Transaction, mesh: str, job: Job, *, is_forced: bool = False) -> Switched:
    """Have a version of a job be the one that is asked for, and tell what the one before has not.

    Delivery: each window that either of them has closed is in the log, once; corrections come from
        this version from now on.

    Raises:
        Failure: it is behind the current one, and by how much (`VERSION_BEHIND`); the database does
            not know the job (`UNKNOWN_JOB`).
        as `Transaction.execute`.
    """
    which = {"mesh": mesh, "job": job.name}
    transaction.execute(_LOCK_JOB, which)
    before = current_version(transaction, mesh, job.name)
    if before is None:
        raise unknown(f"the database knows no job {job.name!r}")
    if before == job.version:
        return Switched(job.name, job.version, before, 0)
    old, new = (reader_of_job(mesh, job.name, each) for each in (before, job.version))
    reached_old, reached_new = (_lock(transaction, each) for each in (old, new))
    if not is_forced:
        _check_reached(job, before, reached_old, reached_new)
    transaction.execute(_SET, which | {"version": job.version})
    told = 0
    for name, pipeline in job.pipelines.items():
        at = (reached_new[name].turn, reached_new[name].watermark_us)
        from_us = _settled_us(pipeline, reached_old.get(name))
        for rows in _untold(transaction, name, (old, new), from_us):
            put_events(transaction, job, pipeline, at, rows)
            told += len(rows)
    return Switched(job.name, job.version, before, told)


def _lock(transaction: Transaction, reader: str) -> dict[str, _Reach]:
    """Have no closer of a version write until this has ended; returns how far they are."""
    transaction.execute(_LOCK_CLOSERS, {"reader": reader})
    return {
        row.pipeline: _Reach(
            row.turn, row.watermark_us, row.forgotten_us, decode_cursors(row.cursors)
        )
        for row in transaction.execute(_READ_CLOSERS, {"reader": reader})
    }


def _check_reached(job: Job, before: int, old: dict[str, _Reach], new: dict[str, _Reach]) -> None:
    """Refuse a version that would close again what is closed already.

    Raises:
        Failure
    """
    for name, pipeline in job.pipelines.items():
        if name in old and (lacks := _lacks(pipeline, old[name], new[name])):
            message = (
                f"version {job.version} of job {job.name!r} is behind version {before} with"
                f" pipeline {name!r}: {lacks}"
            )
            raise Failure(message, code=VERSION_BEHIND, retryable=True)


def _lacks(pipeline: Pipeline, old: _Reach, new: _Reach) -> str:
    """Say what a closer has yet to do to be as far as another one; empty: nothing."""
    if isinstance(pipeline.window, CountOf):  # no time closes them: what was merged does
        missing = sum(max(at - new.cursors.get(part, 0), 0) for part, at in old.cursors.items())
        return f"{missing} places of the log" if missing else ""
    if old.watermark_us is None:
        return ""
    if new.watermark_us is None:
        return "it has no watermark yet"
    if new.watermark_us >= old.watermark_us:
        return ""
    if old.watermark_us == FOREVER_US:
        return "the end of the source"
    return f"{(old.watermark_us - new.watermark_us) / SECOND_US:,.1f} s of the records' time"


def _settled_us(pipeline: Pipeline, old: _Reach | None) -> int:
    """Return up to which end windows are as the old version has left them for good."""
    if old is None or old.forgotten_us is None or isinstance(pipeline.window, CountOf):
        return NEVER_US
    return old.forgotten_us


def _untold(
    transaction: Transaction, pipeline: str, readers: tuple[str, str], from_us: int
) -> Iterator[list[WindowRow]]:
    """Yield the rows of the new version that the old one has not told, in order, some at a time."""
    old, new = readers
    values: dict[str, Any] = {"old": old, "new": new, "pipeline": pipeline, "limit": ROWS_MAX}
    # Behind all windows that end there: no row begins behind its end.
    after = behind((from_us, from_us, "", 0))
    while True:
        found = list(transaction.tuples(_UNTOLD, values | after))
        if found:
            yield [row_of(pipeline, row) for row in found]
        if len(found) < ROWS_MAX:
            return
        after = behind(found[-1])
