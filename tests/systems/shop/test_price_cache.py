"""The price list behind the cache: what is there is taken, the store has the last word."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from decimal import Decimal
from uuid import UUID

import pytest

from agent99 import Mesh
from agent99.errors import Agent99Error, ClosedError, NoAgentError
from agent99.systems.cache import CacheNodeAgent
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._model import OrderLine
from agent99.systems.shop._price_cache import CachedPrices, Prices
from agent99.testing import MemoryEngine

TEA, RICE, SALT = (UUID(int=number) for number in (1, 2, 3))
LIST = PriceList.of([(TEA, 100), (TEA, 200), (RICE, 300)])


def lines(*pairs: tuple[UUID, str]) -> list[OrderLine]:
    """Return lines of one piece each."""
    return [OrderLine(product, 1, Decimal(price)) for product, price in pairs]


class Shelf:
    """A store that counts how often it is read, and a cache that may fail."""

    def __init__(self, error: Agent99Error | None = None, *, hangs: bool = False) -> None:
        self.loads = 0
        self.held: dict[str, Prices] = {}
        self.sets: list[set[str]] = []
        self._error = error
        self._hangs = hangs

    async def load(self) -> PriceList:
        """Read the list."""
        self.loads += 1
        return LIST

    async def get_many(self, keys: Iterable[str]) -> dict[str, Prices]:
        """Return what is held."""
        if self._hangs:
            await asyncio.get_running_loop().create_future()
        if self._error is not None:
            raise self._error
        return {key: self.held[key] for key in keys if key in self.held}

    async def set_many(self, values: Mapping[str, Prices]) -> None:
        """Hold values."""
        self.sets.append(set(values))
        self.held |= values


async def test_what_the_cache_has_the_store_is_not_asked_for() -> None:
    """The first that is missing brings the whole list; another process then needs no store."""
    shelf = Shelf()
    first = CachedPrices(shelf, shelf.load)
    assert {100, 200} == (await first.known(lines((TEA, "1.00")))).prices(TEA)
    assert [{str(TEA), str(RICE)}] == shelf.sets
    second = CachedPrices(shelf, shelf.load)
    assert {300} == (await second.known(lines((RICE, "3.00")))).prices(RICE)
    assert 1 == shelf.loads


async def test_what_is_missing_later_is_put_there_alone() -> None:
    """A product that was evicted comes back; the rest is not written again."""
    shelf = Shelf()
    prices = CachedPrices(shelf, shelf.load)
    await prices.known(lines((TEA, "1.00")))
    del shelf.held[str(RICE)]
    await prices.known(lines((TEA, "1.00"), (RICE, "3.00")))
    assert {str(RICE)} == shelf.sets[-1]
    assert (1, 2) == (shelf.loads, len(shelf.held))


async def test_the_store_has_the_last_word() -> None:
    """A price that the cache does not know, or a product that nobody sells, is looked up there."""
    shelf = Shelf()
    shelf.held[str(TEA)] = Prices((999,))
    known = await CachedPrices(shelf, shelf.load).known(lines((TEA, "1.00"), (SALT, "1.00")))
    assert known == LIST
    assert str(SALT) not in shelf.held


@pytest.mark.parametrize(
    "shelf",
    [Shelf(NoAgentError("nobody", reason="nobody")), Shelf(hangs=True)],
    ids=["no nodes", "no answer"],
)
async def test_without_a_cache_the_store_is_asked(shelf: Shelf) -> None:
    """The shop goes on."""
    assert LIST == await CachedPrices(shelf, shelf.load).known(lines((TEA, "1.00")))


async def test_a_mesh_that_is_closed_is_no_cache_that_is_away() -> None:
    """Whoever is being stopped is not held up by the store."""
    shelf = Shelf(ClosedError("mesh"))
    with pytest.raises(ClosedError):
        await CachedPrices(shelf, shelf.load).known(lines((TEA, "1.00")))


async def test_through_a_real_cache() -> None:
    """What one process has put there another one finds."""
    shelf = Shelf()
    async with Mesh(engine=MemoryEngine()) as mesh:
        await mesh.host(CacheNodeAgent())
        cache = await mesh.cache("catalogue", Prices)
        for _ in range(2):
            known = await CachedPrices(cache, shelf.load).known(lines((TEA, "2.00")))
            assert {100, 200} == known.prices(TEA)
    assert 1 == shelf.loads
