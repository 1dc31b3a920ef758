"""`agent99 analytics`: what the windows of a stream say, and how far they are."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent99.cli._analytics_anomalies import add_anomalies
from agent99.cli._analytics_jobs import (
    JobOptions,
    PipelineName,
    WindowsOptions,
    about,
    find_jobs,
    find_pipeline,
)
from agent99.cli._analytics_rows import row_cells, row_table, window_moment
from agent99.cli._analytics_versions import add_versions
from agent99.cli._command import add_command
from agent99.cli._exits import Exit
from agent99.cli._join import join, run_async
from agent99.cli._live import until_stopped
from agent99.cli._scope import Scope
from agent99.cli._show import compact, count, duration, print_json, print_table, short, tell
from agent99.errors import RemoteError

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.systems.analytics import JobInfo, JobStats, PipelineStats, SinkStats, WindowRow

_STATUS_COLUMNS = (
    *("pipeline", "records", "on time", "late", "dropped", "skipped", "refused"),
    *("repeated", "closed", "waiting", "watermark", "lag", "closer"),
)
_STATUS_NUMBERS = frozenset(_STATUS_COLUMNS) - {"pipeline", "watermark", "closer"}
_SINK_COLUMNS = ("pipeline", "sink", "lag", "delivered", "refused", "buried", "error")
_SINK_NUMBERS = frozenset({"lag", "delivered", "refused", "buried"})


class QueryOptions(WindowsOptions, frozen=True):
    """The options of `agent99 analytics query` alone."""

    open: Annotated[
        bool, typer.Option("--open", help="Windows that are open alone; else closed ones, too.")
    ] = False
    latest: Annotated[bool, typer.Option("--latest", help="The latest row comes first.")] = False


class WatchOptions(JobOptions, frozen=True):
    """The options of `agent99 analytics watch` alone."""

    all: Annotated[
        bool, typer.Option("--all", help="Begin with the windows that are closed already.")
    ] = False


# --- query ----------------------------------------------------------------------------------------


def query(scope: Scope, options: QueryOptions, pipeline: PipelineName) -> int:
    r"""Print the rows of a pipeline: the closed windows by their ends, then the open ones.

    \b
    agent99 analytics query revenue
    agent99 analytics query revenue --key France --since 2026-03-01 --until 2026-04-01
    agent99 analytics query revenue --open --json | jq '.rows[].values'
    agent99 analytics query revenue --latest --limit 5

    Times are UTC. A row that late records have corrected says its revision.
    """
    asked = options.asked() | {"state": "open" if options.open else "all"}
    return run_async(_query(scope, options, pipeline, asked))


async def _query(scope: Scope, options: QueryOptions, pipeline: str, asked: dict[str, Any]) -> int:
    from agent99.systems.analytics import Analytics

    async with join(scope) as mesh:
        job = await find_pipeline(mesh, options, pipeline)
        figures = Analytics(mesh, job.job, version=job.version)
        # One more tells whether there are others.
        rows = await figures.query(pipeline, **asked, limit=options.limit + 1)
    shown, has_more = rows[-options.limit :], len(rows) > options.limit
    if options.latest:
        shown.reverse()
    if scope.json:
        answer = {"rows": shown, "count": len(shown), "has_more": has_more}
        print_json({**about(job, pipeline), **answer})
        return Exit.OK
    if shown:
        columns, cells, numbers = row_table(shown)
        print_table(columns, cells, numbers=numbers)
    more = "; earlier ones are left out: --limit" if has_more else ""
    tell(f"{count(len(shown), 'row')} of pipeline {pipeline!r}{more}")
    return Exit.OK


# --- watch ----------------------------------------------------------------------------------------


def watch(scope: Scope, options: WatchOptions, pipeline: PipelineName) -> int:
    r"""Print rows as windows close and are corrected, until Ctrl-C.

    \b
    agent99 analytics watch revenue
    agent99 analytics watch revenue --all --json | jq -c .values

    With --json a row is one line. Ctrl-C is exit code 0.
    """
    return run_async(_watch(scope, options, pipeline))


async def _watch(scope: Scope, options: WatchOptions, pipeline: str) -> int:
    async with join(scope) as mesh:
        job = await find_pipeline(mesh, options, pipeline)
        await until_stopped(_print_changes(mesh, scope, options, job, pipeline))
    return Exit.OK


async def _print_changes(
    mesh: Mesh, scope: Scope, options: WatchOptions, job: JobInfo, pipeline: str
) -> None:
    from agent99.systems.analytics import Analytics

    figures = Analytics(mesh, job.job, version=job.version)
    async with aclosing(figures.follow(pipeline)) as changes:
        async for change in changes:
            if change.is_snapshot and not options.all:
                continue
            for row in change.rows:
                tell(compact(row) if scope.json else _line(row))


def _line(row: WindowRow) -> str:
    figures = tuple(row.values)
    start, end, key, *cells = row_cells(row, figures)
    words = (f"{name} {cell}" for name, cell in zip(figures, cells, strict=False))
    return "  ".join((start, end, key, *words, cells[-1]))


# --- status ---------------------------------------------------------------------------------------


def status(scope: Scope) -> int:
    r"""Show the jobs: what became of their records, and how far their windows are.

    \b
    agent99 analytics status
    agent99 analytics status --json | jq '.jobs[].pipelines[] | {pipeline, lag_s}'

    On time, late, dropped and skipped add up to the records. WAITING counts parts of windows that
    are not closed, or may be corrected yet.
    """
    return run_async(_status(scope))


async def _status(scope: Scope) -> int:
    from agent99.systems.analytics import Analytics

    async with join(scope) as mesh:
        stats: list[JobStats] = []
        idle: list[JobInfo] = []
        for job in await find_jobs(mesh):
            try:
                stats.append(await Analytics(mesh, job.job, version=job.version).stats())
            except RemoteError:  # the database knows it, and no processor runs it
                idle.append(job)
        if scope.json:
            print_json({"mesh": mesh.name, "url": mesh.url, "jobs": stats, "idle": idle})
            return Exit.OK
    for one in stats:
        _print_status(one)
    for job in idle:
        tell(f"job {job.job!r}, version {job.version}: no processor runs it")
    return Exit.OK


def _print_status(stats: JobStats) -> None:
    is_current = "" if stats.version == stats.current_version else ", which is not asked for"
    rows = [_status_row(one) for one in stats.pipelines]
    print_table(_STATUS_COLUMNS, rows, numbers=_STATUS_NUMBERS)
    if stats.sinks:
        print_table(_SINK_COLUMNS, [_sink_row(one) for one in stats.sinks], numbers=_SINK_NUMBERS)
    tell(
        f"job {stats.job!r}, version {stats.version}{is_current};"
        f" {count(stats.processors, 'processor')}"
    )


def _status_row(stats: PipelineStats) -> tuple[str, ...]:
    counts = (stats.records, stats.on_time, stats.late, stats.dropped, stats.skipped)
    more = (stats.refused_events, stats.repeated_events, stats.rows, stats.deltas)
    watermark = "-" if stats.watermark_us is None else window_moment(stats.watermark_us)
    return (
        *(stats.pipeline, *(f"{number:,}" for number in (*counts, *more)), watermark),
        *("-" if stats.lag_s is None else duration(stats.lag_s), short(stats.closer) or "-"),
    )


def _sink_row(stats: SinkStats) -> tuple[str, ...]:
    lag = "-" if stats.lag is None else f"{stats.lag:,}"
    counts = (stats.delivered, stats.refused, stats.refused_events)
    numbers = tuple(f"{number:,}" for number in counts)
    return (stats.pipeline, stats.sink, lag, *numbers, stats.error or "-")


def build_app() -> typer.Typer:
    """Return the group of commands."""
    app = typer.Typer(
        help="Look at the figures of streams: their windows, open and closed; switch versions.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for name, function in (("query", query), ("watch", watch), ("status", status)):
        add_command(app, name, function)
    add_anomalies(app)
    add_versions(app)
    return app
