"""`agent99 analytics compare`, `switch`, `drop`: the versions of a job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent99.cli._analytics_jobs import find_jobs
from agent99.cli._analytics_rows import parse_moment, row_cells, window_moment
from agent99.cli._command import add_command
from agent99.cli._confirm import ask_first
from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import count, print_json, print_table, tell
from agent99.clock import SystemClock

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.systems.analytics import Comparison

LIMIT = 10
LIMIT_MAX = 1_000

JobName = Annotated[str, typer.Argument(help="As `agent99 analytics status` shows it.")]
Version = Annotated[int, typer.Argument(help="Of the job.", min=1)]


class CompareOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 analytics compare` alone."""

    pipeline: Annotated[
        list[str] | None,
        typer.Option("--pipeline", metavar="NAME", help="Of this alone; else all of both."),
    ] = None
    until: Annotated[
        str, typer.Option("--until", metavar="MOMENT", help="Windows that end by then.")
    ] = ""
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=0, max=LIMIT_MAX, help=f"Differences; {LIMIT} else."
        ),
    ] = LIMIT


class SwitchOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 analytics switch` alone."""

    force: Annotated[bool, typer.Option("--force", help="Also if it is behind.")] = False


class DropOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 analytics drop` alone."""

    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False


def compare(scope: Scope, options: CompareOptions, job: JobName, old: Version, new: Version) -> int:
    r"""Compare what two versions of a job say of the windows that both have closed.

    \b
    agent99 analytics compare sales 1 2
    agent99 analytics compare sales 1 2 --pipeline revenue --until 2026-04-01 --json

    Of figures, those that both have. Exit code 1 if they do not say the same.
    """
    return run_async(_compare(scope, options, job, (old, new)))


async def _compare(
    scope: Scope, options: CompareOptions, job: str, versions: tuple[int, int]
) -> int:
    from agent99.systems.analytics import Analytics

    now_us = SystemClock().wall_us()
    until = parse_moment(options.until, now_us) if options.until else None
    async with join(scope) as mesh:
        names = options.pipeline or await _of_both(mesh, job, versions)
        figures = Analytics(mesh, job)
        found = [
            await figures.compare(*versions, pipeline=name, until=until, limit=options.limit)
            for name in names
        ]
    if scope.json:
        print_json({"job": job, "old": versions[0], "new": versions[1], "pipelines": found})
    else:
        _print_comparisons(found)
    is_same = not any(one.different or one.only_old or one.only_new for one in found)
    return Exit.OK if is_same else Exit.FAILED


async def _of_both(mesh: Mesh, job: str, versions: tuple[int, int]) -> list[str]:
    """Return the pipelines that both versions have.

    Raises:
        RefusalError: one of them is not known, or they have none in common.
    """
    known = {one.version: one.pipelines for one in await find_jobs(mesh) if one.job == job}
    for version in versions:
        if version not in known:
            there = ", ".join(map(str, known)) or "none"
            message = f"there is no version {version} of job {job!r}; there are: {there}"
            raise RefusalError(message, Exit.NOBODY, code="NO_VERSION")
    old, new = (known[version] for version in versions)
    if not (names := [name for name in old if name in new]):
        raise RefusalError(f"the two versions of job {job!r} have no pipeline in common")
    return names


def _print_comparisons(found: list[Comparison]) -> None:
    columns = ("pipeline", "until", "equal", "different", "only old", "only new")
    rows = [
        (
            *(one.pipeline, "-" if one.until_us is None else window_moment(one.until_us)),
            *(f"{n:,}" for n in (one.equal, one.different, one.only_old, one.only_new)),
        )
        for one in found
    ]
    print_table(columns, rows, numbers=frozenset(columns[2:]))
    for comparison in found:
        for one in comparison.differences:
            figures = tuple(name for name in one.old.values if name in one.new.values)
            start, _, key, *old, records, _ = row_cells(one.old, figures)
            *new, records_new, _ = row_cells(one.new, figures)[3:]
            pairs = zip((*figures, "records"), (*old, records), (*new, records_new), strict=True)
            words = (f"{name} {was} → {now}" for name, was, now in pairs if was != now)
            tell("  ".join((comparison.pipeline, start, key, *words)))


def switch(scope: Scope, options: SwitchOptions, job: JobName, version: Version) -> int:
    r"""Have a version of a job be the one that is asked for, and whose rows are events.

    \b
    agent99 analytics switch sales 2

    It must run, and get to where the current one is. No window is left out of the events, and none
    is told twice.
    """
    return run_async(_switch(scope, options, job, version))


async def _switch(scope: Scope, options: SwitchOptions, job: str, version: int) -> int:
    from agent99.systems.analytics import Analytics

    async with join(scope) as mesh:
        done = await Analytics(mesh, job).switch(version, is_forced=options.force)
    if scope.json:
        print_json(done)
        return Exit.OK
    if done.before == done.version:
        tell(f"job {job!r} is at version {version} already")
    else:
        rows = count(done.told, "row")
        tell(f"job {job!r}: version {done.before} → {version}; {rows} told by the switch")
    return Exit.OK


def drop(scope: Scope, options: DropOptions, job: JobName, version: Version) -> int:
    r"""Forget a version of a job that is neither asked for nor run: its rows, and its group.

    \b
    agent99 analytics drop sales 1
    """
    if not options.yes:
        ask_first(f"forget version {version} of job {job!r}?", "nothing was forgotten")
    return run_async(_drop(scope, job, version))


async def _drop(scope: Scope, job: str, version: int) -> int:
    from agent99.systems.analytics import Analytics

    async with join(scope) as mesh:
        done = await Analytics(mesh, job).drop(version)
    if scope.json:
        print_json(done)
    else:
        tell(f"version {version} of job {job!r} is gone, with {count(done.rows, 'row')}")
    return Exit.OK


def add_versions(app: typer.Typer) -> None:
    """Add the commands to `agent99 analytics`."""
    for name, function in (("compare", compare), ("switch", switch), ("drop", drop)):
        add_command(app, name, function)
