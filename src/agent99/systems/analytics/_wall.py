"""The wall clock that all processors of a database have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent99.store import Transaction

_NOW: Final = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) AS now_us"


def common_us(transaction: Transaction, here_us: int) -> int:
    """Return the moment by the clock of PostgreSQL; of SQLite all are on one machine.

    How long a shard has been silent is the difference of two such moments, which two processors
    have noted: by their own clocks one that is behind would count as silent, and its records be
    late.

    Args:
        here_us: By the clock of this machine, microseconds since the epoch.
    """
    if transaction.dialect != "postgresql":
        return here_us
    now_us: int = transaction.execute(_NOW).one().now_us
    return now_us
