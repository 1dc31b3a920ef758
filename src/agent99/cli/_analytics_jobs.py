"""Which job a command of `agent99 analytics` is about."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agent99.cli._analytics_rows import parse_moment
from agent99.cli._exits import Exit, RefusalError
from agent99.cli._values import parse_value
from agent99.clock import SystemClock
from agent99.errors import NoAgentError

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.systems.analytics import JobInfo

CAPABILITY = "analytics_processor"
LIMIT = 100
LIMIT_MAX = 1_000_000

PipelineName = Annotated[str, typer.Argument(help="As `agent99 analytics status` shows it.")]


class JobOptions(msgspec.Struct, frozen=True):
    """Of all commands about one pipeline."""

    job: Annotated[
        str, typer.Option("--job", metavar="NAME", help="Whose pipeline; may be left out of one.")
    ] = ""
    version: Annotated[
        int, typer.Option("--version", metavar="N", min=0, help="Of the job; else the current one.")
    ] = 0


class WindowsOptions(JobOptions, frozen=True):
    """Of all commands that show some windows of a pipeline."""

    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="VALUE", help="Only of this key; again for each of its columns."
        ),
    ] = None
    since: Annotated[
        str,
        typer.Option("--since", metavar="MOMENT", help="Windows that end later: 2026-03-01, -2h."),
    ] = ""
    until: Annotated[
        str, typer.Option("--until", metavar="MOMENT", help="Windows that start before it.")
    ] = ""
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=1, max=LIMIT_MAX, help=f"The last so many; {LIMIT} else."
        ),
    ] = LIMIT

    def asked(self) -> dict[str, Any]:
        """Return the key and the times, as `Analytics` is given them.

        Raises:
            RefusalError: one of them is none.
        """
        now_us = SystemClock().wall_us()
        return {
            "key": [parse_value(word, "--key") for word in self.key] if self.key else None,
            "since": parse_moment(self.since, now_us) if self.since else None,
            "until": parse_moment(self.until, now_us) if self.until else None,
        }


def about(job: JobInfo, pipeline: str) -> dict[str, Any]:
    """Return what JSON says first of a pipeline."""
    return {"job": job.job, "version": job.version, "pipeline": pipeline}


async def find_jobs(mesh: Mesh) -> list[JobInfo]:
    """Return the versions of jobs that the processors of a mesh know, by name and version.

    Raises:
        NoAgentError: there are no processors.
        RequestError, TransportError
    """
    from agent99.systems.analytics import Jobs

    found: dict[tuple[str, int], JobInfo] = {}
    for peer in await mesh.discover(CAPABILITY):
        try:
            known = await mesh.request(peer, "jobs", returns=Jobs)
        except NoAgentError:  # it has just left
            continue
        found |= {(one.job, one.version): one for one in known.jobs}
    if not found:
        raise NoAgentError(f"no analytics processor is running on mesh {mesh.name!r}")
    return [found[which] for which in sorted(found)]


async def find_pipeline(mesh: Mesh, options: JobOptions, pipeline: str) -> JobInfo:
    """Return the job that has a pipeline.

    Raises:
        RefusalError: none has, or several and none was named; says which there are.
        as `find_jobs`.
    """
    jobs = await find_jobs(mesh)
    meant = [
        one
        for one in jobs
        if options.job in ("", one.job)
        and (one.version == options.version if options.version else one.is_current)
    ]
    having = [one for one in meant if pipeline in one.pipelines]
    if len(having) == 1:
        return having[0]
    if having:
        names = ", ".join(one.job for one in having)
        raise RefusalError(f"pipeline {pipeline!r} is of several jobs: say --job, of {names}")
    there = sorted({f"{name} of {one.job}" for one in meant for name in one.pipelines})
    near = get_close_matches(pipeline, [name for one in meant for name in one.pipelines], n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise RefusalError(
        f"there is no such pipeline {pipeline!r}; {hint}there are: {', '.join(there) or 'none'}",
        Exit.NOBODY,
        code="NO_PIPELINE",
    )
