"""Giving money back: in any number of parts, each named, together never more than was taken.

The row of the payment is locked first and the refund's own is written after it, always: who waits
for one holds nothing that the other waits for.
"""

from __future__ import annotations

from typing import Any, NoReturn
from uuid import UUID

from agent99.errors import Failure, IdempotencyConflictError
from agent99.store import Transaction
from agent99.systems.shop._payment_model import (
    REFUND_TOO_LARGE,
    REFUNDS_SHOWN_MAX,
    Refund,
    RefundReceipt,
    RefundView,
)
from agent99.systems.shop._payment_rows import Stamp, lock_known, move_cash

_NOTE = (
    "INSERT INTO refunds (refund_id, payment_id, number, amount_pence, reason, transaction_id,"
    " at_us) VALUES (:refund_id, :payment_id, :number, :amount_pence, :reason, :transaction_id,"
    " :at_us) ON CONFLICT DO NOTHING"
)
_ADD = (
    "UPDATE payments SET refunded_pence = refunded_pence + :pence, updated_us = :at_us"
    " WHERE payment_id = :payment_id"
)
_LAST = "SELECT coalesce(max(number), 0) AS last FROM refunds WHERE payment_id = :payment_id"
_FIND = "SELECT * FROM refunds WHERE refund_id = :refund_id"
_LATEST = (
    "SELECT * FROM refunds WHERE payment_id = :payment_id ORDER BY number DESC LIMIT :refunds_max"
)


def refund(tx: Transaction, *, request: Refund, stamp: Stamp) -> RefundReceipt:
    """Give money back, as long as all refunds together are within what was taken.

    Raises:
        Failure: `PAYMENT_NOT_FOUND`, `REFUND_TOO_LARGE`.
        IdempotencyConflictError: the refund came before with another content.
        StoreError: and its kinds.
    """
    payment = lock_known(tx, request.order_id)
    before = tx.execute(_FIND, {"refund_id": str(request.refund_id)}).first()
    if before is not None:
        return _repeated(before, payment, request)
    pence = request.amount_pence
    if payment.refunded_pence + pence > payment.captured_pence:
        _refuse(payment, pence)
    which = {"payment_id": payment.payment_id}
    row: dict[str, Any] = {
        **which,
        "refund_id": str(request.refund_id),
        "number": 1 + tx.execute(_LAST, which).one().last,
        "amount_pence": pence,
        "reason": request.reason,
        "transaction_id": stamp.transaction_id,
        "at_us": stamp.at_us,
    }
    if not tx.execute(_NOTE, row).changed:
        raise IdempotencyConflictError(str(request.refund_id))  # another order's, just now
    tx.execute(_ADD, {**which, "pence": pence, "at_us": stamp.at_us})
    move_cash(tx, payment.payment_id, -pence, stamp)
    return _receipt(payment, request, stamp.transaction_id)


def refunds_of(tx: Transaction, payment_id: str) -> tuple[RefundView, ...]:
    """Return the refunds of a payment, the oldest first; of too many the latest.

    Raises:
        StoreError: and its kinds.
    """
    rows = tx.execute(_LATEST, {"payment_id": payment_id, "refunds_max": REFUNDS_SHOWN_MAX})
    latest = [
        RefundView(UUID(row.refund_id), row.amount_pence, row.reason, row.transaction_id, row.at_us)
        for row in rows
    ]
    return tuple(reversed(latest))


def _repeated(before: Any, payment: Any, request: Refund) -> RefundReceipt:
    kept = (before.payment_id, before.amount_pence, before.reason)
    if kept != (payment.payment_id, request.amount_pence, request.reason):
        raise IdempotencyConflictError(str(request.refund_id))
    return _receipt(payment, request, before.transaction_id)


def _receipt(payment: Any, request: Refund, transaction_id: str) -> RefundReceipt:
    return RefundReceipt(
        refund_id=request.refund_id,
        payment_id=UUID(payment.payment_id),
        order_id=request.order_id,
        amount_pence=request.amount_pence,
        transaction_id=transaction_id,
    )


def _refuse(payment: Any, pence: int) -> NoReturn:
    captured, refunded = payment.captured_pence, payment.refunded_pence
    raise Failure(
        f"{pence} pence are to go back for order {payment.order_id}, for which {captured} were"
        f" taken and of which {refunded} went back before",
        code=REFUND_TOO_LARGE,
        details={
            "captured_pence": captured,
            "refunded_pence": refunded,
            "requested_pence": pence,
        },
    )
