"""One order from request to answer: every defect of the sample, and every way to fail."""

from __future__ import annotations

import asyncio

import pytest

from agent99.errors import (
    DeadlineExceededError,
    DisconnectedError,
    Failure,
    HandlerError,
    NoAgentError,
    OverloadedError,
)
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._checkout import Checkout
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._model import Charge, ChargeReceipt, PlaceOrder, Reservation, Reserve
from agent99.systems.shop._order import Refusal
from agent99.systems.shop._states import OrderEvent
from tests.systems.shop._shop import Local, OpenShop, Shop, an_id, order_of

_TEA, _MUG = an_id("tea"), an_id("mug")
_PRICES = PriceList.of([(_TEA, 110), (_TEA, 125), (_MUG, 300)])
_ORDER = order_of((_TEA, 2, "1.10"), (_MUG, 1, "3.00"))
_LATE = DeadlineExceededError("no answer in time")


async def _counter(shop: Shop) -> tuple[Checkout, Local]:
    services = Local(shop.stock, shop.payments)
    return Checkout(shop.orders, _PRICES, services), services


async def _levels(shop: Shop) -> tuple[tuple[int, int, int], ...]:
    levels = [await shop.stock.level(product) for product in (_TEA, _MUG)]
    return tuple((level.on_hand, level.reserved, level.shipped) for level in levels)


async def _paid(shop: Shop) -> int:
    sql = "SELECT coalesce(sum(pence), 0) FROM ledger WHERE account = 'cash'"
    return int(await shop.store.read(lambda tx: tx.execute(sql).scalar()) or 0)


async def _fails(checkout: Checkout, order: PlaceOrder = _ORDER, key: str | None = "k") -> Failure:
    with pytest.raises(Failure) as caught:
        await checkout.place(order, key)
    return caught.value


async def test_an_order_is_confirmed(open_shop: OpenShop) -> None:
    """Its stock has left, its money is ours, and its history has every step."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5, _MUG: 5})
    checkout, _ = await _counter(shop)
    answer = await checkout.place(_ORDER, "k")
    assert (order_uuid("k"), "confirmed", 520) == (
        answer.order_id,
        answer.status,
        answer.total_pence,
    )
    assert ((3, 0, 2), (4, 0, 1)) == await _levels(shop)
    assert 520 == await _paid(shop)
    history = (await shop.orders.view(answer.order_id)).history
    assert ["receive", "reserve", "pay", "confirm"] == [entry.event for entry in history]


async def test_the_same_key_is_one_order_and_one_answer(open_shop: OpenShop) -> None:
    """Twenty times at once by two instances, and again later: one charge (S4, E4)."""
    shops = [await open_shop(), await open_shop()]
    await shops[0].stock.fill({_TEA: 5, _MUG: 5})
    checkouts = [(await _counter(shop))[0] for shop in shops]
    places = [checkouts[index % 2].place(_ORDER, "k") for index in range(20)]
    answers = await asyncio.gather(*places)
    assert 1 == len(set(answers))
    assert answers[0] == await checkouts[0].place(_ORDER, "k")
    assert ((3, 0, 2), (4, 0, 1)) == await _levels(shops[1])
    assert 520 == await _paid(shops[1])


async def test_a_short_product_leaves_nothing_held(open_shop: OpenShop) -> None:
    """The first line is not kept when the second is short, and nothing is charged (S1)."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5, _MUG: 0})
    checkout, services = await _counter(shop)
    failure = await _fails(checkout)
    assert ("INVENTORY_ERROR", str(_MUG), 0) == (
        failure.code,
        failure.details["product_id"],
        failure.details["available"],
    )
    assert ((5, 0, 0), (0, 0, 0)) == await _levels(shop)
    assert 0 == services.calls["charge"]


async def test_a_decline_lets_the_stock_go(open_shop: OpenShop) -> None:
    """The order is rejected with the payment's reason, and its stock is back (S2)."""
    shop = await open_shop(DeclineRule(rate=1.0))
    await shop.stock.fill({_TEA: 5, _MUG: 5})
    checkout, _ = await _counter(shop)
    failure = await _fails(checkout)
    assert "PAYMENT_ERROR" == failure.code
    assert {"reason", "payment_id"} == set(failure.details)
    assert ((5, 0, 0), (5, 0, 0)) == await _levels(shop)
    assert 0 == await _paid(shop)


async def test_an_invented_price_is_refused(open_shop: OpenShop) -> None:
    """The total is never computed from a price that the client made up (S3)."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5, _MUG: 5})
    checkout, services = await _counter(shop)
    failure = await _fails(checkout, order_of((_TEA, 1, "1.10"), (_MUG, 1, "0.01")))
    assert ("PRICE_MISMATCH", "$.items[1].unit_price") == (failure.code, failure.details["path"])
    assert 0 == services.calls.total()


async def test_a_product_that_nobody_stocks_is_an_inventory_error(open_shop: OpenShop) -> None:
    """It has a price but no shelf: the order is refused by the sample's code."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5})
    checkout, _ = await _counter(shop)
    failure = await _fails(checkout)
    assert ("INVENTORY_ERROR", str(_MUG)) == (failure.code, failure.details["product_id"])


