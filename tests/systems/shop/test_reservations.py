"""What becomes of reservations: they expire, ship in parts, and come back; on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace

import msgspec
import pytest

from agent99.errors import Failure, IdempotencyConflictError
from agent99.systems.shop._model import CheckStock, Reservation, Reserve
from agent99.systems.shop._stock_model import Commit
from agent99.systems.shop._stock_steps import BATCH_LINES_MAX, _few
from tests.systems.shop._shelves import (
    BAG,
    MUG,
    TEA,
    Shelves,
    back,
    lines,
    part,
    refused,
    taken,
)
from tests.systems.shop._shop import an_id, reserve

# --- they expire ----------------------------------------------------------------------------------


async def test_what_is_held_for_too_long_is_let_go(shelves: Shelves) -> None:
    """After a quarter of an hour, not before, it is on the shelf again; that happens once."""
    stock = await shelves.open()
    await stock.fill({TEA: 10, MUG: 10})
    held = await stock.reserve(reserve(1, (TEA, 4), (MUG, 1)))
    assert shelves.clock.wall_us() + 900_000_000 == held.expires_us == await stock.next_expiry_us()
    await shelves.clock.advance(899.999_999)
    assert (0, "reserved") == (await stock.expire(), (await stock.reservation(an_id(1))).state)
    await shelves.clock.advance(0.000_001)
    assert [1, 0] == [await stock.expire(), await stock.expire()]
    assert Reservation(an_id(1), "expired", 2, 5) == await stock.reservation(an_id(1))
    assert {TEA: (10, 0, 0, 0), MUG: (10, 0, 0, 0)} == await shelves.levels()
    assert await stock.next_expiry_us() is None


async def test_a_request_says_for_how_long(shelves: Shelves) -> None:
    """Each order has a time of its own; a repeated request does not change it."""
    stock = await shelves.open()
    await stock.fill({TEA: 10})
    first = await stock.reserve(Reserve(an_id(1), lines((TEA, 1)), hold_s=60))
    await stock.reserve(Reserve(an_id(2), lines((TEA, 1)), hold_s=0.5))
    assert first == await stock.reserve(Reserve(an_id(1), lines((TEA, 1)), hold_s=7))
    await shelves.clock.advance(7.0)
    assert (1, first.expires_us) == (await stock.expire(), await stock.next_expiry_us())
    states = [(await stock.reservation(an_id(order))).state for order in (1, 2)]
    assert ["reserved", "expired"] == states


async def test_the_samples_operation_expires_too(shelves: Shelves) -> None:
    """After the time that the settings say; the same key still gets the same answer."""
    stock = await shelves.open(hold_s=30.0)
    await stock.fill({TEA: 10})
    held = await stock.hold(CheckStock(TEA, 4), key="k")
    assert shelves.clock.wall_us() + 30_000_000 == held.expires_us
    await shelves.clock.advance(30.0)
    assert 1 == await stock.expire()
    assert held == await stock.hold(CheckStock(TEA, 4), key="k")
    assert {TEA: (10, 0, 0, 0)} == await shelves.levels()


async def test_an_expired_reservation_is_closed(shelves: Shelves) -> None:
    """It ships no more and is not held again; releasing it is fine, and it stays expired."""
    stock = await shelves.open()
    await stock.fill({TEA: 10})
    await stock.reserve(reserve(1, (TEA, 4)))
    await shelves.clock.advance(900.0)
    await stock.expire()
    for attempt in (
        stock.commit(an_id(1)),
        stock.commit_part(part(1, "a", (TEA, 1))),
        stock.reserve(reserve(1, (TEA, 4))),
    ):
        details = await refused(attempt, "RESERVATION_CLOSED")
        assert {"order_id": str(an_id(1)), "state": "expired"} == details
    released = [await stock.release(an_id(1)) for _ in range(2)]
    assert [Reservation(an_id(1), "expired", 1, 4)] * 2 == released
    assert {TEA: (10, 0, 0, 0)} == await shelves.levels()


async def test_a_commit_that_comes_first_wins(shelves: Shelves) -> None:
    """What is still held may ship, even when its time is up."""
    stock = await shelves.open()
    await stock.fill({TEA: 10})
    for order in (1, 2):
        await stock.reserve(reserve(order, (TEA, 2)))
    await shelves.clock.advance(1_000.0)
    assert "committed" == (await stock.commit(an_id(1))).state
    assert "reserved" == (await stock.commit_part(part(2, "a", (TEA, 1), keep=True))).state
    assert 1 == await stock.expire()
    assert Reservation(an_id(2), "expired", 1, 2, 1) == await stock.reservation(an_id(2))
    assert {TEA: (7, 0, 3, 0)} == await shelves.levels()


async def test_each_is_let_go_once_or_shipped(shelves: Shelves) -> None:
    """Two processes that expire hundreds at once, while others ship and release: no deadlock."""
    stocks = [await shelves.open(), await shelves.open()]
    products = [TEA, MUG, BAG]
    await stocks[0].fill(dict.fromkeys(products, 1_000))

    async def hold(order: int) -> None:
        wanted = [(products[(order + turn) % 3], 1 + order % 2) for turn in range(3)]
        await stocks[order % 2].reserve(reserve(order, *wanted))

    await asyncio.gather(*map(hold, range(130)))
    await shelves.clock.advance(900.0)

    async def end(order: int) -> str:
        stock = stocks[order % 2]
        ends = (stock.commit, stock.release)
        try:
            return (await ends[order % 4 // 2](an_id(order))).state
        except Failure as failure:
            return failure.code

    *counts, ended = await asyncio.gather(
        *(stock.expire() for stock in stocks), asyncio.gather(*map(end, range(0, 130, 3)))
    )
    assert {"committed", "released", "expired", "RESERVATION_CLOSED"} >= set(ended)
    states = await shelves.states()
    ends = Counter(states.values())
    assert (sum(counts), 0, 130) == (ends["expired"], ends["reserved"], ends.total())
    committed = [order for order in range(130) if states[an_id(order)] == "committed"]
    units = sum(3 * (1 + order % 2) for order in committed)
    levels = [*(await shelves.levels()).values()]
    assert (0, units) == (sum(each[1] for each in levels), sum(each[2] for each in levels))


def test_long_reservations_expire_a_few_at_a_time() -> None:
    """A transaction locks so many products at most; but one reservation always."""
    due = [SimpleNamespace(order_id=str(n), lines=BATCH_LINES_MAX // 2) for n in range(5)]
    assert ["0", "1"] == _few(due)
    assert ["x"] == _few([SimpleNamespace(order_id="x", lines=BATCH_LINES_MAX + 1), *due])
    assert [] == _few([])


# --- they ship in parts ---------------------------------------------------------------------------


async def test_a_part_ships_and_the_rest_is_let_go(shelves: Shelves) -> None:
    """By default; a part without a name is the order's only one, and ships once."""
    stock = await shelves.open()
    await stock.fill({TEA: 10, MUG: 5})
    await stock.reserve(reserve(1, (TEA, 4), (MUG, 2)))
    request = part(1, None, (TEA, 1), (TEA, 2))
    shipped = [await stock.commit_part(request) for _ in range(2)]
    assert [Reservation(an_id(1), "committed", 2, 6, 3)] * 2 == shipped
    assert shipped[0] == await stock.commit(an_id(1)) == await stock.reservation(an_id(1))
    assert {TEA: (7, 0, 3, 0), MUG: (5, 0, 0, 0)} == await shelves.levels()
    with pytest.raises(IdempotencyConflictError):
        await stock.commit_part(part(1, None, (TEA, 2)))
    await refused(stock.commit_part(part(1, "another", (TEA, 1))), "RESERVATION_CLOSED")


