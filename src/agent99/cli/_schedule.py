"""`agent99 schedule`: events that are appended when their time comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._schedule_make import at, cron, every
from agent99.cli._scope import Scope
from agent99.cli._show import (
    compact,
    count,
    moment,
    print_json,
    print_table,
    say,
    shortened,
    tell,
)
from agent99.cli._wish import StopWish

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.schedules import Rule, Schedule

_COLUMNS = ("id", "rule", "next", "fired", "topic", "key", "event")
_EVENT_CHARACTERS = 40
_UNITS_US = (("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000))


def list_schedules(scope: Scope) -> int:
    r"""List the schedules, the next one due first.

    \b
    agent99 schedule list
    agent99 schedule list --json | jq -r '.schedules[] | select(.next_us == null) | .id'

    NEXT is in UTC. One that has a name and is over is remembered for seven days.
    """
    return run_async(_list(scope))


async def _list(scope: Scope) -> int:
    from agent99.schedules import Schedules

    async with join(scope) as mesh:
        found = await Schedules(mesh).list()
        if scope.json:
            print_json({"mesh": mesh.name, "schedules": found, "count": len(found)})
            return Exit.OK
        if found:
            print_table(_COLUMNS, [_row(one) for one in found], numbers=frozenset({"fired"}))
        where = f"on mesh {mesh.name!r} at {mesh.url}"
        tell(f"{count(len(found), 'schedule')} {where}" if found else f"no schedules {where}")
    return Exit.OK


def _row(one: Schedule) -> tuple[str, ...]:
    return (
        one.id,
        rule_text(one.rule),
        moment(one.next_us) if one.next_us is not None else "over",
        f"{one.fired:,}",
        one.topic,
        one.key or "",
        shortened(compact(one.event), _EVENT_CHARACTERS),
    )


def rule_text(rule: Rule) -> str:
    """Return a rule for people."""
    from agent99.schedules import At, Every

    if isinstance(rule, At):
        return f"at {moment(rule.at_us)}"
    if isinstance(rule, Every):
        return f"every {_period_text(rule.period_us)}"
    return f"cron {rule.expression} {rule.zone}"


def _period_text(period_us: int) -> str:
    """Return a period as `every` takes it."""
    for unit, unit_us in _UNITS_US:
        if period_us % unit_us == 0:
            return f"{period_us // unit_us}{unit}"
    return f"{period_us / 1e6}s"


def cancel(scope: Scope, ids: Annotated[list[str], typer.Argument(metavar="ID...")]) -> int:
    r"""Remove schedules; their events do not come any more.

    \b
    agent99 schedule cancel nightly-count
    agent99 schedule cancel 5fe90eb4-c162-50cb-9c1d-78d5a673b209

    Exit code 3 if one of them is not there; the others are removed all the same.
    """
    return run_async(_cancel(scope, ids))


async def _cancel(scope: Scope, ids: list[str]) -> int:
    from agent99.envelope import parse_name
    from agent99.schedules import Schedules

    names = [parse_name("schedule", word) for word in ids]
    async with join(scope) as mesh:
        schedules = Schedules(mesh)
        was_there = {name: await schedules.cancel(name) for name in names}
        missing = [name for name, there in was_there.items() if not there]
        if missing:
            message = f"no schedule {', '.join(missing)} on mesh {mesh.name!r}"
            raise RefusalError(message, Exit.NOBODY, code="NO_SCHEDULE")
    if scope.json:
        print_json({"cancelled": names})
    else:
        tell(f"cancelled: {', '.join(names)}")
    return Exit.OK


def run(scope: Scope) -> int:
    r"""Fire what is due, until Ctrl-C: for a mesh on which nobody else does.

    \b
    agent99 schedule run

    Start it as often as you like: each moment is fired once.
    """
    return run_async(_run(scope))


async def _run(scope: Scope) -> int:
    from agent99.schedules import Schedules

    async with join(scope) as mesh:
        wish = StopWish()
        try:
            async with Schedules(mesh) as schedules:
                _tell_ready(scope, mesh)
                await wish.asked.wait()
        finally:
            wish.close()
        statistics = schedules.statistics()
        if scope.json:
            print_json(statistics)
        else:
            tell(f"fired {count(statistics.fired, 'event')}")
    return Exit.OK


def _tell_ready(scope: Scope, mesh: Mesh) -> None:
    line = f"ready: fires what is due on mesh {mesh.name!r} at {mesh.url}"
    if scope.json:
        say(line)
    else:
        tell(line)


def build_app() -> typer.Typer:
    """Return the group of commands."""
    from agent99.cli._command import add_command

    app = typer.Typer(
        help="Have events appended at a moment, every so often, or by cron.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    commands = (
        *(("at", at), ("every", every), ("cron", cron)),
        *(("list", list_schedules), ("cancel", cancel), ("run", run)),
    )
    for name, function in commands:
        add_command(app, name, function)
    return app
