"""`agent99 top`: what every instance does, as it does it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agent99.agent import Mesh
from agent99.cli._exits import Exit
from agent99.cli._join import join, run_async
from agent99.cli._live import Pace, draw, is_screen, until_stopped
from agent99.cli._rates import Said
from agent99.cli._scope import Scope
from agent99.cli._show import build_table, compact, fit, print_json, print_table, tell
from agent99.cli._top_view import (
    COLUMNS,
    LEAVING,
    NUMBERS,
    Look,
    compare,
    drops_line,
    head_line,
    last_answers,
    look_document,
    look_rows,
)
from agent99.clock import Clock, SystemClock

if TYPE_CHECKING:
    from rich.console import Console, Group

ANSWER_S_MAX = 2.0
"""An instance that does not answer within so many seconds, or the interval, is silent."""
LINES_AROUND = 5
"""Lines of the view that are no instance: who is there, columns, what is left, totals, drops."""


class TopOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 top` alone."""

    interval: Annotated[
        float,
        typer.Option("--interval", "-i", metavar="S", min=0.1, max=3600, help="Seconds of a look."),
    ] = 1.0
    once: Annotated[
        bool, typer.Option("--once", help="One table after one interval; so it is in a pipe.")
    ] = False


def top(scope: Scope, options: TopOptions) -> int:
    r"""Show what every instance does, the busiest first, until Ctrl-C.

    \b
    agent99 top
    agent99 top --interval 0.5
    agent99 top --once --json | jq .total.requests_per_s

    Requests and events taken on, errors, and refusals (overloaded, paused, unreadable) in a second;
    the mean latency of what ended meanwhile, in milliseconds; what runs, waits and was dropped; how
    often the connection was made again. Percentiles are in the metrics (`run --metrics-port`).
    --json prints one document for each interval, on a line of its own.
    """
    if options.once or not (scope.json or is_screen()):
        return run_async(_once(scope, options))
    return run_async(_live(scope, options))


class Watch:
    """Looks at a mesh again and again, each time an interval after the last."""

    def __init__(self, mesh: Mesh, clock: Clock, interval_s: float) -> None:
        self._mesh = mesh
        self._clock = clock
        self._interval_s = interval_s
        self._pace = Pace(clock, interval_s)
        self._before: dict[str, Said] = {}

    def __repr__(self) -> str:
        return f"Watch({self._mesh!r}, interval_s={self._interval_s})"

    async def look(self) -> Look:
        """Wait until it is time, then ask everybody."""
        await self._pace.wait()
        asked = self._mesh.registry.table.everybody()
        timeout_s = min(self._interval_s, ANSWER_S_MAX)
        found = await self._mesh.control(None, "status", timeout_s=timeout_s)
        look = compare(asked, found, self._before)
        self._before = last_answers(look, self._before)
        return look

    async def looks(self) -> AsyncIterator[Look]:
        """Look again and again, for ever."""
        while True:
            yield await self.look()

    def document(self, look: Look) -> dict[str, Any]:
        """Return a look as JSON, with the time and the mesh."""
        about = {"time_us": self._clock.wall_us(), "mesh": self._mesh.name}
        return {**about, "interval_s": self._interval_s, **look_document(look)}


# --- once -----------------------------------------------------------------------------------------


async def _once(scope: Scope, options: TopOptions) -> int:
    async with join(scope) as mesh:
        watch = Watch(mesh, SystemClock(), options.interval)
        await watch.look()
        look = await watch.look()
        if scope.json:
            print_json(watch.document(look))
        elif look.seen:
            _print(look, mesh)
        else:
            tell(f"no agents on mesh {mesh.name!r} at {mesh.url}")
        return Exit.OK


def _print(look: Look, mesh: Mesh) -> None:
    print_table(COLUMNS, look_rows(look), numbers=NUMBERS)
    for line in filter(None, (drops_line(look), head_line(look, mesh.name, mesh.url))):
        tell(line)


# --- again and again ------------------------------------------------------------------------------


async def _live(scope: Scope, options: TopOptions) -> int:
    async with join(scope) as mesh:
        watch = Watch(mesh, SystemClock(), options.interval)
        await until_stopped(_print_lines(watch) if scope.json else _draw(watch, mesh))
    return Exit.OK


async def _print_lines(watch: Watch) -> None:
    await watch.look()
    async for look in watch.looks():
        tell(compact(watch.document(look)))


async def _draw(watch: Watch, mesh: Mesh) -> None:
    await draw(
        watch.looks(),
        lambda look, console: _screen(look, mesh, console),
        lambda look: _print(look, mesh),
    )


def _screen(look: Look, mesh: Mesh, console: Console) -> Group:
    from rich.console import Group
    from rich.text import Text

    rows = look_rows(look, max(1, console.height - LINES_AROUND))
    table = build_table(*fit(COLUMNS, rows, console.width, LEAVING), NUMBERS)
    lines = (head_line(look, mesh.name, mesh.url), drops_line(look))
    head, drops = (Text(line, no_wrap=True, overflow="ellipsis") for line in lines)
    return Group(head, table, drops)