async def test_a_part_ships_and_the_rest_is_kept(shelves: Shelves) -> None:
    """Part after part, each once, until nothing is left; then the reservation is committed."""
    stock = await shelves.open()
    await stock.fill({TEA: 10, MUG: 5})
    held = await stock.reserve(reserve(1, (TEA, 4), (MUG, 2)))
    parts = [
        part(1, "a", (TEA, 1), keep=True),
        part(1, "b", (TEA, 1), (MUG, 2), keep=True),
        part(1, "c", (TEA, 2), keep=True),
    ]
    answers = [await stock.commit_part(each) for each in parts]
    expected = [
        Reservation(an_id(1), "reserved", 2, 6, 1, held.expires_us),
        Reservation(an_id(1), "reserved", 2, 6, 4, held.expires_us),
        Reservation(an_id(1), "committed", 2, 6, 6),
    ]
    assert expected == answers == [await stock.commit_part(each) for each in parts]
    assert {TEA: (6, 0, 4, 0), MUG: (3, 0, 2, 0)} == await shelves.levels()
    for other in (part(1, "a", (TEA, 2), keep=True), part(1, "a", (TEA, 1))):
        with pytest.raises(IdempotencyConflictError):
            await stock.commit_part(other)


async def test_what_was_kept_ends_as_a_whole(shelves: Shelves) -> None:
    """Committed, released or expired; what had shipped before stays shipped."""
    stock = await shelves.open()
    await stock.fill({TEA: 30})
    for order in (1, 2, 3):
        await stock.reserve(reserve(order, (TEA, 4)))
        await stock.commit_part(part(order, order, (TEA, 1), keep=True))
    assert Reservation(an_id(1), "committed", 1, 4, 4) == await stock.commit(an_id(1))
    assert Reservation(an_id(2), "released", 1, 4, 1) == await stock.release(an_id(2))
    await shelves.clock.advance(900.0)
    assert 1 == await stock.expire()
    assert Reservation(an_id(3), "expired", 1, 4, 1) == await stock.reservation(an_id(3))
    assert {TEA: (24, 0, 6, 0)} == await shelves.levels()


