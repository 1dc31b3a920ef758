"""`agent99 call`: ask one agent, print its result."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from agent99.agent import Peer
from agent99.cli._exits import RefusalError
from agent99.cli._find import find_capable, find_named
from agent99.cli._join import join, run_async
from agent99.cli._schema import unknown_fields
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, say
from agent99.cli._values import parse_payload
from agent99.dispatch import DEFAULT_OPERATION
from agent99.errors import BadRequestError, NoAgentError

UUID_CHARACTERS = 36

Timeout = Annotated[
    float, typer.Option("--timeout", "-t", metavar="S", help="Seconds to wait for the answer.")
]


class CallOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 call` alone."""

    name: Annotated[
        bool, typer.Option("--name", help="TARGET is an agent's name, not a capability.")
    ] = False
    json_payload: Annotated[
        str | None,
        typer.Option(
            "--json-payload",
            metavar="JSON",
            help="The payload as a JSON object; '-' reads it from stdin.",
        ),
    ] = None
    timeout: Timeout = 5.0


def call(
    scope: Scope,
    options: CallOptions,
    target: Annotated[str, typer.Argument(help="A capability, or an instance's whole UUID.")],
    operation: Annotated[
        str, typer.Argument(help="What to ask for; the default operation if left out.")
    ] = DEFAULT_OPERATION,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUE]...",
            help="The payload's fields: JSON where it is JSON, else text.",
        ),
    ] = None,
) -> int:
    r"""Ask an agent and print its result as JSON.

    \b
    agent99 call greeter greet name=Ada
    agent99 call calculator add numbers='[1, 2.5]'
    agent99 call echo tags='["a", "b"]' zip='"00123"' --timeout 2
    agent99 call --name weather-proxy forecast --json-payload '{"city": "Oslo"}'

    A value is JSON where it is JSON (n=3 is a number, ok=true a truth value), else text. Text that
    looks like JSON is quoted twice: zip='"00123"'. Finds the mesh of the project; starts nothing.
    A field that the operation does not have is ignored by the agent; a warning says so.
    """
    given = list(words or ())
    if "=" in operation:  # the operation was left out
        given.insert(0, operation)
        operation = DEFAULT_OPERATION
    text = sys.stdin.read() if options.json_payload == "-" else options.json_payload
    payload = parse_payload(given, text)
    print_json(run_async(_call(scope, options, target, operation, payload)))
    return 0


async def _call(
    scope: Scope, options: CallOptions, target: str, operation: str, payload: Mapping[str, Any]
) -> Any:
    from agent99.agent import Target, named

    async with join(scope) as mesh:
        whom: Target = named(target) if options.name else target
        peers = mesh.peers()
        asked = (find_named if options.name else find_capable)(peers, target)
        if len(target) == UUID_CHARACTERS:
            asked = [peer for peer in peers if peer.instance == target.lower()]
            whom = asked[0] if asked else whom
        warn_of_fields(asked, operation, payload)
        try:
            return await mesh.request(whom, operation, payload, timeout_s=options.timeout)
        except BadRequestError as error:
            if error.rule.startswith("Expected `str`"):
                field = error.path.removeprefix("$.")
                error.add_note(f"to send text that looks like JSON write {field}='\"…\"'")
            raise
        except NoAgentError as error:
            is_capability = target.lower() in mesh.registry.table.capabilities()
            is_name = any(peer.name == target.lower() for peer in mesh.peers())
            if not options.name and is_name and not is_capability:
                error.add_note("there is an agent of that name: add --name")
            raise


def warn_of_fields(asked: Sequence[Peer], operation: str, payload: Mapping[str, Any]) -> None:
    """Say which fields of a payload nobody will read."""
    for sentence in unknown_fields(asked, operation, payload).values():
        say(f"warning: {sentence}")


def check_timeout(timeout_s: float) -> float:
    """Return the time if it is one to wait.

    Raises:
        RefusalError: it is no number of seconds above 0.
    """
    if not 0 < timeout_s < float("inf"):
        raise RefusalError(f"--timeout is a number of seconds above 0, not {timeout_s:g}")
    return timeout_s