async def test_a_rejected_order_stays_rejected(open_shop: OpenShop) -> None:
    """The same key gets the same refusal, even when the stock has come meanwhile."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5, _MUG: 0})
    checkout, services = await _counter(shop)
    first = await _fails(checkout)
    await shop.store.transaction(
        lambda tx: tx.execute("UPDATE stock SET opening = 9, on_hand = 9").changed
    )
    again = await _fails(checkout)
    assert (first.code, first.message, first.details) == (again.code, again.message, again.details)
    assert 1 == services.calls["reserve"]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("late", ["", ":late"])
@pytest.mark.parametrize("step", ["reserve", "charge", "commit"])
@pytest.mark.parametrize(
    "error",
    [
        _LATE,
        NoAgentError("nobody is there"),
        OverloadedError("too much work"),
        HandlerError("it broke"),
        DisconnectedError("the link went away"),
        Failure("what is this?", code="SOMETHING_ELSE"),
    ],
    ids=lambda error: error.code,
)
async def test_an_unknown_outcome_is_a_state(
    open_shop: OpenShop, step: str, late: str, error: Exception
) -> None:
    """A step that broke, before or after its effect, is pending; its key goes on (S8)."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5, _MUG: 5})
    checkout, services = await _counter(shop)
    services.broken = {step + late: error}
    for _ in range(2):
        failure = await _fails(checkout)
        assert ("PENDING", True) == (failure.code, failure.retryable)
        assert str(order_uuid("k")) == failure.details["order_id"]
    states = {"reserve": "received", "charge": "pending_payment", "commit": "paid"}
    assert states[step] == failure.details["state"]
    services.broken = {}
    assert 520 == (await checkout.place(_ORDER, "k")).total_pence
    assert ((3, 0, 2), (4, 0, 1)) == await _levels(shop)
    assert 520 == await _paid(shop)


@pytest.mark.parametrize("late", ["", ":late"])
async def test_a_decline_whose_release_broke_is_taken_up_again(
    open_shop: OpenShop, late: str
) -> None:
    """An order is rejected only once nothing of it is held."""
    shop = await open_shop(DeclineRule(rate=1.0))
    await shop.stock.fill({_TEA: 5, _MUG: 5})
    checkout, services = await _counter(shop)
    services.broken = {"release" + late: _LATE}
    assert "PENDING" == (await _fails(checkout)).code
    services.broken = {}
    assert "PAYMENT_ERROR" == (await _fails(checkout)).code
    assert ((5, 0, 0), (5, 0, 0)) == await _levels(shop)


async def test_stock_of_an_order_that_another_refused_is_let_go(open_shop: OpenShop) -> None:
    """Two instances, one key: one is refused, the other gets the stock; nothing stays held."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5, _MUG: 5})

    class Meanwhile(Local):
        async def reserve(self, request: Reserve) -> Reservation:
            held = await super().reserve(request)
            refusal = Refusal("INVENTORY_ERROR", "too few")
            await shop.orders.move(request.order_id, OrderEvent.REFUSE, refusal)
            return held

    checkout = Checkout(shop.orders, _PRICES, Meanwhile(shop.stock, shop.payments))
    failure = await _fails(checkout)
    assert ("INVENTORY_ERROR", "too few") == (failure.code, failure.message)
    assert ((5, 0, 0), (5, 0, 0)) == await _levels(shop)


async def test_a_refusal_does_not_touch_stock_that_another_holds(open_shop: OpenShop) -> None:
    """Two instances, one key: one gets the stock, the other is refused a moment later."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5, _MUG: 5})

    class Meanwhile(Local):
        async def reserve(self, request: Reserve) -> Reservation:
            await super().reserve(request)
            await shop.orders.move(request.order_id, OrderEvent.RESERVE)
            raise Failure("too few", code="INVENTORY_ERROR")

    checkout = Checkout(shop.orders, _PRICES, Meanwhile(shop.stock, shop.payments))
    assert "PENDING" == (await _fails(checkout)).code
    normal, _ = await _counter(shop)
    assert 520 == (await normal.place(_ORDER, "k")).total_pence


async def test_a_lost_payment_that_another_saw_is_asked_for_again(open_shop: OpenShop) -> None:
    """Two instances, one key: one loses sight of a payment that the other has confirmed."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 5, _MUG: 5})
    normal, _ = await _counter(shop)

    class Meanwhile(Local):
        async def charge(self, request: Charge) -> ChargeReceipt:
            await normal.place(_ORDER, "k")
            raise _LATE

    checkout = Checkout(shop.orders, _PRICES, Meanwhile(shop.stock, shop.payments))
    failure = await _fails(checkout)
    assert ("PENDING", "confirmed") == (failure.code, failure.details["state"])
    assert 520 == (await checkout.place(_ORDER, "k")).total_pence


async def test_many_orders_want_the_last_units(open_shop: OpenShop) -> None:
    """Sixty orders on stock for ten, two instances: ten are confirmed, nothing stays held (E1)."""
    shops = [await open_shop(), await open_shop()]
    await shops[0].stock.fill({_TEA: 20, _MUG: 99})
    checkouts = [(await _counter(shop))[0] for shop in shops]

    async def one(number: int) -> str:
        try:
            await checkouts[number % 2].place(_ORDER, str(number))
        except Failure as failure:
            return failure.code
        return "confirmed"

    ends = await asyncio.gather(*map(one, range(60)))
    assert (10, 50) == (ends.count("confirmed"), ends.count("INVENTORY_ERROR"))
    assert ((0, 0, 20), (89, 0, 10)) == await _levels(shops[0])
    assert 10 * 520 == await _paid(shops[0])


async def test_everything_with_a_state_says_what_it_is(open_shop: OpenShop) -> None:
    """The representations name the store, and are short."""
    shop = await open_shop()
    checkout, _ = await _counter(shop)
    for part, name in (
        (shop.stock, "Stock(Store("),
        (shop.payments, "Payments(Store("),
        (shop.orders, "Orders(Store("),
        (checkout, "Checkout(Orders(Store("),
    ):
        assert repr(part).startswith(name)
        assert len(repr(part)) < 300
