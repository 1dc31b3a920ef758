"""The payments: once per order, declined by the rule, a ledger that sums to nothing."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from typing import Any

import pytest

from agent99.errors import Failure, IdempotencyConflictError
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._model import Charge
from tests.systems.shop._shop import OpenShop, Shop, an_id


def _charge(order: object, pounds: str = "12.50") -> Charge:
    order_id = None if order is None else an_id(order)
    return Charge(customer_id=an_id("someone"), amount=Decimal(pounds), order_id=order_id)


async def _rows(shop: Shop, sql: str) -> list[Any]:
    return await shop.store.read(lambda tx: list(tx.execute(sql)))


async def test_a_charge_is_captured_and_entered_twice(open_shop: OpenShop) -> None:
    """The answer is the sample's; the ledger has a debit and a credit of the amount."""
    shop = await open_shop()
    receipt = await shop.payments.charge(_charge(1))
    assert (True, "12.50", 1250) == (receipt.success, str(receipt.amount), receipt.amount_pence)
    assert re.fullmatch(r"txn_[0-9a-f]{32}", receipt.transaction_id)
    entries = await _rows(shop, "SELECT account, pence FROM ledger ORDER BY account")
    assert [("cash", 1250), ("sales", -1250)] == [tuple(entry) for entry in entries]
    payment = await shop.payments.payment_of(an_id(1))
    assert (receipt.payment_id, "captured", receipt.transaction_id) == (
        payment.payment_id,
        payment.state,
        payment.transaction_id,
    )


async def test_an_order_is_charged_once(open_shop: OpenShop) -> None:
    """Fifty charges from two processes are one payment and one answer (S4)."""
    shops = [await open_shop(), await open_shop()]
    charges = [shops[index % 2].payments.charge(_charge(1)) for index in range(50)]
    assert 1 == len(set(await asyncio.gather(*charges)))
    assert 1 == (await _rows(shops[0], "SELECT count(*) FROM payments"))[0][0]
    assert 2 == (await _rows(shops[0], "SELECT count(*) FROM ledger"))[0][0]
    with pytest.raises(IdempotencyConflictError):
        await shops[1].payments.charge(_charge(1, "12.51"))


async def test_a_declined_order_stays_declined(open_shop: OpenShop) -> None:
    """The decline is noted with its payment, has no money behind it, and is final for the order."""
    strict = await open_shop(DeclineRule(rate=1.0))
    lenient = await open_shop(DeclineRule(rate=0.0))
    payment_ids = set()
    for shop in (strict, strict, lenient):
        with pytest.raises(Failure) as caught:
            await shop.payments.charge(_charge(1))
        assert "PAYMENT_DECLINED" == caught.value.code
        assert "declined_by_bank" == caught.value.details["reason"]
        payment_ids.add(caught.value.details["payment_id"])
    payment = await lenient.payments.payment_of(an_id(1))
    assert {str(payment.payment_id)} == payment_ids
    assert ("declined", None) == (payment.state, payment.transaction_id)
    assert [] == await _rows(strict, "SELECT * FROM ledger")


async def test_the_hash_decides_whichever_process_serves(open_shop: OpenShop) -> None:
    """Exactly the orders of the rule are declined (rule 9)."""
    rule = DeclineRule(rate=0.4, seed=7)
    shops = [await open_shop(rule), await open_shop(rule)]
    declined = set()
    for number in range(40):
        try:
            await shops[number % 2].payments.charge(_charge(number))
        except Failure:
            declined.add(number)
    assert {number for number in range(40) if rule.declines(an_id(number))} == declined
    total = await _rows(shops[0], "SELECT sum(pence), count(*) FROM ledger")
    assert (0, 2 * (40 - len(declined))) == tuple(total[0])


async def test_a_charge_without_an_order_goes_by_its_key(open_shop: OpenShop) -> None:
    """The same key is charged once; without a key every charge is a new one."""
    shop = await open_shop()
    keyed = {await shop.payments.charge(_charge(None), key="k") for _ in range(3)}
    assert 1 == len(keyed)
    free = {await shop.payments.charge(_charge(None)) for _ in range(3)}
    assert 3 == len(free)
    with pytest.raises(IdempotencyConflictError):
        await shop.payments.charge(_charge(None, "1"), key="k")
    assert 4 == (await _rows(shop, "SELECT count(*) FROM payments"))[0][0]


async def test_a_decline_under_a_key_is_an_answer_too(open_shop: OpenShop) -> None:
    """The same key gets the same refusal, with the same payment."""
    shop = await open_shop(DeclineRule(rate=1.0))
    seen = set()
    for _ in range(2):
        with pytest.raises(Failure) as caught:
            await shop.payments.charge(_charge(None), key="k")
        seen.add(caught.value.details["payment_id"])
    assert 1 == len(seen)


async def test_an_order_that_was_not_charged_has_no_payment(open_shop: OpenShop) -> None:
    """An unknown outcome becomes known by asking: no payment, or one (the sample guessed, S8)."""
    shop = await open_shop()
    with pytest.raises(Failure) as caught:
        await shop.payments.payment_of(an_id(1))
    assert "PAYMENT_NOT_FOUND" == caught.value.code
