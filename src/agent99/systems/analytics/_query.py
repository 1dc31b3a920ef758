"""Reads what the database has of a job: rows of closed windows, and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.errors import Failure
from agent99.systems.analytics._delta import WindowRow, key_of, key_text
from agent99.systems.analytics._jobs import current_version, reader_of_job
from agent99.systems.analytics._pages import PAGE_BYTES_MAX
from agent99.systems.analytics._questions import (
    UNKNOWN_JOB,
    After,
    JobInfo,
    PipelineStats,
    RowsPage,
    RowsQuery,
)
from agent99.systems.analytics._watermark import FOREVER_US
from agent99.systems.analytics._windows import SECOND_US

if TYPE_CHECKING:
    from agent99.store import Transaction

ROW_COLUMNS: Final = (
    *("start_us", "end_us", "key", "number"),
    *("figures", "records", "revision", "is_retracted"),
)
_SELECT: Final = "".join(
    (
        *("SELECT ", ", ".join(ROW_COLUMNS)),
        " FROM analytics_row WHERE reader = :reader AND pipeline = :pipeline",
    )
)
_ORDER: Final = " ORDER BY end_us, start_us, key, number LIMIT :limit"
_BACKWARDS: Final = " ORDER BY end_us DESC, start_us DESC, key DESC, number DESC LIMIT :limit"
_BEHIND: Final = "(end_us, start_us, key, number) {} (:a_end, :a_start, :a_key, :a_number)"
_READ_CLOSER: Final = (
    "SELECT turn, watermark_us, owner, epoch FROM analytics_closer"
    " WHERE reader = :reader AND pipeline = :pipeline"
)
_STATS: Final = (
    "SELECT c.pipeline, c.turn, c.watermark_us, c.owner, c.row_count,"
    " (SELECT count(*) FROM analytics_delta d WHERE d.reader = c.reader"
    " AND d.pipeline = c.pipeline) AS delta_count"
    " FROM analytics_closer c WHERE c.reader = :reader ORDER BY c.pipeline"
)
_COUNTS: Final = (
    "SELECT pipeline, sum(records), sum(on_time), sum(late), sum(dropped), sum(skipped),"
    " sum(refused), sum(refused_records), sum(repeated) FROM analytics_count"
    " WHERE reader = :reader GROUP BY pipeline"
)
_JOBS: Final = (
    "SELECT v.job, v.version, v.reader, j.version AS current FROM analytics_version v"
    " JOIN analytics_job j ON j.mesh = v.mesh AND j.job = v.job"
    " WHERE v.mesh = :mesh ORDER BY v.job, v.version"
)
_PIPELINES: Final = "SELECT pipeline FROM analytics_closer WHERE reader = :reader ORDER BY pipeline"


class Found(msgspec.Struct, frozen=True):
    """Which rows of the database a question is about."""

    reader: str
    version: int
    turn: int
    watermark_us: int | None
    owner: str
    """The processor that closes the pipeline's windows; empty: nobody."""
    epoch: int
    """Of its lease."""


def find(transaction: Transaction, mesh: str, job: str, query: RowsQuery) -> Found:
    """Return which rows a question is about.

    Args:
        job: That is meant where the question names none.

    Raises:
        Failure: the database does not know them.
    """
    name = query.job or job
    version = query.version or current_version(transaction, mesh, name)
    if version is None:
        raise unknown(f"the database knows no job {name!r}")
    reader = reader_of_job(mesh, name, version)
    values = {"reader": reader, "pipeline": query.pipeline}
    found = transaction.execute(_READ_CLOSER, values).first()
    if found is None:
        what = f"no pipeline {query.pipeline!r} of version {version} of job {name!r}"
        raise unknown(f"the database knows {what}")
    return Found(reader, version, found.turn, found.watermark_us, found.owner, found.epoch)


def unknown(message: str) -> Failure:
    """Return the answer to a question about what the database does not know."""
    return Failure(message, code=UNKNOWN_JOB)


