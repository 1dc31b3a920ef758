"""`agent99 quarantine redrive` and `drop`: take records out of quarantine."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Generator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._moves import Mover, Outcome
from agent99.cli._records import (
    WhereOption,
    check_where,
    find_record,
    find_records,
    print_records,
)
from agent99.cli._scope import Scope
from agent99.cli._show import count, print_json, say, tell
from agent99.cli._wish import StopWish, wait_or
from agent99.clock import SystemClock
from agent99.envelope import Name

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.work import Quarantine, Quarantined

_DONE = {"redrive": "redriven", "drop": "dropped"}


class MoveOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 quarantine redrive` and `drop`."""

    where: WhereOption = ""
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be taken out.")
    ] = False
    rate: Annotated[
        float | None,
        typer.Option("--rate", metavar="N", min=0.001, help="So many in a second, at most."),
    ] = None


Capability = Annotated[str, typer.Argument(help="Of one record, as `list` shows it.")]
Sequence = Annotated[int | None, typer.Argument(min=1, help="Of one record, as `list` shows it.")]


def redrive(
    scope: Scope, options: MoveOptions, capability: Capability = "", sequence: Sequence = None
) -> int:
    r"""Have work done again: store the original once more, then take it out of quarantine.

    \b
    agent99 quarantine redrive mail 17
    agent99 quarantine redrive --where 'capability=mail, code=BUSY' --dry-run
    agent99 quarantine redrive --where 'capability=mail, older=1h' --rate 50

    Its id stays the same, its attempts begin anew. What cannot be moved stays, and is named with
    the reason; after 10 such in a row nothing else is tried. Ctrl-C ends after the one in hand.
    Exit code 0 if all were redriven, 1 if not, 3 if the one that was named is not there.
    """
    return run_async(_move("redrive", scope, options, (capability, sequence or 0)))


def drop(
    scope: Scope, options: MoveOptions, capability: Capability = "", sequence: Sequence = None
) -> int:
    r"""Give work up for good: delete it from quarantine; it cannot be brought back.

    \b
    agent99 quarantine drop mail 17
    agent99 quarantine drop --where 'capability=mail, reason=unreadable' --dry-run
    agent99 quarantine drop --where 'capability=mail, reason=unreadable'

    Exit codes are those of `redrive`.
    """
    return run_async(_move("drop", scope, options, (capability, sequence or 0)))


async def _move(verb: str, scope: Scope, options: MoveOptions, one: tuple[str, int]) -> int:
    _check(verb, options, one)
    async with join(scope) as mesh:
        if options.where:
            records = await find_records(mesh, options.where)
        else:
            records = [await find_record(mesh, *one)]
        if options.dry_run:
            return _tell_dry(verb, scope, records)
        outcome = Outcome(len(records))
        await _move_all(mesh, verb, records, outcome, options.rate)
    return _tell(verb, scope, outcome)


def _check(verb: str, options: MoveOptions, one: tuple[str, int]) -> None:
    """Refuse words that do not say which records are meant, and only those.

    Raises:
        RefusalError
    """
    check_where(options.where)
    if bool(options.where) == any(one) or (any(one) and not all(one)):
        raise RefusalError(
            f"say what to {verb}: CAPABILITY SEQUENCE, as `agent99 quarantine list` shows them,"
            " or --where 'capability=mail'"
        )


async def _move_all(
    mesh: Mesh, verb: str, records: list[Quarantined], outcome: Outcome, rate: float | None
) -> None:
    """Move them; the first Ctrl-C ends after the one in hand, the second at once."""
    wish = StopWish()
    move = _mover_of(mesh.quarantine, verb)
    try:
        with _progress(verb, len(records)) as tell_one:
            mover = Mover(move, wish.asked, clock=SystemClock(), rate=rate, tell=tell_one)
            working = asyncio.ensure_future(mover.run(records, outcome))
            if await wait_or(working, wish.forced):
                working.result()
            else:
                outcome.interrupted = True
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
    finally:
        wish.close()


def _mover_of(quarantine: Quarantine, verb: str) -> Callable[[Quarantined], Awaitable[None]]:
    async def again(listed: Quarantined) -> None:
        record = await quarantine.get(Name(listed.capability), listed.sequence)
        if record is None:
            raise RefusalError("somebody took it out meanwhile", code="NO_RECORD")
        await quarantine.redrive(record)

    return again if verb == "redrive" else quarantine.drop


@contextlib.contextmanager
def _progress(verb: str, wanted: int) -> Generator[Callable[[], object]]:
    """Draw a bar on stderr, if that is a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    is_drawn = sys.stderr.isatty() and not console.is_dumb_terminal and wanted > 1
    with Progress(console=console, disable=not is_drawn, transient=True) as progress:
        bar = progress.add_task(verb, total=wanted)
        yield lambda: progress.advance(bar)


def _tell_dry(verb: str, scope: Scope, records: list[Quarantined]) -> int:
    if scope.json:
        those = [{"capability": one.capability, "sequence": one.sequence} for one in records]
        print_json({"dry_run": True, "wanted": len(records), "records": those})
        return Exit.OK
    if records:
        print_records(records)
    tell(f"{count(len(records), 'record')} would be {_DONE[verb]}")
    return Exit.OK


def _tell(verb: str, scope: Scope, outcome: Outcome) -> int:
    if scope.json:
        print_json({"dry_run": False, **outcome.document()})
    else:
        for one in outcome.stuck:
            say(f"{one.capability} {one.sequence} stays: {one.message} ({one.code})")
        tell(f"{outcome.moved:,} of {outcome.wanted:,} {_DONE[verb]}")
        if outcome.untried:
            say(f"{count(outcome.untried, 'record')} not tried")
    if outcome.interrupted:
        return Exit.INTERRUPTED
    return Exit.OK if outcome.moved == outcome.wanted else Exit.FAILED
