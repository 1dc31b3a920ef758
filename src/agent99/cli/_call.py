"""`agent99 call`: ask one agent, print its result."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from agent99.agent import Mesh, Peer
from agent99.cli._exits import RefusalError
from agent99.cli._find import find_capable, find_named
from agent99.cli._join import join, run_async
from agent99.cli._schema import unknown_fields
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, say
from agent99.cli._traced import drawing, find_trace
from agent99.cli._values import JsonPayload, read_payload
from agent99.dispatch import DEFAULT_OPERATION
from agent99.errors import BadRequestError, NoAgentError
from agent99.observe import RequestFinished

UUID_CHARACTERS = 36
TRACE_S = 2.0
"""Seconds to wait for what a process knows of a request that was traced at once."""

Timeout = Annotated[
    float, typer.Option("--timeout", "-t", metavar="S", help="Seconds to wait for the answer.")
]


class CallOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 call` alone."""

    name: Annotated[
        bool, typer.Option("--name", help="TARGET is an agent's name, not a capability.")
    ] = False
    json_payload: JsonPayload = None
    timeout: Timeout = 5.0
    trace: Annotated[
        bool, typer.Option("--trace", help="Then draw the request's way, on stderr.")
    ] = False


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
    agent99 call --name weather-proxy forecast --json-payload '{"city": "Oslo"}' --trace

    A value is JSON where it is JSON (n=3 is a number, ok=true a truth value), else text. Text that
    looks like JSON is quoted twice: zip='"00123"'. Finds the mesh of the project; starts nothing.
    A field that the operation does not have is ignored by the agent; a warning says so.
    """
    given = list(words or ())
    if "=" in operation:  # the operation was left out
        given.insert(0, operation)
        operation = DEFAULT_OPERATION
    payload = read_payload(given, options.json_payload)
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
            async with traced(mesh) if options.trace else contextlib.nullcontext():
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


@contextlib.asynccontextmanager
async def traced(mesh: Mesh) -> AsyncGenerator[None]:
    """Draw the request that is made meanwhile, however it ends."""
    told: list[RequestFinished] = []
    forget = mesh.hooks.listen(RequestFinished, told.append)
    try:
        yield
    finally:
        forget()
        if told:  # else it was never sent
            found = await find_trace(mesh, told[0].trace_id, TRACE_S)
            found = msgspec.structs.replace(found, records=(*told, *found.records))
            print(drawing(found), file=sys.stderr, flush=True)


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
