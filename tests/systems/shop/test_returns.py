"""What customers give back: matched by rule 10, once, and paid to the penny whoever dies."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from agent99.clock import SystemClock
from agent99.errors import Failure, IdempotencyConflictError
from agent99.saga import Saga
from agent99.store import Store
from agent99.systems.shop._giving_back import GivingBack
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._model import StockLine
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._return_model import GiveBack, GivenBack, OrderReturn
from agent99.systems.shop._returns import Returns
from agent99.systems.shop._states import OrderEvent
from agent99.testing import SagaStage
from tests.systems.shop._shop import OpenShop, Shop, an_id, order_of

_TEA, _MUG = an_id("tea"), an_id("mug")
_TO_CONFIRMED = (OrderEvent.RESERVE, OrderEvent.AUTHORISE, OrderEvent.PAY, OrderEvent.CONFIRM)


def _returns(shop: Shop) -> Returns:
    return Returns(_store_of(shop.orders), SystemClock())


def _store_of(orders: Orders) -> Store:
    return orders._store


def _back(*lines: tuple[UUID, int, str], customer: object = "someone") -> GiveBack:
    order = order_of(*lines, customer=customer)
    return GiveBack(order.customer_id, order.items)


async def _bought(orders: Orders, key: str, *lines: tuple[UUID, int, str], **who: object) -> UUID:
    """Have an order confirmed."""
    order_id = order_uuid(key)
    await orders.take(order_of(*lines, **who), order_id)
    for event in _TO_CONFIRMED:
        await orders.move(order_id, event)
    return order_id


async def test_the_latest_line_that_has_enough(open_shop: OpenShop) -> None:
    """A line takes back the latest one of its product and price of which as much is left."""
    shop = await open_shop()
    first = await _bought(shop.orders, "1", (_TEA, 5, "1.10"), (_MUG, 1, "3.00"))
    second = await _bought(shop.orders, "2", (_TEA, 2, "1.10"), (_TEA, 3, "1.25"))
    found = await _returns(shop).match(
        _back((_TEA, 3, "1.10"), (_TEA, 2, "1.10"), (_TEA, 1, "1.10"), (_MUG, 2, "3.00")),
        an_id("r"),
    )
    assert (3, 1) == (found.matched, found.unmatched)
    parts = {part.order_id: part for part in found.orders}
    assert OrderReturn(first, 440, (StockLine(_TEA, 4),)) == parts[first]
    assert OrderReturn(second, 220, (StockLine(_TEA, 2),)) == parts[second]


async def test_nothing_fits(open_shop: OpenShop) -> None:
    """Another customer's, another price, an order that was not confirmed: nothing comes back."""
    shop = await open_shop()
    await _bought(shop.orders, "1", (_TEA, 5, "1.10"))
    await shop.orders.take(order_of((_MUG, 1, "3.00")), order_uuid("2"))
    returns = _returns(shop)
    for number, back in enumerate(
        (
            _back((_TEA, 1, "1.10"), customer="else"),
            _back((_TEA, 1, "1.25")),
            _back((_TEA, 6, "1.10")),
            _back((_MUG, 1, "3.00")),
            _back(),
        )
    ):
        found = await returns.match(back, an_id(number))
        assert ((), 0, len(back.items)) == (found.orders, found.matched, found.unmatched)


async def test_the_same_return(open_shop: OpenShop) -> None:
    """The same return is matched once, wherever it is asked for; with other lines a conflict."""
    shops = [await open_shop(), await open_shop()]
    await _bought(shops[0].orders, "1", (_TEA, 3, "1.10"))
    asked = [_returns(shops[n % 2]).match(_back((_TEA, 2, "1.10")), an_id("r")) for n in range(10)]
    found = await asyncio.gather(*asked)
    assert all(found[0] == each for each in found)
    again = await _returns(shops[1]).match(_back((_TEA, 2, "1.10")), an_id("s"))
    assert 0 == again.matched, "one is left"
    with pytest.raises(IdempotencyConflictError):
        await _returns(shops[0]).match(_back((_TEA, 1, "1.10")), an_id("r"))


async def test_many_at_once(open_shop: OpenShop) -> None:
    """However many give back at once, of no line more comes back than was sold."""
    shops = [await open_shop(), await open_shop()]
    order_id = await _bought(shops[0].orders, "1", (_TEA, 10, "1.10"))
    found = await asyncio.gather(
        *(_returns(shops[n % 2]).match(_back((_TEA, 3, "1.10")), an_id(n)) for n in range(8))
    )
    assert 3 == sum(each.matched for each in found)
    view = await shops[0].orders.view(order_id)
    assert 10 == view.items[0].quantity


