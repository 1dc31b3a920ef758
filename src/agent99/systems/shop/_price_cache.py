"""The price list, read through the mesh's cache: the store is asked for what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

import msgspec

from agent99.errors import Agent99Error, ClosedError
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._model import OrderLine

NAMESPACE: Final = "catalogue"
NEAR_S: Final = 5.0
"""A price that was read is held so long at most; who changes one tells of it at once."""
PATIENCE_S: Final = 0.25
"""The cache saves time: who would wait longer for it asks the store."""


class Prices(msgspec.Struct, frozen=True):
    """What is cached of a product."""

    pence: tuple[int, ...]


class Namespace(Protocol):
    """What is needed of the mesh's cache."""

    async def get_many(self, keys: Iterable[str]) -> dict[str, Prices]:
        """Return what is there for those keys that have something."""
        ...

    async def set_many(self, values: Mapping[str, Prices]) -> None:
        """Put values there."""
        ...


class CachedPrices:
    """Finds the prices of products in the cache, and puts those there that are missing.

    The first that is missing brings the whole list: one batch costs less than one for each order.

    The store has the last word: what the cache knows no price for, or does not answer in time, is
    looked up there; so the shop goes on without a cache, and an old price refuses nobody.

    Args:
        load: Reads the whole list from the store.
    """

    def __init__(self, cache: Namespace, load: Callable[[], Awaitable[PriceList]]) -> None:
        self._cache = cache
        self._load = load
        self._own: PriceList | None = None
        self._has_filled = False

    def __repr__(self) -> str:
        return f"CachedPrices({self._cache!r})"

    async def known(self, lines: Sequence[OrderLine]) -> PriceList:
        """Return a list that has the prices of these products.

        Raises:
            StoreError: the cache has not all of them, and the store cannot be read.
        """
        products = {line.product_id for line in lines}
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await self._cache.get_many(map(str, products))
        except ClosedError:
            raise
        except (TimeoutError, Agent99Error):
            return await self._stored()
        cached = _listed(found)
        if all(line.unit_price_pence in cached.prices(line.product_id) for line in lines):
            return cached
        stored = await self._stored()
        is_first, self._has_filled = not self._has_filled, True
        every = {product for product, _ in stored}
        await self._fill(stored, (every if is_first else products) - {UUID(key) for key in found})
        return stored

    # --- inside -----------------------------------------------------------------------------------

    async def _stored(self) -> PriceList:
        if self._own is None:
            self._own = await self._load()
        return self._own

    async def _fill(self, stored: PriceList, products: Iterable[UUID]) -> None:
        missing = {
            str(product): Prices(tuple(sorted(stored.prices(product))))
            for product in products
            if product in stored
        }
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._cache.set_many(missing)
        except ClosedError:
            raise
        except (TimeoutError, Agent99Error):
            return  # whoever asks next puts it there


def _listed(found: dict[str, Prices]) -> PriceList:
    return PriceList({UUID(key): frozenset(prices.pence) for key, prices in found.items()})
