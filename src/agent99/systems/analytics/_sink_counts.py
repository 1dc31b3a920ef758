"""What the database keeps of sinks: how much they have taken, and what was last wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agent99.store import Transaction

ERROR_CHARACTERS_MAX: Final = 500
_BEGIN: Final = (
    "INSERT INTO analytics_sink (reader, pipeline, sink, delivered, refused, sequence, error)"
    " VALUES (:reader, :pipeline, :sink, 0, 0, 0, '')"
    " ON CONFLICT (reader, pipeline, sink) DO NOTHING"
)
# By the event's place in the log: one that comes again counts once.
_COUNT: Final = (
    "UPDATE analytics_sink SET delivered = delivered + :delivered, refused = refused + :refused,"
    " sequence = :sequence"
    " WHERE reader = :reader AND pipeline = :pipeline AND sink = :sink AND sequence < :sequence"
)
_NOTE: Final = (
    "UPDATE analytics_sink SET error = :error"
    " WHERE reader = :reader AND pipeline = :pipeline AND sink = :sink"
)
_READ: Final = (
    "SELECT pipeline, sink, delivered, refused, error FROM analytics_sink WHERE reader = :reader"
)


def begin(transaction: Transaction, which: dict[str, Any]) -> None:
    """Have a sink's row be there.

    Raises:
        as `Transaction.execute`.
    """
    transaction.execute(_BEGIN, which)


def count(
    transaction: Transaction, which: dict[str, Any], sequence: int, delivered: int, refused: int
) -> None:
    """Count what became of the rows of an event, once; nothing is wrong with the sink.

    Raises:
        as `Transaction.execute`.
    """
    counts = {"sequence": sequence, "delivered": delivered, "refused": refused}
    transaction.execute(_COUNT, which | counts)
    transaction.execute(_NOTE, which | {"error": ""})


def note(transaction: Transaction, which: dict[str, Any], error: str) -> None:
    """Note what is wrong with a sink just now; empty: nothing.

    Raises:
        as `Transaction.execute`.
    """
    transaction.execute(_NOTE, which | {"error": error.replace("\0", " ")[:ERROR_CHARACTERS_MAX]})


def read_counts(
    transaction: Transaction, reader: str
) -> dict[tuple[str, str], tuple[int, int, str]]:
    """Return by pipeline and sink: rows that were delivered, those refused, and what is wrong.

    Raises:
        as `Transaction.execute`.
    """
    return {
        (row.pipeline, row.sink): (row.delivered, row.refused, row.error)
        for row in transaction.execute(_READ, {"reader": reader})
    }
