"""`agent99 quarantine`: what could not be done, to look at."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agent99.cli._exits import Exit
from agent99.cli._join import join, run_async
from agent99.cli._records import (
    WhereOption,
    check_where,
    find_record,
    find_records,
    print_records,
)
from agent99.cli._redrive import drop, redrive
from agent99.cli._scope import Scope
from agent99.cli._show import count, moment, pretty, print_json, tell

if TYPE_CHECKING:
    from agent99.work import Quarantined


class ListOptions(msgspec.Struct, frozen=True):
    """The options of `agent99 quarantine list` alone."""

    where: WhereOption = ""


def list_records(scope: Scope, options: ListOptions) -> int:
    r"""List what is in quarantine, capability by capability, the oldest first.

    \b
    agent99 quarantine list
    agent99 quarantine list --where 'capability=mail, reason=attempts, older=1h'
    agent99 quarantine list --json | jq -r '.records[] | .code' | sort | uniq -c

    Conditions are name=value, parted by commas, and all must hold: capability, operation, reason
    (attempts, not_retryable, unreadable), code, topic, id, trace; older and newer, by how long it
    has been there: 30s, 5m, 1h, 2d.
    """
    return run_async(_list(scope, options))


async def _list(scope: Scope, options: ListOptions) -> int:
    check_where(options.where)
    async with join(scope) as mesh:
        found = await find_records(mesh, options.where)
        if scope.json:
            print_json({"mesh": mesh.name, "records": [_summary(record) for record in found]})
            return Exit.OK
        if found:
            print_records(found)
        those = "fits" if options.where else "is there"
        what = count(len(found), "record") if found else f"nothing {those}"
        tell(f"{what} in quarantine of mesh {mesh.name!r} at {mesh.url}")
    return Exit.OK


def _summary(record: Quarantined) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(record)
    del document["body"]
    return document


# --- show -----------------------------------------------------------------------------------------


def show(
    scope: Scope,
    capability: Annotated[str, typer.Argument(help="As `list` shows it.")],
    sequence: Annotated[int, typer.Argument(min=1, help="As `list` shows it.")],
) -> int:
    r"""Show all of one record: why, the traceback, when, and the original message.

    \b
    agent99 quarantine show mail 17
    agent99 quarantine show mail 17 --json | jq .original

    Exit code 3 if it is not there.
    """
    return run_async(_show(scope, capability, sequence))


async def _show(scope: Scope, capability: str, sequence: int) -> int:
    async with join(scope) as mesh:
        record = await find_record(mesh, capability, sequence)
        if scope.json:
            print_json({**_summary(record), **_original(record.body)})
        else:
            tell(_text(record))
    return Exit.OK


def _original(body: bytes) -> dict[str, Any]:
    """Return a message as JSON, or as base64 where it is none."""
    try:
        return {"original": msgspec.json.decode(body)}
    except (msgspec.DecodeError, RecursionError):
        return {"original": None, "original_base64": base64.b64encode(body).decode()}


def _text(record: Quarantined) -> str:
    topic = f", of topic {record.topic}" if record.topic else ""
    lines = [
        f"{record.capability} {record.operation}{topic}: number {record.sequence} in quarantine",
        f"reason      {record.reason}",
        f"error       {record.message} ({record.code})",
        f"attempts    {record.attempts}",
        f"stored      {moment(record.first_us)}",
        f"moved here  {moment(record.last_us)}",
        f"id          {record.id or 'unreadable'}",
        f"trace       {record.trace_id or 'none'}",
        f"stood in    {record.stream} at {record.stream_sequence}",
    ]
    if record.traceback:
        lines += ["", record.traceback.rstrip()]
    original = _original(record.body)
    text = original.get("original_base64")
    shown = pretty(original["original"]) if text is None else f"no JSON; base64: {text}"
    return "\n".join([*lines, "", "the original message:", shown])


def build_app() -> typer.Typer:
    """Return the group of commands."""
    from agent99.cli._command import add_command

    app = typer.Typer(
        help="Look at what could not be done, have it done again, or give it up.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    commands = (("list", list_records), ("show", show), ("redrive", redrive), ("drop", drop))
    for name, function in commands:
        add_command(app, name, function)
    return app
