"""`agent99 trace`: one request's way through the mesh."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from agent99.cli._call import Timeout, check_timeout
from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import print_json, tell
from agent99.cli._traced import Found, Untold, drawing, find_trace, refusals

ID_DIGITS = 32
"""In a trace's id, and in an event id without its dashes."""


class TraceOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 trace` alone."""

    timeout: Timeout = 5.0


def trace(
    scope: Scope,
    options: TraceOptions,
    wanted: Annotated[
        str, typer.Argument(metavar="ID", help="Of the trace, or of an event or request in it.")
    ],
) -> int:
    r"""Draw one request and all that it led to, through every process, as a tree.

    \b
    agent99 trace 6f1d2c3b-1234-4abc-8def-0123456789ab
    agent99 trace 6f1d2c3b12344abc8def0123456789ab --json | jq '.records[] | select(.code != "OK")'

    The id of a request stands in logs (event_id, trace_id), in errors (error.event_id), and at the
    end of what `call` says of a failure; `call --trace` draws at once. Every process is asked for
    what it keeps: its last 10,000 requests, unless AGENT99_TRACE_RECORDS_MAX says otherwise.
    Exit code 0 if all told what they know, 1 if not, 3 if nobody knows it.
    """
    found = run_async(_trace(scope, wanted, check_timeout(options.timeout)))
    if not found.records:
        raise _unknown(wanted, found)
    if scope.json:
        print_json(_document(found))
    else:
        tell(drawing(found))
    return Exit.FAILED if found.untold else Exit.OK


async def _trace(scope: Scope, wanted: str, timeout_s: float) -> Found:
    async with join(scope) as mesh:
        if not mesh.peers():
            message = f"no agents on mesh {mesh.name!r} at {mesh.url}: nobody keeps records"
            raise RefusalError(message, Exit.NOBODY, code="NO_AGENT")
        return await find_trace(mesh, wanted, timeout_s)


def _unknown(wanted: str, found: Found) -> RefusalError:
    whole = len(wanted.replace("-", "")) == ID_DIGITS
    error = RefusalError(
        f"nobody has a record of {wanted!r}: {'' if whole else 'give the whole id; '}"
        "it is event_id or trace_id in logs, error.event_id in Python, and what `agent99 call` says"
        " of a failure; a process keeps its last requests, as long as it runs",
        Exit.NOBODY,
        code="NO_RECORDS",
    )
    if found.silent:
        error.add_note(f"no answer from: {', '.join(map(str, found.silent))}")
    for line in refusals(found.refused):
        error.add_note(line)
    return error


def _document(found: Found) -> dict[str, Any]:
    return {
        "trace_id": found.trace_id,
        "records": sorted(found.records, key=lambda one: (one.started_us, one.side == "callee")),
        "more": found.more,
        "silent": [_who(one) for one in found.silent],
        "refused": [
            {**_who(one), "code": one.code, "message": one.message} for one in found.refused
        ],
    }


def _who(one: Untold) -> dict[str, str]:
    return {"name": one.name, "instance": one.instance}
