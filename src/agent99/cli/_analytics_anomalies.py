"""`agent99 analytics anomalies`: windows whose figure is far from what their key had before."""

from __future__ import annotations

from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent99.cli._analytics_jobs import PipelineName, WindowsOptions, about, find_pipeline
from agent99.cli._analytics_rows import key_words, shown, window_moment
from agent99.cli._command import add_command
from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._live import until_stopped
from agent99.cli._scope import Scope
from agent99.cli._show import compact, count, print_json, print_table, tell

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.systems.analytics import Analytics, Anomaly

THRESHOLD, HALF_LIFE, WARM_UP = 3.0, 24.0, 20
_NUMBERS = ("value", "expected", "deviation", "score")
_COLUMNS = ("start", "end", "key", *_NUMBERS, "state")

FigureName = Annotated[str, typer.Argument(help="Of its rows; one of several as quantiles.0.99.")]


class AnomaliesOptions(WindowsOptions, frozen=True):
    """The options of `agent99 analytics anomalies` alone."""

    threshold: Annotated[
        float, typer.Option("--threshold", metavar="N", help="Deviations that are too many.")
    ] = THRESHOLD
    half_life: Annotated[
        float, typer.Option("--half-life", metavar="N", help="Windows until one counts half.")
    ] = HALF_LIFE
    warm_up: Annotated[
        int, typer.Option("--warm-up", metavar="N", help="First windows of a key, that are none.")
    ] = WARM_UP
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with those that come, until Ctrl-C.")
    ] = False


def anomalies(
    scope: Scope, options: AnomaliesOptions, pipeline: PipelineName, figure: FigureName
) -> int:
    r"""Print the closed windows whose figure is far from what their key had before.

    \b
    agent99 analytics anomalies revenue pence
    agent99 analytics anomalies revenue pence --key France --threshold 4 --since -7d
    agent99 analytics anomalies revenue pence --follow --json | jq -c .key

    SCORE says how far, in deviations of the windows before. With --follow one that late records
    have made none is said to be cleared, and with --json each is a line.
    """
    from agent99.systems.analytics import Ewma

    if options.follow and options.until:
        raise RefusalError("--follow goes on for ever: say no --until with it")
    rule = Ewma(threshold=options.threshold, half_life=options.half_life, warm_up=options.warm_up)
    asked = options.asked() | {"rule": rule}
    if options.follow:
        del asked["until"]
        return run_async(_follow(scope, options, (pipeline, figure), asked))
    return run_async(_print(scope, options, (pipeline, figure), asked))


async def _print(
    scope: Scope, options: AnomaliesOptions, which: tuple[str, str], asked: dict[str, Any]
) -> int:
    async with join(scope) as mesh:
        figures, told = await _find(mesh, options, which[0])
        found = await figures.anomalies(*which, **asked)
    last = list(deque(found, options.limit))
    if scope.json:
        print_json({**told, "figure": which[1], "anomalies": last, "count": len(found)})
        return Exit.OK
    if last:
        print_table(_COLUMNS, map(_cells, last), numbers=frozenset(_NUMBERS))
    left_out = len(found) - len(last)
    more = f"; {count(left_out, 'earlier one')} left out: --limit" if left_out else ""
    number = count(len(last), "anomaly", "anomalies")
    tell(f"{number} of {which[1]!r} of pipeline {which[0]!r}{more}")
    return Exit.OK


async def _follow(
    scope: Scope, options: AnomaliesOptions, which: tuple[str, str], asked: dict[str, Any]
) -> int:
    async with join(scope) as mesh:
        figures, _ = await _find(mesh, options, which[0])
        await until_stopped(_print_each(scope, figures, which, asked))
    return Exit.OK


async def _print_each(
    scope: Scope, figures: Analytics, which: tuple[str, str], asked: dict[str, Any]
) -> None:
    async with aclosing(figures.follow_anomalies(*which, **asked)) as told:
        async for one in told:
            tell(compact(one) if scope.json else _line(one))


async def _find(
    mesh: Mesh, options: AnomaliesOptions, pipeline: str
) -> tuple[Analytics, dict[str, Any]]:
    """Return whom to ask of a pipeline, and what JSON says of it.

    Raises:
        as `find_pipeline`.
    """
    from agent99.systems.analytics import Analytics

    job = await find_pipeline(mesh, options, pipeline)
    return Analytics(mesh, job.job, version=job.version), about(job, pipeline)


def _line(one: Anomaly) -> str:
    start, end, key, *numbers, state = _cells(one)
    words = (f"{name} {cell}" for name, cell in zip(_NUMBERS, numbers, strict=True))
    return "  ".join((start, end, key, *words, state))


def _cells(one: Anomaly) -> tuple[str, ...]:
    return (
        *(window_moment(one.start_us), window_moment(one.end_us), key_words(one.key)),
        *(shown(one.value), shown(one.expected), shown(one.deviation), f"{one.score:+,.1f}"),
        _state(one),
    )


def _state(one: Anomaly) -> str:
    if one.is_cleared:
        return "cleared"
    return f"revision {one.revision}" if one.revision > 1 else "closed"


def add_anomalies(app: typer.Typer) -> None:
    """Add the command to `agent99 analytics`."""
    add_command(app, "anomalies", anomalies)
