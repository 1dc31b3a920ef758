"""Keeps a pipeline's horizon where it is while those who fold take records by it.

On PostgreSQL by advisory locks, which are given in the order in which they are asked for: of the
row locks those that share would go before, and one who is to move the horizon would wait as long as
anybody folds. SQLite has one writer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent99.store import Transaction

# Rising, so that all who take several do so in one order, and wait for each other in no circle.
_SHARE: Final = (
    "SELECT pg_advisory_xact_lock_shared(number) FROM unnest(CAST(:numbers AS BIGINT[])) AS number"
)
_OWN: Final = "SELECT pg_advisory_xact_lock(:number)"


def share_horizons(transaction: Transaction, reader: str, pipelines: Iterable[str]) -> None:
    """Until this transaction ends, the horizons of some pipelines stay where they are."""
    numbers = sorted(_number(reader, pipeline) for pipeline in pipelines)
    if numbers and transaction.dialect == "postgresql":
        transaction.execute(_SHARE, {"numbers": numbers})


def own_horizon(transaction: Transaction, reader: str, pipeline: str) -> None:
    """Until this transaction ends, nobody takes records by the horizon of a pipeline."""
    if transaction.dialect == "postgresql":
        transaction.execute(_OWN, {"number": _number(reader, pipeline)})


def _number(reader: str, pipeline: str) -> int:
    whole = f"{reader}\0{pipeline}".encode()
    digest = hashlib.blake2b(whole, digest_size=8, person=b"a99-horizon").digest()
    return int.from_bytes(digest, signed=True)
