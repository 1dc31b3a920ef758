"""The payments of the shop, in SQL, with a ledger of double entries beside them.

Any number of processes may share one database. An order is charged once, because its payment is
named by it; a charge without an order takes effect once per idempotency key.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal
from uuid import UUID

from agent99.clock import Clock
from agent99.errors import Failure, IdempotencyConflictError
from agent99.ids import Ids
from agent99.store import Store, Transaction
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._identity import derived_uuid
from agent99.systems.shop._model import (
    PAYMENT_DECLINED,
    PAYMENT_NOT_FOUND,
    Charge,
    ChargeReceipt,
    PaymentView,
)
from agent99.systems.shop._money import to_pounds

_PAY = (
    "INSERT INTO payments (payment_id, order_id, customer_id, state, currency, amount_pence,"
    " transaction_id, at_us) VALUES (:payment_id, :order_id, :customer_id, :state, :currency,"
    " :amount_pence, :transaction_id, :at_us) ON CONFLICT DO NOTHING"
)
_ENTER = (
    "INSERT INTO ledger (transaction_id, account, payment_id, pence, at_us)"
    " VALUES (:transaction_id, :account, :payment_id, :pence, :at_us)"
)
_FIND = "SELECT * FROM payments WHERE payment_id = :payment_id"


class Payments:
    """Who paid what for which order, and the ledger that proves it.

    Invariant: an order has at most one payment; a captured one has a debit of `cash` and a
    credit of `sales` (a debit is positive); the ledger sums to 0, in whole and per transaction.
    """

    def __init__(
        self, store: Store, clock: Clock, ids: Ids, declines: DeclineRule | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._declines = declines or DeclineRule()

    def __repr__(self) -> str:
        return f"Payments({self._store!r}, {self._declines!r})"

    async def charge(self, request: Charge, key: str | None = None) -> ChargeReceipt:
        """Take the money, once per order or key, or refuse it by rule 9.

        Args:
            request: Of whom, how much, for which order.
            key: The same key and request get the same answer; not needed with an order.

        Raises:
            Failure: `PAYMENT_DECLINED` (`reason`, `payment_id`); noted, and final for the order.
            IdempotencyConflictError: the order or the key came before with another request.
            StoreError: and its kinds.
        """
        payment = await self._settle(request, key)
        if payment.state == "declined" or payment.transaction_id is None:
            raise Failure(
                f"payment {payment.payment_id} was declined by the bank",
                code=PAYMENT_DECLINED,
                details={"reason": "declined_by_bank", "payment_id": str(payment.payment_id)},
            )
        return ChargeReceipt(
            payment_id=payment.payment_id,
            amount=to_pounds(payment.amount_pence),
            transaction_id=payment.transaction_id,
            amount_pence=payment.amount_pence,
        )

    async def payment_of(self, order_id: UUID) -> PaymentView:
        """Return the payment of an order: how an outcome that is unknown becomes known.

        Raises:
            Failure: `PAYMENT_NOT_FOUND`: no charge of the order took effect so far.
            StoreError: and its kinds.
        """
        payment_id = derived_uuid("payment", order_id)
        found = await self._store.read(partial(_find, payment_id=payment_id))
        if found is None:
            raise Failure(
                f"order {order_id} has no payment",
                code=PAYMENT_NOT_FOUND,
                details={"order_id": str(order_id)},
            )
        return found

    async def _settle(self, request: Charge, key: str | None) -> PaymentView:
        order_id = request.order_id
        payment_id = (
            UUID(self._ids.uuid()) if order_id is None else derived_uuid("payment", order_id)
        )
        declined = self._declines.declines(payment_id if order_id is None else order_id)
        work = partial(
            _settle,
            request=request,
            payment_id=payment_id,
            transaction_id=None if declined else f"txn_{self._ids.token().decode()}",
            at_us=self._clock.wall_us(),
        )
        if key is None:
            return await self._store.transaction(work)
        return await self._store.once(key, request, work, PaymentView)


def _settle(
    tx: Transaction, *, request: Charge, payment_id: UUID, transaction_id: str | None, at_us: int
) -> PaymentView:
    state: Literal["captured", "declined"] = "declined" if transaction_id is None else "captured"
    amount_pence = request.amount_pence
    row: dict[str, Any] = {
        "payment_id": str(payment_id),
        "order_id": None if request.order_id is None else str(request.order_id),
        "customer_id": str(request.customer_id),
        "state": state,
        "currency": request.currency,
        "amount_pence": amount_pence,
        "transaction_id": transaction_id,
        "at_us": at_us,
    }
    if not tx.execute(_PAY, row).changed:
        return _settled_before(tx, request, payment_id)
    if transaction_id is not None:
        common = {"transaction_id": transaction_id, "payment_id": str(payment_id), "at_us": at_us}
        entries = (("cash", amount_pence), ("sales", -amount_pence))
        tx.execute(_ENTER, [{**common, "account": name, "pence": p} for name, p in entries])
    return PaymentView(
        payment_id=payment_id,
        customer_id=request.customer_id,
        order_id=request.order_id,
        state=state,
        amount_pence=amount_pence,
        refunded_pence=0,
        transaction_id=transaction_id,
    )


def _settled_before(tx: Transaction, request: Charge, payment_id: UUID) -> PaymentView:
    found = _find(tx, payment_id=payment_id)
    if found is None or (found.customer_id, found.amount_pence) != (
        request.customer_id,
        request.amount_pence,
    ):
        raise IdempotencyConflictError(str(request.order_id))
    return found


def _find(tx: Transaction, *, payment_id: UUID) -> PaymentView | None:
    row = tx.execute(_FIND, {"payment_id": str(payment_id)}).first()
    if row is None:
        return None
    return PaymentView(
        payment_id=payment_id,
        customer_id=UUID(row.customer_id),
        order_id=None if row.order_id is None else UUID(row.order_id),
        state=row.state,
        amount_pence=row.amount_pence,
        refunded_pence=row.refunded_pence,
        transaction_id=row.transaction_id,
    )
