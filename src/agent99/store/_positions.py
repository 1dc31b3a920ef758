"""How far a reader of a log is, kept with the effects of what it has read, and fenced by an epoch.

A part of a log has one owner at a time, and each owner a higher epoch than those before. The row
remembers the highest epoch that came: a transaction of an owner of before is refused, however late
it comes, and so is its effect.
"""

from __future__ import annotations

from typing import Final

from agent99.errors import LeaseLostError, UsageError
from agent99.store._append import check_text
from agent99.store._transaction import Transaction

_READER_BYTES_MAX: Final = 256

# One statement that takes the row's lock and compares: on PostgreSQL a second owner waits here
# until the first one's transaction has ended, and then sees what it wrote.
_TAKE: Final = (
    "INSERT INTO agent99_position (schema_name, reader, part, epoch, position, begun)"
    " VALUES (:schema, :reader, :part, :epoch, :position, :position)"
    " ON CONFLICT (schema_name, reader, part) DO UPDATE SET epoch = excluded.epoch"
    " WHERE agent99_position.epoch <= excluded.epoch RETURNING position"
)
_ADVANCE: Final = (
    "UPDATE agent99_position SET position = :position"
    " WHERE schema_name = :schema AND reader = :reader AND part = :part AND position < :position"
)

_READ: Final = (
    "SELECT part, begun, position FROM agent99_position"
    " WHERE schema_name = :schema AND reader = :reader"
)

_FORGET: Final = tuple(
    f"DELETE FROM {table} WHERE schema_name = :schema AND reader = :reader"  # noqa: S608 - two names
    for table in ("agent99_position", "agent99_inbox")
)


def claim_position(
    transaction: Transaction, reader: str, part: int, epoch: int, *, start: int = 0
) -> int:
    """Own a part of a log from now on, and return the position up to which its effects are here.

    Once it has committed, no transaction of an owner with a lower epoch takes effect.

    Args:
        reader: Who reads: 1 to 256 bytes.
        part: Which part of the log; 0 or more.
        epoch: The owner's; 1 or more, and higher than that of every owner before.
        start: The position where nothing is known of this part yet.

    Raises:
        LeaseLostError: an owner with a higher epoch was here; nothing was changed.
        UsageError, InvalidNameError: an argument.
        as `Transaction.execute`.
    """
    return _take(transaction, reader, part, epoch, start)


def advance_position(
    transaction: Transaction, reader: str, part: int, epoch: int, position: int
) -> int:
    """Move the position on, in the transaction of the effects; returns where it was before.

    What lies at or before the returned position has its effect here already: leave it out. The
    position never goes back.

    Args:
        position: Of the last record whose effect is in this transaction.

    Raises:
        LeaseLostError: an owner with a higher epoch was here: let the transaction fail by it.
        UsageError, InvalidNameError: an argument.
        as `Transaction.execute`.
    """
    before = _take(transaction, reader, part, epoch, 0)
    if position > before:
        values = {"schema": transaction.scope.schema, "reader": reader, "part": part}
        transaction.execute(_ADVANCE, {**values, "position": position})
    return before


def read_positions(transaction: Transaction, reader: str) -> dict[int, tuple[int, int]]:
    """Return by part behind which position a reader began, and up to which its effects are here.

    Raises:
        InvalidNameError: the reader.
        as `Transaction.execute`.
    """
    check_text("reader", reader, _READER_BYTES_MAX)
    rows = transaction.execute(_READ, {"schema": transaction.scope.schema, "reader": reader})
    return {row.part: (row.begun, row.position) for row in rows}


def forget_reader(transaction: Transaction, reader: str) -> None:
    """Forget how far a reader is, and which messages it has seen: it begins anew, if ever.

    Nobody may own any part of its log then: the epochs are forgotten, too.

    Raises:
        InvalidNameError: the reader.
        as `Transaction.execute`.
    """
    check_text("reader", reader, _READER_BYTES_MAX)
    values = {"schema": transaction.scope.schema, "reader": reader}
    for statement in _FORGET:
        transaction.execute(statement, values)


def _take(transaction: Transaction, reader: str, part: int, epoch: int, start: int) -> int:
    check_text("reader", reader, _READER_BYTES_MAX)
    if part < 0 or epoch < 1 or start < 0:
        message = f"part {part}, epoch {epoch} or position {start} is out of range"
        raise UsageError(message)
    values = {"schema": transaction.scope.schema, "reader": reader, "part": part}
    row = transaction.execute(_TAKE, {**values, "epoch": epoch, "position": start}).first()
    if row is None:
        message = f"another owner with a higher epoch than {epoch} has part {part} of {reader!r}"
        raise LeaseLostError(message)
    position: int = row.position
    return position
