"""The orders: taken once per id, moved by the table, the same answer for ever."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from agent99.errors import Failure, IdempotencyConflictError
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._order import Refusal
from agent99.systems.shop._states import INITIAL, TRANSITIONS, OrderEvent, OrderState
from tests.systems.shop._shop import CONFIRMING, OpenShop, an_id, order_of

_TEA, _MUG = an_id("tea"), an_id("mug")


async def test_an_order_is_taken_with_its_lines(open_shop: OpenShop) -> None:
    """It is stored as received, with a history of one entry."""
    orders = (await open_shop()).orders
    request = order_of((_TEA, 2, "1.25"), (_TEA, 1, "1.25"), (_MUG, 1, "3"))
    order = await orders.take(request, order_uuid("489434"))
    assert (order_uuid("489434"), OrderState.RECEIVED, 675) == (
        order.order_id,
        order.state,
        order.total_pence,
    )
    view = await orders.view(order.order_id)
    assert [(line.product_id, line.quantity, line.unit_price_pence) for line in request.items] == [
        (line.product_id, line.quantity, line.unit_price_pence) for line in view.items
    ]
    assert [("received", "receive")] == [(each.state, each.event) for each in view.history]


async def test_the_same_id_is_the_same_order(open_shop: OpenShop) -> None:
    """Fifty times, from two processes: one order; with another content a conflict (E4)."""
    shops = [await open_shop(), await open_shop()]
    request = order_of((_TEA, 2, "1.10"))
    taken = [shops[index % 2].orders.take(request, order_uuid("k")) for index in range(50)]
    assert 1 == len({order.order_id for order in await asyncio.gather(*taken)})
    same = await shops[0].orders.take(order_of((_TEA, 2, "1.1")), order_uuid("k"))
    assert order_uuid("k") == same.order_id
    with pytest.raises(IdempotencyConflictError, match=str(order_uuid("k"))):
        await shops[1].orders.take(order_of((_TEA, 3, "1.10")), order_uuid("k"))


async def test_a_confirmed_order_has_one_confirmation(open_shop: OpenShop) -> None:
    """It is the same whenever it is asked for; delivery is seven days after the order was taken."""
    orders = (await open_shop()).orders
    order = await orders.take(order_of((_TEA, 2, "1.10")), order_uuid("k"))
    for event in CONFIRMING:
        order = await orders.move(order.order_id, event)
    again = await orders.take(order_of((_TEA, 2, "1.10")), order_uuid("k"))
    assert order == again == await orders.find(order.order_id)
    answer = again.confirmation()
    assert ("confirmed", "2.20", 220) == (answer.status, str(answer.total), answer.total_pence)
    received = datetime.fromtimestamp(again.received_us // 1_000_000, UTC).date()
    assert received + timedelta(days=7) == answer.estimated_delivery


async def test_a_rejected_order_tells_its_reason_again(open_shop: OpenShop) -> None:
    """The code, the message and the details are kept, and stand in the history."""
    orders = (await open_shop()).orders
    order = await orders.take(order_of((_TEA, 2, "1.10")), order_uuid("k"))
    failure = Failure("too few", code="INVENTORY_ERROR", details={"available": 1})
    for _ in range(2):
        moved = await orders.move(order.order_id, OrderEvent.REFUSE, Refusal.of(failure))
        assert OrderState.REJECTED is moved.state
    again = await orders.take(order_of((_TEA, 2, "1.10")), order_uuid("k"))
    assert again.refusal is not None
    told = again.refusal.failure()
    assert ("too few", "INVENTORY_ERROR", {"available": 1}) == (
        told.message,
        told.code,
        told.details,
    )
    view = await orders.view(order.order_id)
    assert "INVENTORY_ERROR" == view.reason == view.history[-1].reason
    assert 2 == len(view.history)


async def test_an_event_that_has_no_place_changes_nothing(open_shop: OpenShop) -> None:
    """The table decides; an order that is not there is said to be missing."""
    orders = (await open_shop()).orders
    order = await orders.take(order_of((_TEA, 2, "1.10")), order_uuid("k"))
    with pytest.raises(IllegalTransitionError):
        await orders.move(order.order_id, OrderEvent.CONFIRM)
    assert order == await orders.find(order.order_id)
    for attempt in (
        orders.move(an_id(0), OrderEvent.PAY),
        orders.find(an_id(0)),
        orders.view(an_id(0)),
    ):
        with pytest.raises(Failure) as caught:
            await attempt
        assert "ORDER_NOT_FOUND" == caught.value.code


async def test_any_order_of_events_leaves_a_legal_history(open_shop: OpenShop, seed: int) -> None:
    """Random events with repeats, from two processes: every step of the history is in the table."""
    draw = random.Random(seed)
    shops = [await open_shop(), await open_shop()]
    for number in range(12):
        order = await shops[0].orders.take(order_of((_TEA, 1, "1")), an_id(number))
        events = draw.choices(list(OrderEvent), k=10)

        async def one(order_id: UUID, index: int, event: OrderEvent) -> None:
            try:
                await shops[index % 2].orders.move(order_id, event)
            except IllegalTransitionError:
                return

        await asyncio.gather(*(one(order.order_id, *each) for each in enumerate(events)))
        view = await shops[1].orders.view(order.order_id)
        state = INITIAL
        for entry in view.history[1:]:
            state = TRANSITIONS[state, OrderEvent(entry.event)]
            assert state == entry.state
        assert state == view.state


async def test_the_price_list_is_kept(open_shop: OpenShop) -> None:
    """What was added comes back, from another process too; adding again changes nothing."""
    shops = [await open_shop(), await open_shop()]
    assert PriceList.of([]) == await shops[0].orders.price_list()
    await shops[0].orders.add_prices(PriceList.of([]))
    prices = PriceList.of([(_TEA, 110), (_TEA, 125), (_MUG, 300)])
    for _ in range(2):
        await shops[0].orders.add_prices(prices)
    assert prices == await shops[1].orders.price_list()


async def test_a_long_price_list_is_read_in_parts(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list longer than one statement may give arrives whole."""
    monkeypatch.setattr("agent99.systems.shop._order_rows._PRICES_MAX", 4)
    orders = (await open_shop()).orders
    for size in (3, 4, 9):
        prices = PriceList.of([(an_id(index % 3), index + 1) for index in range(size)])
        await orders.add_prices(prices)
        assert prices == await orders.price_list()


async def test_an_order_beyond_the_bound_of_money_is_refused(open_shop: OpenShop) -> None:
    """The total must be a sum of money; nothing is stored."""
    orders = (await open_shop()).orders
    with pytest.raises(Failure) as caught:
        await orders.take(order_of((_TEA, 1_000_000, "10000.01")), order_uuid("k"))
    assert "ORDER_TOO_LARGE" == caught.value.code
    with pytest.raises(Failure, match="no order"):
        await orders.find(order_uuid("k"))
