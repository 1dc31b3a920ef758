"""The stock: whole orders or nothing, never negative, once per order, on both databases."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from agent99.errors import ConstraintError, Failure, IdempotencyConflictError
from agent99.store import Store
from agent99.systems.shop._model import CheckStock, Restock, StockLevel
from agent99.systems.shop._stock import Stock
from tests.systems.shop._shop import OpenShop, an_id, reserve

_TEA, _MUG, _BAG = an_id("tea"), an_id("mug"), an_id("bag")


async def _level(stock: Stock, product: UUID = _TEA) -> tuple[int, int, int]:
    level = await stock.level(product)
    assert level.on_hand + level.reserved + level.shipped == level.opening + level.restocked
    return level.on_hand, level.reserved, level.shipped


async def test_an_order_is_held_then_shipped(open_shop: OpenShop) -> None:
    """Held units leave the shelf, committed ones leave the house."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 10})
    held = await stock.reserve(reserve(1, (_TEA, 4)))
    assert ("reserved", 1, 4) == (held.state, held.products, held.units)
    assert (6, 4, 0) == await _level(stock)
    assert "committed" == (await stock.commit(an_id(1))).state
    assert (6, 0, 4) == await _level(stock)


async def test_an_order_is_held_then_let_go(open_shop: OpenShop) -> None:
    """Released units are back on the shelf."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 10})
    await stock.reserve(reserve(1, (_TEA, 4)))
    assert "released" == (await stock.release(an_id(1))).state
    assert (10, 0, 0) == await _level(stock)


async def test_all_lines_or_none(open_shop: OpenShop) -> None:
    """When the second of three lines is short, nothing is held (the sample kept the first, S1)."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 10, _MUG: 1, _BAG: 10})
    with pytest.raises(Failure) as caught:
        await stock.reserve(reserve(1, (_TEA, 2), (_MUG, 2), (_BAG, 2)))
    assert "INVENTORY_ERROR" == caught.value.code
    assert {
        "product_id": str(_MUG),
        "available": 1,
        "requested_quantity": 2,
    } == caught.value.details
    for product, units in ((_TEA, 10), (_MUG, 1), (_BAG, 10)):
        assert (units, 0, 0) == await _level(stock, product)
    with pytest.raises(Failure) as caught:
        await stock.reservation(an_id(1))
    assert "RESERVATION_NOT_FOUND" == caught.value.code


async def test_lines_of_the_same_product_are_summed(open_shop: OpenShop) -> None:
    """Two lines that would each fit do not when their sum does not (rule 7)."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 5})
    with pytest.raises(Failure) as caught:
        await stock.reserve(reserve(1, (_TEA, 3), (_TEA, 3)))
    assert 6 == caught.value.details["requested_quantity"]
    held = await stock.reserve(reserve(2, (_TEA, 3), (_TEA, 2)))
    assert (1, 5) == (held.products, held.units)


async def test_an_unknown_product_is_named(open_shop: OpenShop) -> None:
    """Every operation that names a product says when there is none, and holds nothing."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 5})
    attempts = (
        stock.reserve(reserve(1, (_TEA, 1), (_MUG, 1))),
        stock.hold(CheckStock(_MUG, 1)),
        stock.hold(CheckStock(_MUG, 1), key="k"),
        stock.restock(Restock(_MUG, 1)),
        stock.level(_MUG),
    )
    for attempt in attempts:
        with pytest.raises(Failure) as caught:
            await attempt
        assert ("PRODUCT_NOT_FOUND", {"product_id": str(_MUG)}) == (
            caught.value.code,
            caught.value.details,
        )
    assert (5, 0, 0) == await _level(stock)


async def test_the_same_order_is_held_once(open_shop: OpenShop) -> None:
    """However often and from however many processes it comes; with other lines it is a conflict."""
    stocks = [(await open_shop()).stock, (await open_shop()).stock]
    await stocks[0].fill({_TEA: 10})
    requests = [stocks[index % 2].reserve(reserve(1, (_TEA, 4))) for index in range(20)]
    answers = await asyncio.gather(*requests)
    assert 1 == len(set(answers))
    assert (6, 4, 0) == await _level(stocks[0])
    with pytest.raises(IdempotencyConflictError):
        await stocks[1].reserve(reserve(1, (_TEA, 5)))
    await stocks[0].commit(an_id(1))
    assert answers[0] == await stocks[1].reserve(reserve(1, (_TEA, 4)))
    assert (6, 0, 4) == await _level(stocks[0])


async def test_what_was_ended_ends_once(open_shop: OpenShop) -> None:
    """A repeated end gets the same answer; the other end is refused."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 10})
    for order in (1, 2):
        await stock.reserve(reserve(order, (_TEA, 2)))
    assert await stock.commit(an_id(1)) == await stock.commit(an_id(1))
    assert await stock.release(an_id(2)) == await stock.release(an_id(2))
    assert (8, 0, 2) == await _level(stock)
    for attempt in (stock.release(an_id(1)), stock.commit(an_id(2))):
        with pytest.raises(Failure) as caught:
            await attempt
        assert "RESERVATION_CLOSED" == caught.value.code
    with pytest.raises(Failure) as caught:
        await stock.commit(an_id(3))
    assert "RESERVATION_NOT_FOUND" == caught.value.code


async def test_a_late_request_holds_nothing(open_shop: OpenShop) -> None:
    """An order that was released before its request to hold arrived stays released."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 10})
    released = await stock.release(an_id(1))
    assert ("released", 0) == (released.state, released.units)
    with pytest.raises(Failure) as caught:
        await stock.reserve(reserve(1, (_TEA, 2)))
    assert "RESERVATION_CLOSED" == caught.value.code
    assert (10, 0, 0) == await _level(stock)
    assert "released" == (await stock.reservation(an_id(1))).state


