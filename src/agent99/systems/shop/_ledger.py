"""The ledger: every movement of money stands in it twice, as a debit and as a credit."""

from __future__ import annotations

from typing import Final

import msgspec

from agent99.store import Transaction

CASH: Final = "cash"
SALES: Final = "sales"

_ENTER = (
    "INSERT INTO ledger (transaction_id, account, payment_id, pence, at_us)"
    " VALUES (:transaction_id, :account, :payment_id, :pence, :at_us)"
)


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """Money that comes in, or goes back."""

    transaction_id: str
    payment_id: str
    cash_pence: int
    """What comes in; negative: what goes back."""
    at_us: int


def enter(tx: Transaction, movement: Movement) -> None:
    """Enter a movement: what `cash` gains `sales` is owed, so that the two sum to 0.

    Raises:
        StoreError: and its kinds.
    """
    common = {
        "transaction_id": movement.transaction_id,
        "payment_id": movement.payment_id,
        "at_us": movement.at_us,
    }
    entries = ((CASH, movement.cash_pence), (SALES, -movement.cash_pence))
    tx.execute(_ENTER, [{**common, "account": name, "pence": pence} for name, pence in entries])
