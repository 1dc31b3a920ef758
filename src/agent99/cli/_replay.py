"""`agent99 events replay`: have a group go on from elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent99.cli._confirm import ask_first
from agent99.cli._exits import Exit
from agent99.cli._groups import find_groups
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import count, print_json, say, tell
from agent99.cli._tail import START_HELP
from agent99.clock import SystemClock
from agent99.envelope import parse_name

if TYPE_CHECKING:
    from agent99.groups import Start


class ReplayOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 events replay` alone."""

    start: Annotated[str, typer.Option("--from", metavar="START", help=f"{START_HELP}.")]
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would come again, or be left out.")
    ] = False
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False


class Outlook(msgspec.Struct, frozen=True):
    """What a group has before it, and what it would have."""

    group: str
    position: int
    lag_before: int
    lag_after: int


def replay(
    scope: Scope,
    options: ReplayOptions,
    group: Annotated[str, typer.Argument(help="As `agent99 events groups` shows it.")],
) -> int:
    r"""Have a group go on from elsewhere, back or forth; other groups notice nothing.

    \b
    agent99 events replay billing --from first --dry-run
    agent99 events replay billing --from 2026-03-01T12:00:00Z
    agent99 events replay billing --from new --yes

    Says how many events come again, or are left out, and asks first. The members may be at work:
    they go on from there within a moment. Exit code 1 if the answer is no, 3 if there is no such
    group.
    """
    from agent99.groups import parse_start

    name, start = parse_name("group", group), parse_start(options.start, SystemClock())
    outlook = run_async(_look(scope, name, start))
    if options.dry_run:
        return _tell(scope, outlook, is_done=False)
    if not scope.json:
        say(_sentence(outlook))
    if not options.yes:
        ask_first(f"reset group {name!r}?", f"group {name!r} was left as it is")
    outlook = run_async(_reset(scope, outlook, start))
    return _tell(scope, outlook, is_done=True)


async def _look(scope: Scope, name: str, start: Start) -> Outlook:
    from agent99.groups import inspect_group, preview_reset

    async with join(scope) as mesh:
        await find_groups(mesh, [name])
        preview = await preview_reset(mesh, name, start)
        lag = (await inspect_group(mesh, name)).lag
    return Outlook(name, preview.position, lag, preview.lag)


async def _reset(scope: Scope, outlook: Outlook, start: Start) -> Outlook:
    from agent99.groups import reset_group

    async with join(scope) as mesh:
        position = await reset_group(mesh, outlook.group, start)
    return msgspec.structs.replace(outlook, position=position)


def _tell(scope: Scope, outlook: Outlook, *, is_done: bool) -> int:
    if scope.json:
        print_json({"dry_run": not is_done, **msgspec.structs.asdict(outlook)})
    elif is_done:
        tell(f"group {outlook.group!r} goes on behind sequence {outlook.position}")
    else:
        tell(_sentence(outlook))
    return Exit.OK


def _sentence(outlook: Outlook) -> str:
    """Return what changes, in words."""
    more = outlook.lag_after - outlook.lag_before
    change = f"{count(abs(more), 'event')} {_comes(more)}" if more else "as many as now"
    lags = f"{outlook.lag_before:,} waiting now, {outlook.lag_after:,} then"
    return (
        f"group {outlook.group!r} would go on behind sequence {outlook.position}: {change} ({lags})"
    )


def _comes(more: int) -> str:
    if more < 0:
        return "left out"
    return "comes again" if more == 1 else "come again"
