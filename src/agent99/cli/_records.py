"""Records of the quarantine: found by number or by conditions, and drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from agent99.cli._exits import Exit, RefusalError
from agent99.cli._show import moment, print_table, shortened
from agent99.cli._where import parse_where
from agent99.clock import SystemClock
from agent99.envelope import parse_name
from agent99.errors import StreamNotFoundError

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.work import Quarantined

_COLUMNS = (
    *("capability", "sequence", "operation", "reason", "code", "attempts", "since", "message"),
)
_NUMBERS = frozenset({"sequence", "attempts"})
_MESSAGE_CHARACTERS = 60

WhereOption = Annotated[
    str,
    typer.Option(
        "--where",
        metavar="CONDITIONS",
        help="Such as 'capability=mail, reason=attempts, code=BUSY, operation=send, older=1h'.",
    ),
]


def check_where(text: str) -> None:
    """Refuse conditions that mean nothing before a mesh is looked for.

    Raises:
        RefusalError
    """
    if text:
        parse_where(text, 0)


async def find_records(mesh: Mesh, where: str) -> list[Quarantined]:
    """Return the records that are meant, without what they hold: there may be many."""
    holds = parse_where(where, SystemClock().wall_us()) if where else None
    return [
        msgspec.structs.replace(record, body=b"") async for record in mesh.quarantine.records(holds)
    ]


def print_records(records: list[Quarantined]) -> None:
    """Draw a table of records."""
    print_table(_COLUMNS, [_row(record) for record in records], numbers=_NUMBERS)


def _row(record: Quarantined) -> tuple[str, ...]:
    return (
        record.capability,
        str(record.sequence),
        record.operation,
        record.reason,
        record.code,
        str(record.attempts),
        moment(record.last_us),
        shortened(record.message, _MESSAGE_CHARACTERS),
    )


async def find_record(mesh: Mesh, capability: str, sequence: int) -> Quarantined:
    """Return one record.

    Raises:
        RefusalError: it is not there.
    """
    try:
        found = await mesh.quarantine.get(parse_name("capability", capability), sequence)
    except StreamNotFoundError:
        found = None
    if found is None:
        raise RefusalError(
            f"there is no {sequence} in quarantine of {capability!r};"
            " `agent99 quarantine list` shows what is",
            Exit.NOBODY,
            code="NO_RECORD",
        )
    return found
