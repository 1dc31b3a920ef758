"""`agent99 post`: store work for whoever offers a capability."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from agent99.cli._call import warn_of_fields
from agent99.cli._exits import Exit
from agent99.cli._find import find_capable
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, tell
from agent99.cli._values import JsonPayload, read_payload


class PostOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 post` alone."""

    json_payload: JsonPayload = None
    idempotency_key: Annotated[
        str | None,
        typer.Option("--idempotency-key", metavar="KEY", help="The same key means the same job."),
    ] = None


def post(
    scope: Scope,
    options: PostOptions,
    capability: Annotated[str, typer.Argument(help="Whoever offers it does it, now or later.")],
    operation: Annotated[str, typer.Argument(help="One that is marked with @job.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="As of `call`.")
    ] = None,
) -> int:
    r"""Store work for a capability and print its id; it is done at least once.

    \b
    agent99 post mail send to=ada@example.org
    agent99 post mail send --json-payload '{"to": "ada@example.org"}' --idempotency-key order-17

    When the command has ended with 0, the work is stored. Nobody need be there: it waits.
    `agent99 jobs` shows what became of it.
    """
    payload = read_payload(words or (), options.json_payload)
    stored = run_async(_post(scope, options, capability, operation, payload))
    if scope.json:
        print_json({"id": stored})
    else:
        tell(stored)
    return Exit.OK


async def _post(
    scope: Scope, options: PostOptions, capability: str, operation: str, payload: dict[str, Any]
) -> str:
    async with join(scope) as mesh:
        warn_of_fields(find_capable(mesh.peers(), capability), operation, payload)
        return await mesh.post(
            capability, operation, payload, idempotency_key=options.idempotency_key
        )
