"""`agent99 schedule at|every|cron`: make one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, tell
from agent99.cli._values import JsonPayload, read_payload
from agent99.cli._where import parse_age_s
from agent99.clock import SystemClock

if TYPE_CHECKING:
    from agent99.schedules import Schedules

Topic = Annotated[str, typer.Argument(help="Names joined by dots, such as order.placed.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="As of `call`.")]


class MakeOptions(msgspec.Struct, frozen=True):
    """The options of every schedule that is made."""

    json_payload: JsonPayload = None
    key: Annotated[
        str | None, typer.Option("--key", metavar="TEXT", help="Of the event; else it has its own.")
    ] = None
    id: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="NAME", help="A name: the same once more with it makes nothing new."
        ),
    ] = None


class RepeatOptions(MakeOptions, frozen=True):
    """The options of a schedule that has more than one moment."""

    missed: Annotated[
        Literal["once", "skip"],
        typer.Option("--missed", help="What nobody was there to fire comes once, or is skipped."),
    ] = "once"


class EveryOptions(RepeatOptions, frozen=True):
    """The options of `agent99 schedule every` alone."""

    start: Annotated[
        str | None,
        typer.Option("--start", metavar="WHEN", help="The first moment; else a period from now."),
    ] = None


class CronOptions(RepeatOptions, frozen=True):
    """The options of `agent99 schedule cron` alone."""

    zone: Annotated[
        str, typer.Option("--zone", metavar="NAME", help="Such as Europe/Berlin; UTC by default.")
    ] = "UTC"


Make = Callable[["Schedules", dict[str, Any]], Awaitable[str]]


def at(
    scope: Scope,
    options: MakeOptions,
    when: Annotated[
        str, typer.Argument(metavar="WHEN", help="2026-12-24T18:00+01:00, or +30s, +5m, +1h, +2d.")
    ],
    topic: Topic,
    words: Words = None,
) -> int:
    r"""Append an event at a moment, once; prints the schedule's id.

    \b
    agent99 schedule at 2026-12-24T18:00+01:00 shop.closing day=24
    agent99 schedule at +10m tea.ready --id tea

    When the command has ended with 0, it is stored. Some process must fire it when it is due:
    `agent99 schedule run`, or a programme that enters Schedules. A moment without a zone is UTC.
    """
    moment = parse_when(when)

    async def make(schedules: Schedules, what: dict[str, Any]) -> str:
        return await schedules.at(moment, topic, **what)

    return _make(scope, options, words, make)


def every(
    scope: Scope,
    options: EveryOptions,
    period: Annotated[str, typer.Argument(metavar="PERIOD", help="Such as 30s, 5m, 1h or 2d.")],
    topic: Topic,
    words: Words = None,
) -> int:
    r"""Append an event every so often; prints the schedule's id.

    \b
    agent99 schedule every 30s stock.count_due shop=7
    agent99 schedule every 1d report.due --start 2026-12-01T06:00 --id daily-report

    It does not drift: the moments are the first one and those at whole periods after it.
    """
    period_s = parse_age_s(period)
    start = parse_when(options.start) if options.start is not None else None

    async def make(schedules: Schedules, what: dict[str, Any]) -> str:
        how: dict[str, Any] = {"start": start, "missed": options.missed}
        return await schedules.every(period_s, topic, **what, **how)

    return _make(scope, options, words, make)


def cron(
    scope: Scope,
    options: CronOptions,
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="Five fields, in quotes: '0 9 * * MON-FRI'.")
    ],
    topic: Topic,
    words: Words = None,
) -> int:
    r"""Append an event at the minutes that a cron expression names; prints the schedule's id.

    \b
    agent99 schedule cron '0 9 * * MON-FRI' shop.opens --zone Europe/Berlin
    agent99 schedule cron '*/15 * * * *' stock.count_due --missed skip --id quarterly

    The fields: minute, hour, day of the month, month, day of the week. A daily time that a change
    of the clocks leaves out comes when there is a time again; one that is there twice, once.
    """

    async def make(schedules: Schedules, what: dict[str, Any]) -> str:
        how: dict[str, Any] = {"zone": options.zone, "missed": options.missed}
        return await schedules.cron(expression, topic, **what, **how)

    return _make(scope, options, words, make)


def parse_when(text: str) -> datetime:
    """Return the moment that a word means: ISO 8601, UTC without a zone; or `+5m` from now.

    Raises:
        RefusalError: it is none.
    """
    if text.startswith("+"):
        now = datetime.fromtimestamp(SystemClock().wall_us() / 1e6, UTC)
        return now + timedelta(seconds=parse_age_s(text[1:]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is no moment such as 2026-12-24T18:00+01:00 or +5m"
        raise RefusalError(message) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _make(scope: Scope, options: MakeOptions, words: list[str] | None, make: Make) -> int:
    event = read_payload(words or (), options.json_payload)
    what: dict[str, Any] = {"event": event, "key": options.key, "id": options.id}
    made = run_async(_make_one(scope, what, make))
    if scope.json:
        print_json({"id": made})
    else:
        tell(made)
    return Exit.OK


async def _make_one(scope: Scope, what: dict[str, Any], make: Make) -> str:
    from agent99.schedules import Schedules

    async with join(scope) as mesh:
        return await make(Schedules(mesh), what)
