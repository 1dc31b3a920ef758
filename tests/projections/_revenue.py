"""A projection for tests: what was sold, by shop, from events that say how much."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from agent99 import Mesh
from agent99.groups import Event
from agent99.projections import Projection, ProjectionOptions, Projector, Tables
from tests._wait import eventually

QUICK = ProjectionOptions(poll_s=0.02, hold_s_max=2.0, grace_s=30.0)


class Sale(msgspec.Struct, frozen=True):
    """What a test appends."""

    pence: int


class Revenue(Projection):
    """What each shop has sold: how often, and for how much; and the last sale of each."""

    name = "revenue"
    topics = ("order.*",)
    tables = (
        "CREATE TABLE {shop} (shop TEXT PRIMARY KEY, sales BIGINT, pence BIGINT, last BIGINT)",
        "CREATE INDEX {shop}_by_pence ON {shop} (pence)",
    )

    def apply(self, tables: Tables, event: Event) -> None:
        """Count a sale."""
        values = {"shop": event.subject, "pence": event.decode(Sale).pence}
        tables.execute(
            "INSERT INTO {shop} (shop, sales, pence, last) VALUES (:shop, 1, :pence, :pence)"
            " ON CONFLICT (shop) DO UPDATE SET sales = {shop}.sales + 1,"
            " pence = {shop}.pence + excluded.pence, last = excluded.last",
            values,
        )


class RevenueInPounds(Revenue):
    """A later version, with other tables and topics."""

    version = 2
    topics = ("order.placed",)
    tables = ("CREATE TABLE {pounds} (shop TEXT PRIMARY KEY, pounds BIGINT NOT NULL)",)

    def apply(self, tables: Tables, event: Event) -> None:
        """Count a sale."""
        values = {"shop": event.subject, "pounds": event.decode(Sale).pence // 100}
        tables.execute(
            "INSERT INTO {pounds} (shop, pounds) VALUES (:shop, :pounds)"
            " ON CONFLICT (shop) DO UPDATE SET pounds = {pounds}.pounds + excluded.pounds",
            values,
        )


class Fold:
    """The naive model: what was appended, added up in Python."""

    def __init__(self) -> None:
        self.sales: Counter[str] = Counter()
        self.pence: Counter[str] = Counter()
        self.last: dict[str, int] = {}

    def add(self, shop: str, pence: int) -> None:
        """Count a sale."""
        self.sales[shop] += 1
        self.pence[shop] += pence
        self.last[shop] = pence

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """What the table should have."""
        return [
            (shop, self.sales[shop], self.pence[shop], self.last[shop])
            for shop in sorted(self.sales)
        ]


def rows(tables: Tables) -> list[tuple[Any, ...]]:
    """Return what the table has."""
    found = tables.execute("SELECT shop, sales, pence, last FROM {shop} ORDER BY shop")
    return [tuple(row) for row in found]


def sales(tables: Tables) -> int:
    """Return how many sales were counted."""
    return int(tables.execute("SELECT coalesce(sum(sales), 0) FROM {shop}").scalar() or 0)


async def fill(mesh: Mesh, fold: Fold, shops: int, numbers: Iterable[int]) -> None:
    """Append sales, in order per shop."""

    async def one(shop: str) -> None:
        for number in numbers:
            await mesh.append("order.placed", Sale(number), key=shop)
            fold.add(shop, number)

    await asyncio.gather(*(one(f"shop-{shop}") for shop in range(shops)))


async def caught_up(projector: Projector) -> None:
    """Wait until what is read has everything that was appended."""

    async def is_caught_up() -> bool:
        return not (await projector.status()).live.backlog

    await eventually(is_caught_up)
