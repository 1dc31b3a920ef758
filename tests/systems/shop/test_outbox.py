"""What the shop's transactions leave in their outboxes, on both databases, without the bus."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from agent99.errors import Failure, IdempotencyConflictError
from agent99.store import Store, Transaction
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._events import CustomerTold, OrderMoved, OrderShipped
from agent99.systems.shop._model import Backlog, Notify, Ship
from agent99.systems.shop._order import Refusal, Step
from agent99.systems.shop._states import OrderEvent
from tests.systems.shop._shop import CONFIRMING, OpenShop, an_id, order_of, shipped, told

_ROWS = "SELECT topic, key, body FROM agent99_outbox ORDER BY position"
_TEA = an_id("tea")
ORDER = order_of((_TEA, 2, "1.10"))
SHIP = Ship(an_id("order"), ORDER.items, ORDER.shipping_address)
TELL = Notify("order_confirmation", ORDER.customer_id, an_id("order"), {"total": "2.20"})


async def _left(store: Store) -> list[tuple[str, str, bytes]]:
    """Return what waits, or was sent: topic, key and body."""

    def read(tx: Transaction) -> list[Any]:
        return list(tx.execute(_ROWS))

    return [(row.topic, row.key, bytes(row.body)) for row in await store.read(read)]


async def test_an_order_leaves_an_event_for_each_step(open_shop: OpenShop) -> None:
    """In the transaction of the step: a step that is not legal, or not new, leaves none."""
    shop = await open_shop()
    order = await shop.orders.take(ORDER, an_id("k"))
    await shop.orders.take(ORDER, an_id("k"))
    await shop.orders.move(order.order_id, OrderEvent.RESERVE)
    await shop.orders.move(order.order_id, OrderEvent.RESERVE)
    with pytest.raises(IllegalTransitionError):
        await shop.orders.move(order.order_id, OrderEvent.CONFIRM)
    refusal = Refusal("PAYMENT_ERROR", "no")
    await shop.orders.move(order.order_id, OrderEvent.DECLINE, refusal)
    left = await _left(shop.store)
    assert ["order.received", "order.reserved", "order.rejected"] == [topic for topic, _, _ in left]
    assert {str(order.order_id)} == {key for _, key, _ in left}
    moves = [msgspec.json.decode(body, type=OrderMoved) for _, _, body in left]
    history = (await shop.orders.view(order.order_id)).history
    assert [(n, e.event, e.state, e.at_us, e.reason) for n, e in enumerate(history)] == [
        (m.step, m.event, m.state, m.at_us, m.reason) for m in moves
    ]
    assert (220, ORDER.customer_id, "PAYMENT_ERROR") == (
        moves[-1].total_pence,
        moves[-1].customer_id,
        moves[-1].reason,
    )


async def test_what_follows_an_order_is_noted_once(open_shop: OpenShop) -> None:
    """From two processes at once; it is no step, leaves no event, and the backlog shrinks."""
    shops = [await open_shop(), await open_shop()]
    orders = shops[0].orders
    order = await orders.take(ORDER, an_id("k"))
    assert Backlog(0, 0, 1) == await orders.backlog()
    for event in CONFIRMING:
        await orders.move(order.order_id, event)
    assert Backlog(1, 1, 5) == await orders.backlog()
    before = await _left(shops[0].store)
    noting = [shops[n % 2].orders.note_shipment(shipped(order.order_id)) for n in range(8)]
    await asyncio.gather(*noting, orders.note_message(told(order.order_id)))
    history = (await orders.view(order.order_id)).history
    assert {"ship": 1, "notify": 1} == {
        step.value: [entry.event for entry in history].count(step.value) for step in Step
    }
    assert (7, {"confirmed"}) == (len(history), {entry.state for entry in history[4:]})
    assert Backlog(0, 1, 5) == await orders.backlog()  # the message that it is on its way
    await orders.note_message(told(order.order_id, "order_shipped"))
    assert Backlog(0, 0, 5) == await orders.backlog()
    assert before == await _left(shops[0].store)
    for nothing in (
        orders.note_shipment(shipped(an_id("nothing"))),
        orders.placed(an_id("nothing")),
    ):
        with pytest.raises(Failure, match="there is no order"):
            await nothing


async def test_an_order_is_read_as_it_was_asked_for(open_shop: OpenShop) -> None:
    """With its address and lines: that is what is shipped."""
    orders = (await open_shop()).orders
    order = await orders.take(ORDER, an_id("k"))
    assert (order, ORDER) == await orders.placed(order.order_id)


async def test_an_order_has_one_shipment_and_one_event(open_shop: OpenShop) -> None:
    """However often and from wherever it is asked for; with other lines it is refused."""
    shops = [await open_shop(), await open_shop()]
    asked = [shops[number % 2].shipments.ship(SHIP) for number in range(10)]
    assert 1 == len(set(await asyncio.gather(*asked)))
    other = Ship(SHIP.order_id, order_of((_TEA, 3, "1.10")).items, SHIP.shipping_address)
    with pytest.raises(IdempotencyConflictError):
        await shops[0].shipments.ship(other)
    ((topic, key, body),) = await _left(shops[0].store)
    shipped = msgspec.json.decode(body, type=OrderShipped)
    assert ("shipment.shipped", str(SHIP.order_id)) == (topic, key)
    assert SHIP.order_id == shipped.order_id


async def test_an_order_has_one_message_and_one_event(open_shop: OpenShop) -> None:
    """However often and from wherever it is asked for; with other words it is refused."""
    shops = [await open_shop(), await open_shop()]
    asked = [shops[number % 2].messages.send(TELL) for number in range(10)]
    (sent,) = set(await asyncio.gather(*asked))
    with pytest.raises(IdempotencyConflictError):
        await shops[0].messages.send(msgspec.structs.replace(TELL, template_data={}))
    ((topic, key, body),) = await _left(shops[0].store)
    told = msgspec.json.decode(body, type=CustomerTold)
    assert ("notification.sent", str(TELL.order_id)) == (topic, key)
    assert (sent.notification_id, sent.channel) == (told.notification_id, told.channel)
    assert TELL.customer_id == told.customer_id