async def test_the_history_says_it(open_shop: OpenShop) -> None:
    """Money that was given back stands in the order's history, once for each return."""
    shop = await open_shop()
    order_id = await _bought(shop.orders, "1", (_TEA, 3, "1.10"))
    returns, part = _returns(shop), OrderReturn(order_id, 110, (StockLine(_TEA, 1),))
    for name in ("r", "r", "s"):
        await returns.note(an_id(name), part)
    history = (await shop.orders.view(order_id)).history
    assert ["refund", "refund"] == [entry.event for entry in history if entry.state == "confirmed"][
        1:
    ]
    with pytest.raises(Failure, match="there is no order"):
        await returns.note(an_id("r"), OrderReturn(an_id("nobody"), 1, ()))


class _Dead(BaseException):
    """The process dies."""


class _Others:
    """Inventory and payment, which honour ids; one of them dies when it is told to."""

    def __init__(self) -> None:
        self.back: dict[UUID, tuple[StockLine, ...]] = {}
        self.paid: dict[UUID, int] = {}
        self.calls: Counter[str] = Counter()
        self.dies = ""

    async def take_back(
        self, order_id: UUID, return_id: UUID, items: tuple[StockLine, ...], key: str
    ) -> None:
        """Put back."""
        del order_id, key
        self._call("before take_back")
        self.back[return_id] = items
        self._call("after take_back")

    async def refund(self, order_id: UUID, refund_id: UUID, amount_pence: int, key: str) -> None:
        """Pay."""
        del order_id, key
        self._call("before refund")
        self.paid[refund_id] = amount_pence
        self._call("after refund")

    def _call(self, where: str) -> None:
        self.calls[where] += 1
        if where == self.dies:
            self.dies = ""
            raise _Dead


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "dies", ["", "before take_back", "after take_back", "before refund", "after refund"]
)
async def test_whoever_dies(open_shop: OpenShop, dies: str) -> None:
    """Goods and money come back once, of each order, wherever the process dies."""
    shop = await open_shop()
    await _bought(shop.orders, "1", (_TEA, 2, "1.10"))
    await _bought(shop.orders, "2", (_MUG, 1, "3.00"))
    others = _Others()
    giving, stage = GivingBack(_returns(shop), others), SagaStage()
    request = _back((_TEA, 2, "1.10"), (_MUG, 1, "3.00"), (_MUG, 1, "3.00"))

    async def give(saga: Saga) -> GivenBack:
        return await giving.give_back(request, saga)

    others.dies = dies
    if dies:
        with pytest.raises(_Dead):
            await stage.play(give, GivenBack, key="C1")
    answer = await stage.play(give, GivenBack, key="C1")
    assert (2, 1, 520) == (answer.matched, answer.unmatched, answer.refunded_pence)
    assert sorted(others.paid.values()) == [220, 300]
    assert 2 == len(others.back)
    assert answer == await stage.play(give, GivenBack, key="C1")
    assert others.calls["after refund"] == 2 + (dies == "after refund")


def _naive(invoices: list[tuple[str, list[Any]]]) -> list[int]:
    """Return the pence of each cancellation, by trying every earlier line, the latest first."""
    sold: list[list[Any]] = []
    paid: list[int] = []
    for kind, lines in invoices:
        if kind == "order":
            sold += [[product, price, units] for product, units, price in lines]
            continue
        pence = 0
        for product, units, price in lines:
            fits = [s for s in reversed(sold) if s[:2] == [product, price] and s[2] >= units]
            if fits:
                fits[0][2] -= units
                pence += units * int(float(price) * 100)
        paid.append(pence)
    return paid


def _drawn(luck: random.Random) -> list[tuple[str, list[Any]]]:
    """Draw what one customer buys and gives back."""
    kinds = luck.choices(["order", "back"], k=luck.randint(1, 6))
    return [
        (
            kind,
            [
                (luck.choice([_TEA, _MUG]), luck.randint(1, 4), luck.choice(["1.00", "2.00"]))
                for _ in range(luck.randint(1, 4))
            ],
        )
        for kind in kinds
    ]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_as_the_naive_model(open_shop: OpenShop, seed: int) -> None:
    """Whatever is bought and given back in whatever order, the refunds are those of the model."""
    luck, shop = random.Random(seed), await open_shop()
    returns = _returns(shop)
    for customer in range(30):
        invoices, paid = _drawn(luck), list[int]()
        for number, (kind, lines) in enumerate(invoices):
            name = f"{customer}:{number}"
            if kind == "order":
                await _bought(shop.orders, name, *lines, customer=customer)
                continue
            found = await returns.match(_back(*lines, customer=customer), an_id(name))
            paid.append(sum(part.amount_pence for part in found.orders))
        assert _naive(invoices) == paid
