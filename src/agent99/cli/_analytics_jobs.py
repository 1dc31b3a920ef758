"""Which job a command of `agent99 analytics` is about."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.errors import NoAgentError

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.systems.analytics import JobInfo

CAPABILITY = "analytics_processor"

PipelineName = Annotated[str, typer.Argument(help="As `agent99 analytics status` shows it.")]


class JobOptions(msgspec.Struct, frozen=True):
    """Of all commands about one pipeline."""

    job: Annotated[
        str, typer.Option("--job", metavar="NAME", help="Whose pipeline; may be left out of one.")
    ] = ""
    version: Annotated[
        int, typer.Option("--version", metavar="N", min=0, help="Of the job; else the current one.")
    ] = 0


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
