"""The rows of the payments: written, locked, changed and read, and refused where they say no."""

from __future__ import annotations

from typing import Any, Final, NoReturn
from uuid import UUID

import msgspec

from agent99.errors import Failure
from agent99.store import Transaction
from agent99.systems.shop._identity import derived_uuid
from agent99.systems.shop._ledger import Movement, enter
from agent99.systems.shop._model import PAYMENT_NOT_FOUND
from agent99.systems.shop._payment_model import PAYMENT_CLOSED

_NOTE = (
    "INSERT INTO payments (payment_id, order_id, customer_id, state, currency, amount_pence,"
    " captured_pence, transaction_id, at_us, updated_us) VALUES (:payment_id, :order_id,"
    " :customer_id, :state, :currency, :amount_pence, :captured_pence, :transaction_id, :at_us,"
    " :at_us) ON CONFLICT DO NOTHING"
)
_TAKE = (
    "UPDATE payments SET state = 'captured', captured_pence = :pence,"
    " transaction_id = :transaction_id, updated_us = :at_us WHERE payment_id = :payment_id"
)
_FIND = "SELECT * FROM payments WHERE payment_id = :payment_id"
_NOTHING: Final[dict[str, Any]] = {
    "order_id": None,
    "customer_id": None,
    "amount_pence": 0,
    "captured_pence": 0,
    "transaction_id": None,
}


class Stamp(msgspec.Struct, frozen=True):
    """What a step brings along: a transaction may run twice, and must do the same both times."""

    transaction_id: str
    """The name of the movement, should money move."""
    at_us: int


def payment_of(order_id: UUID) -> UUID:
    """Return the name of the one payment that an order has."""
    return derived_uuid("payment", order_id)


def note(tx: Transaction, row: dict[str, Any]) -> bool:
    """Write a payment down and return whether it is new; another that writes it is waited for.

    Args:
        tx: The transaction.
        row: `payment_id`, `state`, `currency`, `at_us`, and what else is known.

    Raises:
        StoreError: and its kinds.
    """
    return tx.execute(_NOTE, _NOTHING | row).changed == 1


def take(tx: Transaction, payment_id: str, pence: int, stamp: Stamp) -> None:
    """Turn what is held into what was taken, and enter it.

    Raises:
        StoreError: and its kinds.
    """
    moved = {"transaction_id": stamp.transaction_id, "at_us": stamp.at_us}
    tx.execute(_TAKE, {**moved, "payment_id": payment_id, "pence": pence})
    move_cash(tx, payment_id, pence, stamp)


def move_cash(tx: Transaction, payment_id: str, pence: int, stamp: Stamp) -> None:
    """Enter money that came in, or went back where it is negative.

    Raises:
        StoreError: and its kinds.
    """
    movement = Movement(
        transaction_id=stamp.transaction_id,
        payment_id=payment_id,
        cash_pence=pence,
        at_us=stamp.at_us,
    )
    enter(tx, movement)


def lock(tx: Transaction, payment_id: UUID) -> Any:
    """Return the row of a payment, or None; it is ours alone until the transaction ends.

    Raises:
        StoreError: and its kinds.
    """
    name = str(payment_id)
    return tx.lock("payments", (name,), key="payment_id").get(name)


def lock_known(tx: Transaction, order_id: UUID) -> Any:
    """Return the row of an order's payment; as `lock`.

    Raises:
        Failure: `PAYMENT_NOT_FOUND`.
        StoreError: and its kinds.
    """
    found = lock(tx, payment_of(order_id))
    if found is None:
        raise _not_found(order_id)
    return found


def find_known(tx: Transaction, order_id: UUID) -> Any:
    """Return the row of an order's payment, without a lock.

    Raises:
        Failure: `PAYMENT_NOT_FOUND`.
        StoreError: and its kinds.
    """
    found = tx.execute(_FIND, {"payment_id": str(payment_of(order_id))}).first()
    if found is None:
        raise _not_found(order_id)
    return found


def refuse_closed(found: Any, so: str) -> NoReturn:
    """Say that a payment has ended otherwise.

    Raises:
        Failure: `PAYMENT_CLOSED`, always.
    """
    raise Failure(
        f"the payment of order {found.order_id} is {found.state}: {so}",
        code=PAYMENT_CLOSED,
        details={
            "order_id": found.order_id,
            "payment_id": found.payment_id,
            "state": found.state,
        },
    )


def _not_found(order_id: UUID) -> Failure:
    return Failure(
        f"order {order_id} has no payment",
        code=PAYMENT_NOT_FOUND,
        details={"order_id": str(order_id)},
    )
