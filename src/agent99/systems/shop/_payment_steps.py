"""What happens to a payment, each in one transaction: charged at once, or held, taken, let go.

The row of the payment is written or locked before anything is decided about it, so that of two
requests for the same order one waits there, and finds what the other did.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from agent99.errors import Failure, IdempotencyConflictError
from agent99.store import Transaction
from agent99.systems.shop._model import Charge
from agent99.systems.shop._money import CURRENCY
from agent99.systems.shop._payment_model import (
    CAPTURE_TOO_LARGE,
    Authorise,
    Capture,
    CaptureReceipt,
    PaymentView,
    Voided,
)
from agent99.systems.shop._payment_rows import (
    Stamp,
    find_known,
    lock,
    lock_known,
    move_cash,
    note,
    payment_of,
    refuse_closed,
    take,
)
from agent99.systems.shop._refunds import refunds_of

_LET_GO = "UPDATE payments SET state = 'voided', updated_us = :at_us WHERE payment_id = :payment_id"


class Settled(msgspec.Struct, frozen=True):
    """How a charge ended. It is kept under the keys of charges without an order: change with care.

    What version 1 kept there has more fields, which are passed over.
    """

    payment_id: UUID
    state: Literal["captured", "declined"]
    amount_pence: int
    transaction_id: str | None
    """None where it was declined."""


def settle(
    tx: Transaction, *, request: Charge, payment_id: UUID, is_declined: bool, stamp: Stamp
) -> Settled:
    """Hold money and take it at once, or note that it was declined; once per payment.

    What was held for the order before is taken.

    Raises:
        Failure: `PAYMENT_CLOSED`: it was voided.
        IdempotencyConflictError: of another customer, or another sum.
        StoreError: and its kinds.
    """
    pence, transaction_id = request.amount_pence, stamp.transaction_id
    row = _row(request, payment_id, stamp.at_us)
    if is_declined:
        row["state"] = "declined"
    else:
        row |= {
            "state": "captured",
            "captured_pence": pence,
            "transaction_id": transaction_id,
        }
    if note(tx, row):
        if is_declined:
            return Settled(payment_id, "declined", pence, None)
        move_cash(tx, str(payment_id), pence, stamp)
        return Settled(payment_id, "captured", pence, transaction_id)
    found = _lock_noted(tx, request, payment_id)
    if found.state == "authorised":
        take(tx, found.payment_id, pence, stamp)
        return Settled(payment_id, "captured", pence, transaction_id)
    if found.state == "captured" and found.captured_pence != pence:
        raise IdempotencyConflictError(str(request.order_id))  # it was taken in part
    return Settled(payment_id, found.state, pence, found.transaction_id)


def authorise(tx: Transaction, *, request: Authorise, is_declined: bool, stamp: Stamp) -> bool:
    """Hold money, or note that it was declined; return whether it was held, now or before.

    Raises:
        as `settle`.
    """
    payment_id = payment_of(request.order_id)
    state = "declined" if is_declined else "authorised"
    if not note(tx, _row(request, payment_id, stamp.at_us) | {"state": state}):
        state = _lock_noted(tx, request, payment_id).state
    return state != "declined"


def capture(tx: Transaction, *, request: Capture, stamp: Stamp) -> CaptureReceipt:
    """Take what is held, or a part of it.

    Raises:
        Failure: `PAYMENT_NOT_FOUND`, `PAYMENT_CLOSED`, `CAPTURE_TOO_LARGE`.
        IdempotencyConflictError: another sum was taken before.
        StoreError: and its kinds.
    """
    found = lock_known(tx, request.order_id)
    held, transaction_id = found.amount_pence, found.transaction_id
    wanted: int = held if request.amount_pence is None else request.amount_pence
    if found.state in ("voided", "declined"):
        refuse_closed(found, "there is nothing to take")
    if found.state == "captured" and found.captured_pence != wanted:
        raise IdempotencyConflictError(str(request.order_id))
    if wanted > held:
        raise Failure(
            f"{wanted} pence are to be taken for order {request.order_id}, and {held} are held",
            code=CAPTURE_TOO_LARGE,
            details={"authorised_pence": held, "requested_pence": wanted},
        )
    if found.state == "authorised":
        transaction_id = stamp.transaction_id
        take(tx, found.payment_id, wanted, stamp)
    return CaptureReceipt(
        payment_id=payment_of(request.order_id),
        order_id=request.order_id,
        captured_pence=wanted,
        released_pence=held - wanted,
        transaction_id=transaction_id,
    )


def void(tx: Transaction, *, order_id: UUID, at_us: int) -> Voided:
    """Let go what is held; an order without a payment is noted, so that a late hold finds it.

    Raises:
        Failure: `PAYMENT_CLOSED`: the money was taken.
        StoreError: and its kinds.
    """
    payment_id = payment_of(order_id)
    row = {
        "payment_id": str(payment_id),
        "order_id": str(order_id),
        "state": "voided",
        "currency": CURRENCY,
        "at_us": at_us,
    }
    if note(tx, row):
        return Voided(payment_id, order_id, "voided", released_pence=0)
    found = lock(tx, payment_id)
    if found.state == "captured":
        refuse_closed(found, "what was taken is refunded, not voided")
    if found.state == "declined":
        return Voided(payment_id, order_id, "declined", released_pence=0)
    if found.state == "authorised":
        tx.execute(_LET_GO, {"payment_id": found.payment_id, "at_us": at_us})
    return Voided(payment_id, order_id, "voided", released_pence=found.amount_pence)


def view(tx: Transaction, *, order_id: UUID) -> PaymentView:
    """Return the payment of an order with its refunds.

    Raises:
        Failure: `PAYMENT_NOT_FOUND`.
        StoreError: and its kinds.
    """
    found = find_known(tx, order_id)
    return PaymentView(
        payment_id=payment_of(order_id),
        customer_id=None if found.customer_id is None else UUID(found.customer_id),
        order_id=order_id,
        state=found.state,
        amount_pence=found.amount_pence,
        captured_pence=found.captured_pence,
        refunded_pence=found.refunded_pence,
        transaction_id=found.transaction_id,
        refunds=refunds_of(tx, found.payment_id),
    )


def _row(request: Charge | Authorise, payment_id: UUID, at_us: int) -> dict[str, Any]:
    return {
        "payment_id": str(payment_id),
        "order_id": None if request.order_id is None else str(request.order_id),
        "customer_id": str(request.customer_id),
        "currency": request.currency,
        "amount_pence": request.amount_pence,
        "at_us": at_us,
    }


def _lock_noted(tx: Transaction, request: Charge | Authorise, payment_id: UUID) -> Any:
    """Return the row that the same request wrote before, unless it was given up since."""
    found = lock(tx, payment_id)
    if found.state == "voided":
        refuse_closed(found, "what was given up is not held again")
    if (found.customer_id, found.amount_pence) != (str(request.customer_id), request.amount_pence):
        raise IdempotencyConflictError(str(request.order_id))
    return found