async def test_the_samples_operation_holds_one_product(open_shop: OpenShop) -> None:
    """It answers with the sample's fields, and what it holds can be committed or released."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 10})
    held = await stock.hold(CheckStock(_TEA, 4))
    assert (True, 4, 6) == (held.available, held.reserved_quantity, held.remaining_stock)
    short = await stock.hold(CheckStock(_TEA, 7))
    assert (False, 7, 6) == (
        short.available,
        short.requested_quantity,
        short.available_quantity,
    )
    assert (6, 4, 0) == await _level(stock)
    assert isinstance(held.reservation_id, UUID)
    await stock.release(held.reservation_id)
    assert (10, 0, 0) == await _level(stock)


async def test_the_samples_operation_takes_effect_once_per_key(open_shop: OpenShop) -> None:
    """The same key holds once, across processes, and gets the same answer."""
    stocks = [(await open_shop()).stock, (await open_shop()).stock]
    await stocks[0].fill({_TEA: 10})
    answers = [await stock.hold(CheckStock(_TEA, 4), key="k") for stock in stocks * 2]
    assert [answers[0]] * 4 == answers
    assert (6, 4, 0) == await _level(stocks[0])
    with pytest.raises(IdempotencyConflictError):
        await stocks[0].hold(CheckStock(_TEA, 5), key="k")


async def test_restocking_adds_to_the_shelf(open_shop: OpenShop) -> None:
    """New units are counted beside the opening stock, once per key."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 1})
    assert StockLevel(_TEA, 1, 5, 0, 0, 4) == await stock.restock(Restock(_TEA, 4))
    for _ in range(2):
        assert StockLevel(_TEA, 1, 8, 0, 0, 7) == await stock.restock(Restock(_TEA, 3), key="k")


async def test_filling_again_changes_nothing(open_shop: OpenShop) -> None:
    """A restart that fills the shelves again leaves the stock as it is; nothing to fill is fine."""
    stock = (await open_shop()).stock
    await stock.fill({_TEA: 10})
    await stock.reserve(reserve(1, (_TEA, 4)))
    await stock.fill({_TEA: 99, _MUG: 3})
    await stock.fill({})
    assert (6, 4, 0) == await _level(stock)
    assert (3, 0, 0) == await _level(stock, _MUG)


async def test_many_orders_want_the_last_units(open_shop: OpenShop) -> None:
    """Two processes, 200 orders of one unit, 40 units: 40 are held, the rest refused (E1)."""
    stocks = [(await open_shop()).stock, (await open_shop()).stock]
    await stocks[0].fill({_TEA: 40, _MUG: 1_000})

    async def one(order: int) -> bool:
        lines = ((_TEA, 1), (_MUG, 1)) if order % 3 else ((_MUG, 1), (_TEA, 1))
        try:
            await stocks[order % 2].reserve(reserve(order, *lines))
        except Failure:
            return False
        await stocks[(order + 1) % 2].commit(an_id(order))
        return True

    assert 40 == sum(await asyncio.gather(*map(one, range(200))))
    assert (0, 0, 40) == await _level(stocks[0])
    assert (960, 0, 40) == await _level(stocks[0], _MUG)


async def test_any_history_conserves_the_stock(open_shop: OpenShop, seed: int) -> None:
    """Random operations against a model that keeps three numbers per product."""
    draw = random.Random(seed)
    stock = (await open_shop()).stock
    products = [_TEA, _MUG, _BAG]
    on_hand = dict.fromkeys(products, 12)
    states: dict[int, tuple[str, dict[UUID, int]]] = {}
    await stock.fill(on_hand)
    for order in range(60):
        lines = [(draw.choice(products), draw.randint(1, 3)) for _ in range(draw.randint(1, 4))]
        wanted = {each: sum(n for p, n in lines if p == each) for each in {p for p, _ in lines}}
        if all(on_hand[product] >= units for product, units in wanted.items()):
            await stock.reserve(reserve(order, *lines))
            states[order] = ("reserved", wanted)
            for product, units in wanted.items():
                on_hand[product] -= units
        else:
            with pytest.raises(Failure):
                await stock.reserve(reserve(order, *lines))
        open_orders = [each for each, (state, _) in states.items() if state == "reserved"]
        if open_orders and draw.random() < 0.7:
            ended = draw.choice(open_orders)
            state = draw.choice(["committed", "released", "released"])
            end = stock.commit if state == "committed" else stock.release
            assert state == (await end(an_id(ended))).state
            held = states[ended][1]
            states[ended] = (state, held)
            if state == "released":
                for product, units in held.items():
                    on_hand[product] += units
    for product in products:
        sums = [
            sum(held.get(product, 0) for state, held in states.values() if state == wanted_state)
            for wanted_state in ("reserved", "committed")
        ]
        assert (on_hand[product], *sums) == await _level(stock, product)


async def test_the_tables_themselves_refuse_a_negative_stock(open_shop: OpenShop) -> None:
    """Even a wrong programme cannot take what is not there, or lose a unit."""
    shop = await open_shop()
    await shop.stock.fill({_TEA: 1})
    store: Store = shop.store
    for sql in (
        "UPDATE stock SET on_hand = on_hand - 2, reserved = reserved + 2",
        "UPDATE stock SET on_hand = on_hand - 1",
    ):
        with pytest.raises(ConstraintError):
            await store.transaction(lambda tx, sql=sql: tx.execute(sql).changed)
