"""Payments of before the two phases: a database of version 1 goes on working, to the penny."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

import msgspec

from agent99.store import Transaction, open_store
from agent99.systems.shop._identity import derived_uuid
from agent99.systems.shop._model import Charge
from agent99.systems.shop._payment_model import Capture
from agent99.systems.shop._tables import PAYMENTS_MIGRATIONS, PAYMENTS_SCHEMA
from tests.systems.shop._shop import an_id
from tests.systems.shop._till import SOMEONE, back, charge, hold, refused, tills

_PAID, _DECLINED, _KEYED = an_id("paid"), an_id("declined"), an_id("keyed")


class _Version1View(msgspec.Struct, frozen=True):
    """What version 1 kept under the key of a charge without an order."""

    payment_id: UUID
    customer_id: UUID
    order_id: UUID | None
    state: Literal["captured", "declined"]
    amount_pence: int
    refunded_pence: int
    transaction_id: str | None


def _write(tx: Transaction, order_id: UUID | None, payment_id: UUID, paid_by: str | None) -> None:
    """Write a payment of 12.50 as version 1 did."""
    row: dict[str, Any] = {
        "payment_id": str(payment_id),
        "order_id": None if order_id is None else str(order_id),
        "customer_id": str(SOMEONE),
        "state": "declined" if paid_by is None else "captured",
        "currency": "GBP",
        "amount_pence": 1250,
        "transaction_id": paid_by,
        "at_us": 7,
    }
    tx.execute(
        "INSERT INTO payments (payment_id, order_id, customer_id, state, currency, amount_pence,"
        " transaction_id, at_us) VALUES (:payment_id, :order_id, :customer_id, :state, :currency,"
        " :amount_pence, :transaction_id, :at_us) ON CONFLICT DO NOTHING",
        row,
    )
    if paid_by is not None:
        common = {"transaction_id": paid_by, "payment_id": str(payment_id), "at_us": 7}
        tx.execute(
            "INSERT INTO ledger (transaction_id, account, payment_id, pence, at_us)"
            " VALUES (:transaction_id, :account, :payment_id, :pence, :at_us)",
            [
                {**common, "account": "cash", "pence": 1250},
                {**common, "account": "sales", "pence": -1250},
            ],
        )


def _write_keyed(tx: Transaction) -> _Version1View:
    _write(tx, None, _KEYED, "txn_keyed")
    return _Version1View(_KEYED, SOMEONE, None, "captured", 1250, 0, "txn_keyed")


def _write_orders(tx: Transaction) -> None:
    _write(tx, _PAID, derived_uuid("payment", _PAID), "txn_paid")
    _write(tx, _DECLINED, derived_uuid("payment", _DECLINED), None)


async def test_payments_of_version_1_go_on(url: str) -> None:
    """What was paid is as it was, answers as it did, and can now be given back."""
    keyed = Charge(customer_id=SOMEONE, amount=Decimal("12.50"))
    version_1 = PAYMENTS_MIGRATIONS[:1]
    async with open_store(url, migrations=version_1, schema=PAYMENTS_SCHEMA) as store:
        await store.transaction(_write_orders)
        await store.once("k", keyed, _write_keyed, _Version1View)
    async with tills(url) as open_till:
        till = await open_till()
        view = await till.payments.payment_of(_PAID)
        assert ("captured", 1250, 1250, 0, "txn_paid", ()) == (
            view.state,
            view.amount_pence,
            view.captured_pence,
            view.refunded_pence,
            view.transaction_id,
            view.refunds,
        )
        receipts = [
            await till.payments.charge(charge(_PAID)),
            await till.payments.charge(keyed, "k"),
        ]
        assert ["txn_paid", "txn_keyed"] == [each.transaction_id for each in receipts]
        await till.payments.authorise(hold(_PAID))
        assert "txn_paid" == (await till.payments.capture(Capture(_PAID))).transaction_id
        await till.payments.refund(back(_PAID, 1, 1000))
        assert 250 == await till.cash(_PAID)
        code, _ = await refused(till.payments.charge(charge(_DECLINED)))
        assert "PAYMENT_DECLINED" == code
        assert "declined" == (await till.payments.void(_DECLINED)).state
        totals = await till.rows("SELECT sum(amount_pence), sum(captured_pence) FROM payments")
        assert [(3750, 2500)] == [tuple(map(int, row)) for row in totals]
        moments = await till.rows("SELECT DISTINCT at_us FROM payments")
        assert [(7,)] == [tuple(row) for row in moments]
        (whole,) = await till.rows("SELECT sum(pence), count(*) FROM ledger")
        assert (0, 6) == tuple(map(int, whole))
