"""`agent99 append`, and `agent99 events publish`: store an event for those who follow its topic."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from agent99.cli._exits import Exit
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, tell
from agent99.cli._values import read_payload


class AppendOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 append` alone."""

    json_payload: Annotated[
        str | None,
        typer.Option(
            "--json-payload",
            metavar="JSON",
            help="The event as a JSON object; '-' reads it from stdin.",
        ),
    ] = None
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="TEXT", help="Events of one key are followed in order."),
    ] = None
    id: Annotated[
        str | None,
        typer.Option("--id", metavar="TEXT", help="Names the event: a repeat is stored once."),
    ] = None


Topic = Annotated[str, typer.Argument(help="Names joined by dots, such as order.placed.")]
Words = Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="As of `call`.")]


def append(scope: Scope, options: AppendOptions, topic: Topic, words: Words = None) -> int:
    r"""Store an event and print its id; each agent that follows its topic gets it.

    \b
    agent99 append order.placed order=17 total=12.5 --key 17
    agent99 append order.paid --json-payload '{"order": 17}' --id order-17-paid

    When the command has ended with 0, the event is stored.
    """
    event = read_payload(words or (), options.json_payload)
    stored = run_async(_append(scope, topic, event, options))
    if scope.json:
        print_json({"id": stored})
    else:
        tell(stored)
    return Exit.OK


def publish(scope: Scope, options: AppendOptions, topic: Topic, words: Words = None) -> int:
    r"""Store an event and print its id; another name of `agent99 append`.

    \b
    agent99 events publish order.placed order=17 total=12.5 --key 17
    agent99 events publish order.paid --json-payload '{"order": 17}' --id order-17-paid
    """
    return append(scope, options, topic, words)


async def _append(scope: Scope, topic: str, event: dict[str, Any], options: AppendOptions) -> str:
    async with join(scope) as mesh:
        return await mesh.append(topic, event, key=options.key, event_id=options.id)
