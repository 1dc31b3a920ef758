"""`agent99 why`: explain whom a request would reach, or why nobody."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import typer

from agent99.agent import NatsEngine, identity_of
from agent99.cli._call import check_timeout
from agent99.cli._exits import Exit
from agent99.cli._join import reachable_settings, run_async
from agent99.cli._probe import Prober
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, print_table, short, tell
from agent99.cli._verdict import Finding, judge, make_rows, row_cells
from agent99.clock import SystemClock
from agent99.dispatch import DEFAULT_OPERATION
from agent99.envelope import Subjects
from agent99.ids import SystemIds
from agent99.registry import Registry, Where, where

_COLUMNS = ("agent", "instance", "state", "version", "operation", "filter", "probe")
OPERATIONS_MAX = 32
"""Operations that are probed when none is named."""


class WhyOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 why` alone."""

    where: Annotated[
        str | None,
        typer.Option("--where", metavar="FILTER", help="Such as 'region=eu, version>=2'."),
    ] = None
    timeout: Annotated[
        float, typer.Option("--timeout", "-t", metavar="S", help="Seconds to wait for probes.")
    ] = 1.0


def why(
    scope: Scope,
    options: WhyOptions,
    target: Annotated[str, typer.Argument(help="A capability, or an agent's name.")],
    operation: Annotated[str, typer.Argument(help="An operation; all of them if left out.")] = "",
) -> int:
    r"""Explain whom a request would reach, or why it would reach nobody.

    \b
    agent99 why greeter greet
    agent99 why backend --where 'region=eu, version>=0.1'

    Compares what the registry says (candidates, states, filters, suspects, near misses) with what
    the server and the agents say: each is probed with a message that is refused at the door, so
    that no operation runs. Exit code 0 if a request would be taken, 3 if not.
    """
    wanted = where(options.where) if options.where else None
    finding = run_async(_why(scope, target, operation, wanted, check_timeout(options.timeout)))
    if scope.json:
        print_json(finding)
    else:
        _show(finding)
    return Exit.OK if finding.reachable else Exit.NOBODY


async def _why(
    scope: Scope, target: str, operation: str, wanted: Where | None, timeout_s: float
) -> Finding:
    async with _observe(scope, timeout_s) as (registry, prober):
        table = registry.table
        said = table.explain(target, operation)
        verbs = [operation.lower()] if operation else list(said.operations)
        server = {
            verb: await prober.group(said.kind, said.target, verb)
            for verb in verbs[:OPERATIONS_MAX] or [DEFAULT_OPERATION]
        }
        known = [d for c in said.candidates if (d := table.get(c.instance)) is not None]
        direct = await prober.instances(known, operation or DEFAULT_OPERATION)
        return judge(said, server, make_rows(said, known, direct, wanted), wanted)


@asynccontextmanager
async def _observe(scope: Scope, timeout_s: float) -> AsyncGenerator[tuple[Registry, Prober]]:
    """Open a wire and read the registry; nothing is hosted and nothing announced."""
    clock, ids = SystemClock(), SystemIds()
    settings = reachable_settings(scope)
    sender = identity_of(settings, ids)
    async with NatsEngine(settings).open(sender, clock=clock, ids=ids) as parts:
        registry = Registry(parts.journal, parts.wire, mesh=settings.mesh, clock=clock, ids=ids)
        subjects = Subjects(settings.mesh, sender)
        try:
            await registry.start()
            yield registry, Prober(parts.wire, subjects, clock=clock, ids=ids, timeout_s=timeout_s)
        finally:
            await registry.aclose()


def _show(finding: Finding) -> None:
    if finding.candidates:
        print_table(_COLUMNS, [row_cells(row) for row in finding.candidates])
    for verb, probed in finding.server.items():
        what = {
            "answers": f"answered by {short(probed.instance)} in {probed.took_ms} ms",
            "silent": "somebody listens, no answer",
            "nobody": "nobody listens",
        }[probed.interest]
        tell(f"server: {finding.target} {verb}: {what}")
    tell(finding.verdict)
