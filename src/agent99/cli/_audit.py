"""`agent99 audit`: what the audit log says, and whether it is what was once written."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._join import join, run_async, scoped_settings
from agent99.cli._scope import Scope
from agent99.cli._show import compact, count, moment, print_json, print_table, shortened, tell
from agent99.cli._where import parse_age_s
from agent99.clock import SystemClock
from agent99.errors import UsageError

if TYPE_CHECKING:
    from agent99.systems.events import AuditLog, AuditRecord

LIMIT: Final = 100
LIMIT_MAX: Final = 10_000
_COLUMNS = ("number", "stored", "type", "entity", "actor", "event")
_EVENT_CHARACTERS = 60
_SQLITE = "sqlite:///"


class StoreOption(msgspec.Struct, frozen=True):
    """Where the audit log is."""

    store: Annotated[
        str,
        typer.Option(
            "--store",
            metavar="URL",
            help="The audit log's database; else AGENT99_AUDIT_STORE, else the project's file.",
        ),
    ] = ""


class VerifyOptions(StoreOption, frozen=True):
    """The options of `agent99 audit verify` alone."""

    offline: Annotated[
        bool,
        typer.Option("--offline", help="Do not ask the mesh for its anchors: look at SQL alone."),
    ] = False


class Format(StrEnum):
    """Of an export."""

    JSONL = "jsonl"
    PARQUET = "parquet"


class ExportOptions(StoreOption, frozen=True):
    """The argument and the options of `agent99 audit export` alone."""

    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; stdout if left out.")] = (
        ""
    )
    format: Annotated[
        Format, typer.Option("--format", help="Lines of JSON, or Parquet, which needs a file.")
    ] = Format.JSONL


class ListOptions(StoreOption, frozen=True):
    """The options of `agent99 audit list` alone."""

    type: Annotated[
        str, typer.Option("--type", metavar="TOPIC", help="Such as order.placed, order.* or >.")
    ] = ""
    entity: Annotated[str, typer.Option("--entity", metavar="KEY", help="The events' key.")] = ""
    actor: Annotated[
        str, typer.Option("--actor", metavar="ID", help="The instance that appended them.")
    ] = ""
    trace: Annotated[str, typer.Option("--trace", metavar="ID", help="Their trace.")] = ""
    newer: Annotated[
        str, typer.Option("--newer", metavar="AGE", help="Stored within 30s, 5m, 1h, 2d.")
    ] = ""
    after: Annotated[
        int, typer.Option("--after", metavar="N", min=0, help="Behind entry N alone.")
    ] = 0
    limit: Annotated[
        int,
        typer.Option(
            "--limit", metavar="N", min=1, max=LIMIT_MAX, help=f"At most so many; {LIMIT} else."
        ),
    ] = LIMIT


def verify(scope: Scope, options: VerifyOptions) -> int:
    r"""Look at every entry of the audit log: whether it is what was once written, and all of it.

    \b
    agent99 audit verify
    agent99 audit verify --offline --store sqlite:///audit.db
    agent99 audit verify --json | jq .head

    Each entry's hash covers its content and the hash before. The end of the chain is compared with
    how far the mesh's events were written into it, and with the anchors that the mesh keeps. Exit
    code 1 names the first entry that is changed, missing, or not where it belongs.
    """
    return run_async(_verify(scope, options))


async def _verify(scope: Scope, options: VerifyOptions) -> int:
    from agent99.systems.events import reader_of

    reader = reader_of(scoped_settings(scope).mesh)
    async with _opened(options.store) as log:
        anchors = None if options.offline else await _anchors(scope, await log.chain())
        proof = await log.verify(reader, anchors)
    if scope.json:
        print_json(proof)
    elif proof.breach is None:
        anchored = f", {count(proof.anchors, 'anchor')}"
        tell(f"sound: {count(proof.entries, 'entry', 'entries')}{anchored}, head {proof.head}")
    else:
        tell(f"entry {proof.breach.number} ({proof.breach.rule}): {proof.breach.message}")
    return Exit.OK if proof.breach is None else Exit.FAILED


async def _anchors(scope: Scope, chain: str) -> Mapping[int, bytes]:
    from agent99.systems.events import Anchors

    async with join(scope) as mesh:
        return await Anchors(mesh).read(chain)


def list_entries(scope: Scope, options: ListOptions) -> int:
    r"""List entries of the audit log, the oldest first.

    \b
    agent99 audit list --type 'order.*' --newer 1h
    agent99 audit list --entity 7f3a --json | jq '.entries[].event'

    More than the limit: go on with --after and the last number.
    """
    return run_async(_list(scope, options))


async def _list(scope: Scope, options: ListOptions) -> int:
    from agent99.systems.events import Query, record_of

    now_us = SystemClock().wall_us()
    since_us = now_us - int(parse_age_s(options.newer) * 1e6) if options.newer else None
    query = Query(
        type=options.type,
        actor=options.actor,
        entity=options.entity,
        correlation=options.trace,
        since_us=since_us,
        after=options.after,
        limit=options.limit,
    )
    async with _opened(options.store) as log:
        records = [record_of(entry) for entry in await log.find(query)]
    if scope.json:
        print_json({"entries": records, "count": len(records)})
        return Exit.OK
    if records:
        print_table(_COLUMNS, [_row(record) for record in records], numbers=frozenset({"number"}))
    is_full = len(records) == options.limit
    more = f"; there may be more: --after {records[-1].audit_id}" if is_full else ""
    tell(f"{count(len(records), 'entry', 'entries')}{more}")
    return Exit.OK


def _row(record: AuditRecord) -> tuple[str, ...]:
    event = shortened(compact(record.event), _EVENT_CHARACTERS)
    stored = moment(int(record.stored_at.timestamp() * 1e6))
    return (
        *(f"{record.audit_id}", stored, record.event_type),
        *(record.entity, record.actor, event),
    )


def export(scope: Scope, options: ExportOptions) -> int:
    r"""Write every entry to a file, or as JSON to stdout; repeats too, with their hashes.

    \b
    agent99 audit export > audit.jsonl
    agent99 audit export --format parquet audit.parquet

    JSON is one document a line. A file stands there when it is whole, in the place of one that was
    there before. What is added meanwhile is not in it.
    """
    return run_async(_export(scope, options))


async def _export(scope: Scope, options: ExportOptions) -> int:
    from agent99.systems.events import whole_file, write_lines, write_parquet

    is_parquet = options.format is Format.PARQUET
    if is_parquet and not options.file:
        message = "Parquet is no text: name a file, agent99 audit export --format parquet FILE"
        raise UsageError(message)
    async with _opened(options.store) as log:
        if not options.file:
            await write_lines(log, sys.stdout.buffer)
            return Exit.OK
        with whole_file(Path(options.file)) as file:
            entries = await (write_parquet if is_parquet else write_lines)(log, file)
    if scope.json:
        print_json({"file": options.file, "entries": entries})
    else:
        tell(f"{options.file}: {count(entries, 'entry', 'entries')}")
    return Exit.OK


@asynccontextmanager
async def _opened(url: str) -> AsyncGenerator[AuditLog]:
    """Open the audit log that is there; none is made.

    Raises:
        RefusalError: there is none, or a library is missing.
    """
    from agent99.systems.events import AuditLog, audit_url

    url = url or audit_url()
    _check_there(url)
    async with AsyncExitStack() as stack:
        try:
            log = await stack.enter_async_context(AuditLog.opened(url))
        except ImportError as error:
            raise RefusalError(str(error), Exit.USAGE) from error
        yield log


def _check_there(url: str) -> None:
    path = Path(url.removeprefix(_SQLITE))
    if url.startswith(_SQLITE) and not path.exists():
        raise RefusalError(f"there is no audit log at {path}", Exit.NOBODY)


def build_app() -> typer.Typer:
    """Return the group of commands."""
    from agent99.cli._command import add_command

    app = typer.Typer(
        help="Read the audit log, and prove that it is what was written.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for name, function in (("verify", verify), ("list", list_entries), ("export", export)):
        add_command(app, name, function)
    return app
