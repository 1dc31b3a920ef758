"""The load of the demo: readers, writers and counters that remember what they were told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from typing import Final

import msgspec

from agent99 import Mesh
from agent99.clock import Clock
from agent99.errors import DeadlineExceededError
from agent99.systems.cache._cache import Cache
from agent99.systems.cache._demo_figures import DemoGoods

READERS: Final = 6
WRITERS: Final = 3
COUNTERS: Final = 2
BATCH: Final = 20
"""Keys that a reader asks for at once."""
PAUSE_S: Final = 0.004
"""Between two batches: the demo is to leave the machine usable."""


class Product(msgspec.Struct, frozen=True):
    """What is cached of a product."""

    prices: tuple[int, ...]
    revision: int
    """Grows with each write."""


class Load:
    """Reads, writes and counts until cancelled, and knows what must be there.

    Each key has one writer, so that what was acknowledged last is known: the key's revision is
    never below that, nor above what was tried. Nothing is deleted, and there is room for all.
    """

    def __init__(self, mesh: Mesh, goods: DemoGoods, clock: Clock) -> None:
        self._mesh = mesh
        self._goods = goods
        self._clock = clock
        self._asked: Iterator[str] = cycle(goods.asked)
        self.acknowledged: dict[str, int] = {}
        """By product, its revision that is there for certain."""
        self._tried: dict[str, int] = {}
        self._counted: Counter[str] = Counter()
        self._maybe: Counter[str] = Counter()
        self.reads = self.hits = self.writes = 0
        self.failed = self.stale = self.lost = self.wrong = 0
        self.unknown = 0
        """Changes of which nobody knows whether they were made."""

    def __repr__(self) -> str:
        return f"Load(reads={self.reads}, writes={self.writes})"

    @property
    def counted(self) -> int:
        """Additions that were acknowledged."""
        return self._counted.total()

    @property
    def counters(self) -> int:
        """How many counters there are."""
        return len(self._counted)

    async def run(self) -> None:
        """Go on until cancelled.

        Raises:
            Agent99Error: but that an answer did not come in time.
        """
        products = await self._mesh.cache("catalogue", Product)
        sold = await self._mesh.cache("sold", int)
        async with asyncio.TaskGroup() as group:
            for _ in range(READERS):
                group.create_task(self._read(products))
            for number in range(WRITERS):
                group.create_task(self._write(products, number))
            for _ in range(COUNTERS):
                group.create_task(self._count(sold))

    async def check(self) -> None:
        """Read everything back, once nothing comes and goes any more.

        Raises:
            Agent99Error
        """
        products = await self._mesh.cache("catalogue", Product)
        found = await products.get_many(self.acknowledged)
        for key, revision in self.acknowledged.items():
            product = found.get(key)
            is_there = product is not None and revision <= product.revision <= self._top(key)
            self.lost += not is_there
        sold = await (await self._mesh.cache("sold", int)).get_many(self._counted)
        for key, count in self._counted.items():
            self.wrong += not count <= sold.get(key, 0) <= count + self._maybe[key]

    # --- inside -----------------------------------------------------------------------------------

    def _top(self, key: str) -> int:
        return max(self.acknowledged.get(key, 0), self._tried.get(key, 0))

    async def _read(self, products: Cache[Product]) -> None:
        while True:
            keys = {next(self._asked) for _ in range(BATCH)}
            floors = {key: self.acknowledged.get(key) for key in keys}
            try:
                found = await products.get_many(keys)
                for key, floor in floors.items():
                    await self._judge(products, key, floor, found.get(key))
            except DeadlineExceededError:
                self.failed += 1
            await self._clock.sleep(PAUSE_S)

    async def _judge(
        self, products: Cache[Product], key: str, floor: int | None, product: Product | None
    ) -> None:
        """Compare what was read with what had been acknowledged; what is missing is put there."""
        self.reads += 1
        if product is not None:
            self.hits += 1
            self.stale += floor is not None and product.revision < floor
        elif floor is not None:
            self.stale += 1
        else:
            await products.add(key, Product(tuple(self._goods.prices[key]), 0))
            self.acknowledged.setdefault(key, 0)

    async def _write(self, products: Cache[Product], number: int) -> None:
        own = [key for at, key in enumerate(sorted(self._goods.prices)) if at % WRITERS == number]
        for key in cycle(own):
            revision = self._top(key) + 1
            self._tried[key] = revision
            try:
                await products.set(key, Product(tuple(self._goods.prices[key]), revision))
            except DeadlineExceededError:
                self.unknown += 1
            else:
                self.writes += 1
                self.acknowledged[key] = revision
            await self._clock.sleep(PAUSE_S)

    async def _count(self, sold: Cache[int]) -> None:
        while True:
            key = next(self._asked)[:1]
            self._maybe[key] += 1  # and it stays so if this is cancelled meanwhile
            try:
                await sold.incr(key)
            except DeadlineExceededError:
                self.unknown += 1
            else:
                self._maybe[key] -= 1
                self._counted[key] += 1
            await self._clock.sleep(PAUSE_S)
