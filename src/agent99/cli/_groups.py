"""`agent99 events groups`: who works on stored events, how far they are, and what waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._groups_view import (
    COLUMNS,
    LEAVING,
    NUMBERS,
    Bounds,
    Look,
    compare,
    group_rows,
    head_line,
    held_up_lines,
    look_document,
    over_lines,
)
from agent99.cli._join import join, run_async
from agent99.cli._live import Pace, draw, is_screen, until_stopped
from agent99.cli._scope import Scope
from agent99.cli._show import build_table, compact, fit, print_json, print_table, say, tell
from agent99.clock import SystemClock
from agent99.envelope import parse_name

if TYPE_CHECKING:
    from rich.console import Console, Group

    from agent99.agent import Mesh
    from agent99.clock import Clock

INTERVAL_S = 1.0
"""Between two looks, of which the rate is measured."""
LINES_AROUND = 3
"""Lines of the view that are no group: what is there, columns, what is left."""


class GroupsOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 events groups` alone."""

    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again every second, until Ctrl-C.")
    ] = False
    alert_lag: Annotated[
        int | None,
        typer.Option(
            "--alert-lag", metavar="N", min=0, help="Exit code 1 if more events wait in a group."
        ),
    ] = None
    alert_age: Annotated[
        float | None,
        typer.Option(
            "--alert-age", metavar="SECONDS", min=0, help="Exit code 1 if an event waits longer."
        ),
    ] = None


def groups(
    scope: Scope,
    options: GroupsOptions,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="These alone; else all.")
    ] = None,
) -> int:
    r"""Show the groups that work on stored events: who is there, the lag, the rate, what failed.

    \b
    agent99 events groups
    agent99 events groups billing --watch
    agent99 events groups --alert-lag 1000 --alert-age 60 || notify-somebody
    agent99 events groups --json | jq '.groups[] | select(.lag > 0 and .members == [])'

    NO MEMBER: events wait, and nobody is there to work on them. HELD UP: somebody is, and fails at
    what comes next: a full quarantine, a handler of batches; the last lines say why. With --watch
    an alert ends the command; without an alert its end is Ctrl-C, exit code 0. Exit code 3 if one
    that was named is not there.
    """
    bounds = Bounds(options.alert_lag, options.alert_age)
    wanted = [parse_name("group", name) for name in names or ()]
    return run_async(_groups(scope, options, bounds, wanted))


async def find_groups(mesh: Mesh, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the groups that are meant, each once: those that were named, or all.

    Raises:
        RefusalError: one is not there; says which there are.
    """
    from agent99.groups import list_groups

    there = await list_groups(mesh)
    for name in wanted:
        if name not in there:
            near = get_close_matches(name, there, n=1)
            known = f"did you mean {near[0]!r}? " if near else ""
            known += f"there are: {', '.join(there)}" if there else "there is none"
            raise RefusalError(
                f"there is no group {name!r} on mesh {mesh.name!r}; {known}",
                Exit.NOBODY,
                code="NO_GROUP",
            )
    return tuple(dict.fromkeys(wanted)) or there


class Watch:
    """Looks at the groups of a mesh again and again, each time a second after the last."""

    def __init__(self, mesh: Mesh, clock: Clock, wanted: Sequence[str], bounds: Bounds) -> None:
        self._mesh = mesh
        self._clock = clock
        self._wanted = wanted
        self._bounds = bounds
        self._pace = Pace(clock, INTERVAL_S)
        self._last: Look | None = None

    def __repr__(self) -> str:
        return f"Watch({self._mesh!r}, wanted={self._wanted})"

    async def look(self) -> Look:
        """Wait until it is time, then look at each."""
        from agent99.groups import inspect_group

        await self._pace.wait()
        names = await find_groups(self._mesh, self._wanted)
        states = await asyncio.gather(*(inspect_group(self._mesh, name) for name in names))
        clock = self._clock
        look = compare(states, self._last, self._bounds, (clock.monotonic_s(), clock.wall_us()))
        self._last = look
        return look

    async def looks(self) -> AsyncIterator[Look]:
        """Look again and again, until there is an alert."""
        while True:
            look = await self.look()
            yield look
            if look.over:
                return

    def document(self, look: Look) -> dict[str, Any]:
        """Return a look as JSON, with the time and the mesh."""
        return {"time_us": look.time_us, "mesh": self._mesh.name, **look_document(look)}


async def _groups(
    scope: Scope, options: GroupsOptions, bounds: Bounds, wanted: Sequence[str]
) -> int:
    async with join(scope) as mesh:
        watch = Watch(mesh, SystemClock(), wanted, bounds)
        if options.watch:
            alert = await until_stopped(_again(watch, mesh, is_json=scope.json))
        else:
            alert = await _once(watch, mesh, is_json=scope.json)
    for line in over_lines(alert, bounds) if alert is not None else ():
        say(line)
    return Exit.FAILED if alert is not None and alert.over else Exit.OK


async def _once(watch: Watch, mesh: Mesh, *, is_json: bool) -> Look:
    await watch.look()
    look = await watch.look()
    if is_json:
        print_json(watch.document(look))
    else:
        _print(look, mesh)
    return look


async def _again(watch: Watch, mesh: Mesh, *, is_json: bool) -> Look:
    """Show looks until there is an alert; returns the last."""
    last: list[Look] = []

    async def looks() -> AsyncIterator[Look]:
        async for look in watch.looks():
            last[:] = [look]
            yield look

    if is_json:
        async for look in looks():
            tell(compact(watch.document(look)))
    elif is_screen():
        await draw(
            looks(),
            lambda look, console: _screen(look, mesh, console),
            lambda look: _print(look, mesh),
        )
    else:
        async for look in looks():
            _print(look, mesh)
    return last[0]


def _print(look: Look, mesh: Mesh) -> None:
    if look.seen:
        print_table(COLUMNS, group_rows(look), numbers=NUMBERS)
    tell(head_line(look, mesh.name, mesh.url))
    for line in held_up_lines(look):
        tell(line)


def _screen(look: Look, mesh: Mesh, console: Console) -> Group:
    from rich.console import Group
    from rich.text import Text

    rows = group_rows(look, max(1, console.height - LINES_AROUND))
    table = build_table(*fit(COLUMNS, rows, console.width, LEAVING), NUMBERS)
    head = Text(head_line(look, mesh.name, mesh.url), no_wrap=True, overflow="ellipsis")
    return Group(head, table)
