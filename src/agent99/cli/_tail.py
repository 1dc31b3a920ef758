"""`agent99 events tail`: stored events, as they come."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent99.cli._exits import Exit
from agent99.cli._join import join, run_async
from agent99.cli._live import until_stopped
from agent99.cli._scope import Scope
from agent99.cli._show import moment, printable, say, tell
from agent99.clock import SystemClock
from agent99.envelope import parse_pattern
from agent99.errors import StreamNotFoundError

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.groups import Event, Start

START_HELP = "first, new, last, last-per-key, a sequence, 2026-03-01T12:00:00Z, or -15m"
EVERYTHING = ">"


class TailOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 events tail` alone."""

    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="START",
            help=f"{START_HELP}; else new, with --until-end first.",
        ),
    ] = ""
    until_end: Annotated[
        bool, typer.Option("--until-end", help="End when what the log holds now is printed.")
    ] = False
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="End after so many.")
    ] = None


def tail(
    scope: Scope,
    options: TailOptions,
    topics: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOPIC]...", help="Such as order.placed, 'order.*' or '>'."),
    ] = None,
) -> int:
    r"""Print stored events as they come, until Ctrl-C: time, sequence, topic, key, data.

    \b
    agent99 events tail
    agent99 events tail 'order.*' stock.low --from -15m
    agent99 events tail --from first --until-end --json | jq -r .type | sort | uniq -c

    Nobody's position moves. A line is cut to the terminal's width, and whole in a pipe; with --json
    it is the event as CloudEvents write it. Ctrl-C is exit code 0, and 130 if it was to end by
    itself and had not.
    """
    from agent99.groups import parse_start

    patterns = [parse_pattern(topic) for topic in topics or (EVERYTHING,)]
    start = parse_start(options.start or _usual_start(options), SystemClock())
    return run_async(_tail(scope, options, patterns, start))


def _usual_start(options: TailOptions) -> str:
    return "first" if options.until_end else "new"


async def _tail(scope: Scope, options: TailOptions, topics: Sequence[str], start: Start) -> int:
    async with join(scope) as mesh:
        try:
            printed = await until_stopped(_print_events(mesh, scope, options, topics, start))
        except StreamNotFoundError:
            printed = 0  # nothing was ever appended on this mesh
        if printed is None:
            is_unended = options.until_end or options.limit is not None
            return Exit.INTERRUPTED if is_unended else Exit.OK
        if not printed and not scope.json:
            say(f"no such events on mesh {mesh.name!r} at {mesh.url}")
    return Exit.OK


async def _print_events(
    mesh: Mesh, scope: Scope, options: TailOptions, topics: Sequence[str], start: Start
) -> int:
    """Print them to their end; returns how many there were."""
    from agent99.groups import follow_events, read_events

    reading = read_events if options.until_end else follow_events
    printed = 0
    async with aclosing(reading(mesh, topics, start=start)) as events:
        async for event in events:
            line = _document(event) if scope.json else _line(event)
            if line is None:
                continue
            tell(line)
            printed += 1
            if printed == options.limit:
                break
    return printed


def _document(event: Event) -> str | None:
    """Return an event as CloudEvents write it, on one line; None: what was stored is no JSON."""
    try:
        return msgspec.json.format(event.cloud_event(), indent=-1).decode()
    except msgspec.DecodeError as error:
        say(f"event {event.id}, sequence {event.sequence}, is left out: {error}")
        return None


def _line(event: Event) -> str:
    """Return an event for people, as long as the terminal is wide."""
    try:
        data = msgspec.json.format(bytes(event.data), indent=-1)
    except msgspec.DecodeError:
        data = bytes(event.data)  # it is looked at, whatever it is
    words = (moment(event.time_us), str(event.sequence), event.type, event.subject or "-")
    line = printable("  ".join((*words, data.decode())))
    return _cut(line) if sys.stdout.isatty() else line


def _cut(line: str) -> str:
    from rich.text import Text

    text = Text(line)
    text.truncate(shutil.get_terminal_size().columns, overflow="ellipsis")
    return text.plain