async def test_more_than_is_held_does_not_ship(shelves: Shelves) -> None:
    """`RESERVATION_TOO_SMALL` says what is held; nothing ships, and the part's name is as new."""
    stock = await shelves.open()
    await stock.fill({TEA: 10, MUG: 5})
    await stock.reserve(reserve(1, (TEA, 4)))
    await stock.commit_part(part(1, "a", (TEA, 3), keep=True))
    for product, units, held in ((TEA, 2, 1), (MUG, 1, 0)):
        details = await refused(
            stock.commit_part(part(1, "b", (product, units))), "RESERVATION_TOO_SMALL"
        )
        assert {
            "order_id": str(an_id(1)),
            "product_id": str(product),
            "held": held,
            "requested_quantity": units,
        } == details
    assert {TEA: (6, 1, 3, 0), MUG: (5, 0, 0, 0)} == await shelves.levels()
    assert "committed" == (await stock.commit_part(part(1, "b", (TEA, 1)))).state
    await refused(stock.commit_part(part(9, "a", (TEA, 3), keep=True)), "RESERVATION_NOT_FOUND")


def test_words_about_a_part_need_a_part() -> None:
    """`rest` and `part` without `items` are refused, with a sentence, as any field is."""
    whole = {"order_id": str(an_id(1))}
    assert Commit(an_id(1)) == msgspec.convert(whole, Commit)
    for word in ({"rest": "keep"}, {"part": str(an_id("a"))}):
        with pytest.raises(msgspec.ValidationError, match="say its `items`"):
            msgspec.convert({**whole, **word}, Commit)


# --- they come back -------------------------------------------------------------------------------


async def test_what_was_shipped_comes_back(shelves: Shelves) -> None:
    """Return after return, each once, as restocked units that can be sold again."""
    stock = await shelves.open()
    await stock.fill({TEA: 4, MUG: 5})
    await stock.reserve(reserve(1, (TEA, 4), (MUG, 2)))
    await stock.commit(an_id(1))
    requests = [back(1, "x", (TEA, 1), (MUG, 2), (TEA, 2)), back(1, "y", (TEA, 1))]
    answers = [await stock.take_back(each) for each in requests]
    assert [taken(1, "x", 2, 5), taken(1, "y", 1, 1)] == answers
    assert answers == [await stock.take_back(each) for each in requests]
    assert {TEA: (4, 0, 4, 4), MUG: (5, 0, 2, 2)} == await shelves.levels()
    assert Reservation(an_id(1), "committed", 2, 6, 6) == await stock.commit(an_id(1))
    with pytest.raises(IdempotencyConflictError):
        await stock.take_back(back(1, "y", (TEA, 2)))
    await stock.reserve(reserve(2, (TEA, 4)))


async def test_no_more_comes_back_than_was_shipped(shelves: Shelves) -> None:
    """All returns of an order together, product by product; else nothing does."""
    stock = await shelves.open()
    await stock.fill({TEA: 10, MUG: 5})
    await stock.reserve(reserve(1, (TEA, 4), (MUG, 1)))
    await stock.commit_part(part(1, "a", (TEA, 3), keep=True))
    await stock.take_back(back(1, "x", (TEA, 1)))
    for product, units, shipped, returned in ((TEA, 3, 3, 1), (MUG, 1, 0, 0), (BAG, 1, 0, 0)):
        request = back(1, "y", (TEA, 1), (product, units - (product == TEA)))
        details = await refused(stock.take_back(request), "RETURN_TOO_LARGE")
        assert {
            "order_id": str(an_id(1)),
            "product_id": str(product),
            "shipped": shipped,
            "returned": returned,
            "requested_quantity": units,
        } == details
    assert {TEA: (7, 1, 3, 1), MUG: (4, 1, 0, 0)} == await shelves.levels()
    assert taken(1, "y", 1, 2) == await stock.take_back(back(1, "y", (TEA, 2)))
    await refused(stock.take_back(back(9, "z", (TEA, 1))), "RESERVATION_NOT_FOUND")


async def test_a_name_belongs_to_one_order(shelves: Shelves) -> None:
    """Of two orders that ship, or take back, under one name at once, one is refused as a whole."""
    stocks = [await shelves.open(), await shelves.open()]
    await stocks[0].fill({TEA: 10, MUG: 10})
    wanted = ((TEA, 2), (MUG, 2))
    for order in (0, 1):
        await stocks[order].reserve(reserve(order, *wanted))
    attempts = [
        [stocks[n].commit_part(part(n, "one", wanted[n], keep=True)) for n in (0, 1)],
        [stocks[n].take_back(back(n, "one", wanted[n])) for n in (0, 1)],
    ]
    ends = await asyncio.gather(*attempts[0], return_exceptions=True)
    assert 1 == sum(isinstance(end, IdempotencyConflictError) for end in ends)
    for n in (0, 1):
        await stocks[n].commit(an_id(n))
    ends = await asyncio.gather(*attempts[1], return_exceptions=True)
    assert 1 == sum(isinstance(end, IdempotencyConflictError) for end in ends)
    assert 2 == sum(each[3] for each in (await shelves.levels()).values())
