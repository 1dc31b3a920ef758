"""The payments of the shop, in SQL, with a ledger of double entries beside them.

Any number of processes may share one database. What is asked for takes effect once, because the
payment of an order is named by it; a charge without an order takes effect once per idempotency key.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from agent99.clock import Clock
from agent99.errors import Failure
from agent99.ids import Ids
from agent99.store import Store
from agent99.systems.shop import _payment_steps as steps
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._model import PAYMENT_DECLINED, Charge, ChargeReceipt
from agent99.systems.shop._money import to_pounds
from agent99.systems.shop._payment_model import (
    Authorisation,
    Authorise,
    Capture,
    CaptureReceipt,
    PaymentView,
    Refund,
    RefundReceipt,
    Voided,
)
from agent99.systems.shop._payment_rows import Stamp, payment_of
from agent99.systems.shop._refunds import refund


class Payments:
    """Who paid what for which order, and the ledger that proves it.

    Money is held for an order, then taken, in whole or in part, or let go; what was taken goes back
    in one refund or in many. A charge holds and takes at once.

    Invariant: an order has at most one payment, and of that `refunded <= captured <= authorised`;
    each capture and each refund is a debit of one and a credit of the other of `cash` and `sales`
    (a debit is positive); the ledger sums to 0, in whole and per transaction, and its cash is what
    was captured less what was refunded.
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

        What is held for the order already is taken.

        Args:
            request: Of whom, how much, for which order.
            key: The same key and request get the same answer; not needed with an order.

        Raises:
            Failure: `PAYMENT_DECLINED` (`reason`, `payment_id`); noted, and final for the order.
                `PAYMENT_CLOSED` (`order_id`, `payment_id`, `state`): the order's was voided.
            IdempotencyConflictError: the order or the key came before with another request.
            StoreError: and its kinds.
        """
        settled = await self._settle(request, key)
        if settled.state == "declined" or settled.transaction_id is None:
            raise _declined(settled.payment_id)
        return ChargeReceipt(
            payment_id=settled.payment_id,
            amount=to_pounds(settled.amount_pence),
            transaction_id=settled.transaction_id,
            amount_pence=settled.amount_pence,
        )

    async def authorise(self, request: Authorise) -> Authorisation:
        """Hold the money of an order, or refuse it by rule 9. The same again: the same answer.

        It stays the answer whatever has become of the money since, unless it was let go: what was
        given up is not held again by a request that comes late.

        Raises:
            Failure: `PAYMENT_DECLINED` (`reason`, `payment_id`); noted, and final for the order.
                `PAYMENT_CLOSED` (`order_id`, `payment_id`, `state`): it was voided.
            IdempotencyConflictError: the order came before with another customer or amount.
            StoreError: and its kinds.
        """
        work = partial(
            steps.authorise,
            request=request,
            is_declined=self._declines.declines(request.order_id),
            stamp=self._stamp(),
        )
        if not await self._store.transaction(work):
            raise _declined(payment_of(request.order_id))
        return Authorisation(
            payment_id=payment_of(request.order_id),
            order_id=request.order_id,
            authorised_pence=request.amount_pence,
        )

    async def capture(self, request: Capture) -> CaptureReceipt:
        """Take what is held for an order, and let go the rest. The same again: the same answer.

        Raises:
            Failure: `PAYMENT_NOT_FOUND`; `PAYMENT_CLOSED` (`order_id`, `payment_id`, `state`): it
                was voided or declined; `CAPTURE_TOO_LARGE` (`authorised_pence`,
                `requested_pence`).
            IdempotencyConflictError: another amount was taken before.
            StoreError: and its kinds.
        """
        work = partial(steps.capture, request=request, stamp=self._stamp())
        return await self._store.transaction(work)

    async def void(self, order_id: UUID) -> Voided:
        """Let go what is held for an order. The same order again gets the same answer.

        An order without a payment is noted as voided, so that a request to hold its money that is
        still on its way takes no effect. Of a declined one there is nothing to let go.

        Raises:
            Failure: `PAYMENT_CLOSED` (`order_id`, `payment_id`, `state`): the money was taken;
                refund it instead.
            StoreError: and its kinds.
        """
        work = partial(steps.void, order_id=order_id, at_us=self._clock.wall_us())
        return await self._store.transaction(work)

    async def refund(self, request: Refund) -> RefundReceipt:
        """Give money back, of what was taken for an order. The same refund: the same answer.

        Any number of refunds with ids of their own, together never more than was taken. One that is
        refused leaves no trace: its id is as new.

        Raises:
            Failure: `PAYMENT_NOT_FOUND`; `REFUND_TOO_LARGE` (`captured_pence`, `refunded_pence`,
                `requested_pence`): so much is not left, or nothing was taken at all.
            IdempotencyConflictError: the refund came before with another order, amount or reason.
            StoreError: and its kinds.
        """
        work = partial(refund, request=request, stamp=self._stamp())
        return await self._store.transaction(work)

    async def payment_of(self, order_id: UUID) -> PaymentView:
        """Return the payment of an order: how an outcome that is unknown becomes known.

        Raises:
            Failure: `PAYMENT_NOT_FOUND`: nothing that was asked for took effect so far.
            StoreError: and its kinds.
        """
        return await self._store.read(partial(steps.view, order_id=order_id))

    async def _settle(self, request: Charge, key: str | None) -> steps.Settled:
        order_id = request.order_id
        payment_id = UUID(self._ids.uuid()) if order_id is None else payment_of(order_id)
        work = partial(
            steps.settle,
            request=request,
            payment_id=payment_id,
            is_declined=self._declines.declines(payment_id if order_id is None else order_id),
            stamp=self._stamp(),
        )
        if key is None:
            return await self._store.transaction(work)
        return await self._store.once(key, request, work, steps.Settled)

    def _stamp(self) -> Stamp:
        return Stamp(f"txn_{self._ids.token().decode()}", self._clock.wall_us())


def _declined(payment_id: UUID) -> Failure:
    return Failure(
        f"payment {payment_id} was declined by the bank",
        code=PAYMENT_DECLINED,
        details={"reason": "declined_by_bank", "payment_id": str(payment_id)},
    )