def closed_rows(
    transaction: Transaction, found: Found, query: RowsQuery
) -> tuple[list[WindowRow], After | None]:
    """Return a page of closed rows, and where the next one begins."""
    values: dict[str, Any] = {"reader": found.reader, "pipeline": query.pipeline}
    values["limit"] = query.limit + 1
    where: list[str] = []
    if query.after_turn >= 0:
        where.append("turn > :turn")
        values["turn"] = query.after_turn
    else:
        where.append("is_retracted = 0")
    if query.key is not None:
        where.append("key = :key")
        values["key"] = key_text(tuple(query.key))
    if query.since_us is not None:
        where.append("end_us > :since_us")
        values["since_us"] = query.since_us
    if query.until_us is not None:
        where.append("start_us < :until_us")
        values["until_us"] = query.until_us
    if query.after is not None:
        where.append(_BEHIND.format("<" if query.is_backwards else ">"))
        after = query.after
        values |= {"a_end": after.end_us, "a_start": after.start_us}
        values |= {"a_key": after.key, "a_number": after.number}
    order = _BACKWARDS if query.is_backwards else _ORDER
    statement = "".join((_SELECT, *(f" AND {one}" for one in where), order))
    return _page(transaction.tuples(statement, values), query)


def _page(rows: Any, query: RowsQuery) -> tuple[list[WindowRow], After | None]:
    page: list[WindowRow] = []
    size, after = 0, None
    for row in rows:
        start_us, end_us, key, number, figures, *_ = row
        is_cut = len(figures) > PAGE_BYTES_MAX
        size += len(key) + (0 if is_cut else len(figures)) + 128
        if len(page) == query.limit or (page and size > PAGE_BYTES_MAX):
            return page, after
        page.append(row_of(query.pipeline, row, is_cut=is_cut))
        after = After(end_us, start_us, key, number)
    return page, None


def row_of(pipeline: str, stored: Sequence[Any], *, is_cut: bool = False) -> WindowRow:
    """Return a row as a database has it, in the order of `ROW_COLUMNS`.

    Args:
        is_cut: Leave out its values, which no message would hold.
    """
    start_us, end_us, key, number, figures, records, revision, is_retracted = stored
    return WindowRow(
        pipeline=pipeline,
        start_us=start_us,
        end_us=end_us,
        key=key_of(key),
        values={} if is_cut else msgspec.json.decode(figures),
        rows=records,
        state="closed",
        revision=revision,
        is_retracted=bool(is_retracted),
        is_cut=is_cut,
        number=number,
    )


def behind(stored: Sequence[Any]) -> dict[str, Any]:
    """Return the place of a row in the order of all, as statements are given it."""
    start_us, end_us, key, number, *_ = stored
    return {"end_us": end_us, "start_us": start_us, "key": key, "number": number}


def page_of(found: Found, query: RowsQuery, job: str, key: list[str]) -> RowsPage:
    """Return a page without rows."""
    return RowsPage(
        job=query.job or job,
        version=found.version,
        pipeline=query.pipeline,
        key=key,
        rows=[],
        turn=found.turn,
        watermark_us=found.watermark_us,
    )


def pipeline_stats(transaction: Transaction, reader: str, now_us: int) -> list[PipelineStats]:
    """Return the counts of all pipelines of a reader."""
    counts = {
        pipeline: tuple(map(int, numbers))
        for pipeline, *numbers in transaction.tuples(_COUNTS, {"reader": reader})
    }
    stats: list[PipelineStats] = []
    for row in transaction.execute(_STATS, {"reader": reader}):
        numbers = counts.get(row.pipeline, (0,) * 8)
        records, on_time, late, dropped, skipped, refused, refused_records, repeated = numbers
        at_us: int | None = row.watermark_us
        has_lag = at_us is not None and at_us != FOREVER_US
        stats.append(
            PipelineStats(
                pipeline=row.pipeline,
                records=records,
                on_time=on_time,
                late=late,
                dropped=dropped,
                skipped=skipped,
                refused_events=refused,
                refused_records=refused_records,
                repeated_events=repeated,
                rows=row.row_count,
                deltas=row.delta_count,
                turn=row.turn,
                watermark_us=at_us,
                lag_s=(now_us - at_us) / SECOND_US if has_lag and at_us is not None else None,
                closer=row.owner,
            )
        )
    return stats


def known_jobs(transaction: Transaction, mesh: str) -> list[JobInfo]:
    """Return all versions of jobs of a mesh."""
    return [
        JobInfo(
            row.job,
            row.version,
            row.version == row.current,
            transaction.execute(_PIPELINES, {"reader": row.reader}).scalars(),
        )
        for row in transaction.execute(_JOBS, {"mesh": mesh})
    ]
