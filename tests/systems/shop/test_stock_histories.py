"""Any history of the stock, duplicates and the wrong order included, against a naive model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import Failure, IdempotencyConflictError
from agent99.systems.shop._model import Reservation, Reserve, StockLine
from agent99.systems.shop._stock import Stock
from agent99.systems.shop._stock_model import Commit, TakeBack
from tests.systems.shop._naive_stock import NaiveStock
from tests.systems.shop._shelves import Shelves, clear
from tests.systems.shop._shop import an_id

_PRODUCTS = (an_id("tea"), an_id("mug"))
_OPENING = 8
_ORDERS = [an_id(f"order {n}") for n in range(3)]


class Release(msgspec.Struct, frozen=True):
    """Let go of an order."""

    order_id: UUID


class Pass(msgspec.Struct, frozen=True):
    """Let time pass, and then, perhaps, let go of what is due."""

    seconds: float
    looks: bool


Step = Reserve | Commit | Release | TakeBack | Pass

_orders = st.sampled_from(_ORDERS)
_names = st.sampled_from([an_id(f"name {n}") for n in range(4)])


def _lines(units: st.SearchStrategy[int]) -> st.SearchStrategy[tuple[StockLine, ...]]:
    line = st.builds(StockLine, st.sampled_from(_PRODUCTS), units)
    return st.lists(line, min_size=1, max_size=2).map(tuple)


_few, _more = _lines(st.integers(1, 2)), _lines(st.integers(1, 4))
_times = st.sampled_from([10.0, 100.0])
_kinds: dict[str, st.SearchStrategy[Any]] = {
    "reserve": st.builds(Reserve, _orders, _more, _times, st.sampled_from(["refuse", "part"])),
    "part": st.builds(
        Commit, _orders, _few, st.sampled_from(["keep", "release"]), st.none() | _names
    ),
    "commit": st.builds(Commit, _orders),
    "release": st.builds(Release, _orders),
    "take back": st.builds(TakeBack, _orders, _names, _few),
    "pass": st.builds(Pass, st.sampled_from([5.0, 50.0]), st.booleans()),
}
_often = ("part", "part", "take back", "take back", "commit", "pass", "reserve", "release")
_step = st.sampled_from(_often).flatmap(_kinds.__getitem__)
_begin = st.tuples(*(st.builds(Reserve, st.just(order), _more, _times) for order in _ORDERS[:2]))


def _histories(steps_max: int) -> st.SearchStrategy[list[Step]]:
    """Draw histories that begin with two orders: else most of them are about what is not there."""
    rest = st.lists(_step, min_size=steps_max // 2, max_size=steps_max)
    return st.builds(lambda begin, rest: [*begin, *rest], _begin, rest)


class History:
    """A stock and its naive twin, which are told the same."""

    def __init__(self, shelves: Shelves, stock: Stock) -> None:
        self._shelves = shelves
        self._stock = stock
        self._naive = NaiveStock(_OPENING, _PRODUCTS)
        self._answers: dict[Any, Any] = {}

    async def play(self, steps: list[Step]) -> None:
        """Take each step, and compare what both say and what both have."""
        await self._shelves.store.transaction(clear)
        await self._stock.fill(dict.fromkeys(_PRODUCTS, _OPENING))
        for step in steps:
            await self._take(step)
            levels = await self._shelves.levels()
            assert self._naive.levels() == levels, step

    async def _take(self, step: Step) -> None:
        stock, naive = self._stock, self._naive
        match step:
            case Pass():
                await self._shelves.clock.advance(step.seconds)
                naive.now_s += step.seconds
                if step.looks:
                    assert naive.expire() == await stock.expire()
            case Reserve():
                await self._compare(step, stock.reserve(step), naive.reserve(step))
            case Commit(items=None):
                expected = naive.commit(step.order_id)
                await self._compare(step, stock.commit_part(step), expected)
            case Commit():
                await self._compare(step, stock.commit_part(step), naive.commit_part(step))
            case Release():
                expected = naive.release(step.order_id)
                await self._compare(step, stock.release(step.order_id), expected)
            case TakeBack():
                await self._compare(step, stock.take_back(step), naive.take_back(step))

    async def _compare(self, step: Step, attempt: Any, expected: str) -> None:
        """Compare outcomes; an answer that came before is the same again."""
        try:
            answer = await attempt
        except (Failure, IdempotencyConflictError) as refusal:
            assert expected == refusal.code, step  # noqa: PT017 - it may be refused, or not
            return
        said = answer.state if isinstance(answer, Reservation) else "back"
        assert expected == said, step
        key = (type(step), step.order_id) if isinstance(step, Reserve) else step
        assert answer == self._answers.setdefault(key, answer), step


@pytest.fixture(scope="module")
def history_of(shelves_url: str) -> Iterator[Any]:
    """Give what plays a history on a database that all examples share: opening takes longest."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        shelves = Shelves(stack, shelves_url)
        stock = runner.run(shelves.open())
        yield lambda steps: runner.run(History(shelves, stock).play(steps))
        runner.run(stack.aclose())


@pytest.mark.parametrize("shelves_url", ["sqlite"], indirect=True)
@settings(max_examples=15)
@given(_histories(20))
def test_any_history_is_that_of_the_naive_stock(history_of: Any, steps: list[Step]) -> None:
    """Every answer and every level is the model's, and after each step all units are there."""
    history_of(steps)


@pytest.mark.slow
@settings(max_examples=300)
@given(_histories(50))
def test_many_long_histories(history_of: Any, steps: list[Step]) -> None:
    """The same, on both databases."""
    history_of(steps)
