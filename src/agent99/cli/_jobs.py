"""`agent99 jobs`: what became of the work that was posted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, print_table, say, tell

if TYPE_CHECKING:
    from agent99.agent import Mesh, Survey
    from agent99.work import JobCount, Ledger, Moving

_COLUMNS = (
    *("capability", "operation", "stored", "done", "pending", "delayed", "in flight"),
    *("quarantined", "taken out"),
)
_NUMBERS = frozenset(_COLUMNS[2:])
ANSWER_S_MAX = 1.0
"""An instance that does not answer within so many seconds is not waited for."""
MOVING_MAX = 20
"""Ids that are shown of an operation."""

InHand = Mapping[tuple[str, str], int]
"""What the instances say that they work on, by capability and operation."""


class OperationView(msgspec.Struct, frozen=True):
    """The work for one operation, now."""

    operation: str
    pending: int
    delayed: int
    in_flight: int
    moving: tuple[Moving, ...] = ()


class JobView(msgspec.Struct, frozen=True):
    """The work for one capability, now."""

    capability: str
    stored: int
    done: int | None
    pending: int
    delayed: int
    in_flight: int
    quarantined: int
    taken_out: int
    closes: bool | None
    """Whether every message that was ever stored stands in exactly one column; None: unknown."""
    operations: tuple[OperationView, ...]


def jobs(
    scope: Scope,
    capability: Annotated[str, typer.Argument(help="Of this one alone; else of all.")] = "",
) -> int:
    r"""Show what became of the work that was posted, for each capability and operation.

    \b
    agent99 jobs
    agent99 jobs mail
    agent99 jobs --json | jq '.jobs[] | select(.quarantined > 0) | .capability'

    Stored = done + pending + delayed + in flight + quarantined + taken out of quarantine, when all
    is quiet; what is redriven is stored anew. Pending: nobody has begun; in flight: some instance
    works on it; delayed: it failed, or its process died, and it waits for its next attempt. While
    something is in motion its ids are told. Exit code 3 if nothing was ever posted to CAPABILITY.
    """
    return run_async(_jobs(scope, capability))


async def _jobs(scope: Scope, word: str) -> int:
    from agent99.envelope import parse_name

    only = parse_name("capability", word) if word else None
    async with join(scope) as mesh:
        ledger = mesh.ledger
        before = await ledger.jobs(only)
        if only is not None and not before:
            message = f"nothing was ever posted to {word!r} on mesh {mesh.name!r}"
            raise RefusalError(message, Exit.NOBODY, code="NO_JOBS")
        in_hand, silent = _in_hand(await mesh.control(None, "status", timeout_s=ANSWER_S_MAX))
        after = await ledger.jobs(only)
        still = {one.capability for one in after if one in before}
        views = [
            await _with_moving(ledger, view_of(one, in_hand, is_still=one.capability in still))
            for one in after
        ]
        if scope.json:
            print_json({"mesh": mesh.name, "jobs": views, "silent": silent})
        else:
            _show(mesh, views, silent)
    return Exit.OK


def _in_hand(found: Survey) -> tuple[InHand, list[str]]:
    """Return what the instances work on; of jobs alone, not of events."""
    told: Counter[tuple[str, str]] = Counter()
    for status in found.results:
        for work in status.get("work", ()):  # an older agent has none
            if work["stream"].endswith(f"_JOB_{work['capability']}"):
                told[work["capability"], work["operation"]] += work["in_hand"]
    return told, sorted(found.silent)


def view_of(count: JobCount, in_hand: InHand, *, is_still: bool) -> JobView:
    """Return what is shown of a capability. Pure.

    Args:
        is_still: It was counted twice, with the same result.
    """
    operations: list[OperationView] = []
    is_exact = is_still
    for one in count.operations:
        held = in_hand.get((count.capability, one.operation), 0)
        is_exact = is_exact and held <= one.unfinished
        held = min(held, one.unfinished)
        view = OperationView(one.operation, one.pending, one.unfinished - held, held)
        operations.append(view)
    unfinished = sum(one.unfinished for one in count.operations)
    pending = count.left - unfinished  # also what no consumer counts: nobody has ever worked on it
    is_exact = is_exact and pending >= sum(one.pending for one in count.operations)
    done = count.done
    return JobView(
        capability=count.capability,
        stored=count.stored,
        done=max(0, done) if done is not None else None,
        pending=max(0, pending),
        delayed=sum(one.delayed for one in operations),
        in_flight=sum(one.in_flight for one in operations),
        quarantined=count.quarantined,
        taken_out=count.taken_out,
        closes=is_exact and done >= 0 if done is not None else None,
        operations=tuple(operations),
    )


async def _with_moving(ledger: Ledger, view: JobView) -> JobView:
    from agent99.envelope import Name

    operations: list[OperationView] = []
    for one in view.operations:
        moving: tuple[Moving, ...] = ()
        if one.delayed or one.in_flight:
            names = Name(view.capability), Name(one.operation)
            moving = await ledger.moving(*names, messages_max=MOVING_MAX)
        operations.append(msgspec.structs.replace(one, moving=moving))
    return msgspec.structs.replace(view, operations=tuple(operations))


def _show(mesh: Mesh, views: list[JobView], silent: list[str]) -> None:
    if not views:
        tell(f"nothing was posted yet on mesh {mesh.name!r} at {mesh.url}")
        return
    print_table(_COLUMNS, [row for view in views for row in _rows(view)], numbers=_NUMBERS)
    for view in views:
        for line in _lines(view):
            tell(line)
    if silent:
        say(f"no answer in time from {', '.join(silent)}: what they work on counts as delayed")


def _rows(view: JobView) -> list[tuple[str, ...]]:
    total = (
        *(view.capability, "", f"{view.stored:,}", "?" if view.done is None else f"{view.done:,}"),
        *(f"{view.pending:,}", f"{view.delayed:,}", f"{view.in_flight:,}"),
        *(f"{view.quarantined:,}", f"{view.taken_out:,}"),
    )
    rows = [
        ("", one.operation, "", "", f"{one.pending:,}", f"{one.delayed:,}", f"{one.in_flight:,}")
        for one in view.operations
    ]
    return [total, *((*row, "", "") for row in rows)]


def _lines(view: JobView) -> list[str]:
    lines: list[str] = []
    if view.closes is None:
        lines.append(f"{view.capability} follows events, and some were in quarantine: done unknown")
    elif not view.closes:
        lines.append(f"{view.capability} does not close: it changed while it was counted")
    for one in view.operations:
        if one.moving:
            those = ", ".join(f"{each.sequence} ({each.id or 'unreadable'})" for each in one.moving)
            more = one.delayed + one.in_flight - len(one.moving)
            rest = f", and {more:,} more" if more > 0 else ""
            lines.append(f"in motion: {view.capability} {one.operation} {those}{rest}")
    return lines
