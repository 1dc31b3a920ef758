"""A stock of before reservations had an end: it is brought up to date where it lies."""

from __future__ import annotations

from agent99.ids import SystemIds
from agent99.store import Transaction, open_store
from agent99.systems.shop._model import Reservation
from agent99.systems.shop._stock import Stock
from agent99.systems.shop._tables import STOCK_MIGRATIONS, STOCK_SCHEMA
from agent99.testing import ManualClock
from tests.systems.shop._shelves import MUG, TEA, back, part, refused, taken
from tests.systems.shop._shop import an_id, reserve

_BEFORE = (
    ("reserved", (TEA, 3), (MUG, 1)),
    ("reserved", (TEA, 2)),
    ("committed", (TEA, 4), (MUG, 2)),
    ("released", (TEA, 5)),
)
"""Orders 0 to 3: what became of them, and their lines."""


def _fill(tx: Transaction) -> None:
    """Write the rows that the first release would have written."""
    stock = "INSERT INTO stock VALUES (:product, :opening, :on_hand, :reserved, :shipped, 0)"
    tx.execute(
        stock, {"product": str(TEA), "opening": 20, "on_hand": 11, "reserved": 5, "shipped": 4}
    )
    tx.execute(
        stock, {"product": str(MUG), "opening": 3, "on_hand": 0, "reserved": 1, "shipped": 2}
    )
    for order, (state, *held) in enumerate(_BEFORE):
        name = str(an_id(order))
        tx.execute(
            "INSERT INTO reservations VALUES (:order_id, :state, 1, 2)",
            {"order_id": name, "state": state},
        )
        for product, units in held:
            tx.execute(
                "INSERT INTO reservation_lines VALUES (:order_id, :product, :units)",
                {"order_id": name, "product": str(product), "units": units},
            )


async def test_what_was_held_before_never_expires(url: str) -> None:
    """It ships and is let go as ever, in parts too; what had shipped as a whole comes back."""
    async with open_store(url, migrations=STOCK_MIGRATIONS[:1], schema=STOCK_SCHEMA) as store:
        await store.transaction(_fill)
    async with open_store(url, migrations=STOCK_MIGRATIONS, schema=STOCK_SCHEMA) as store:
        clock = ManualClock()
        stock = Stock(store, clock, SystemIds())
        await clock.advance(365 * 24 * 3600.0)
        assert (None, 0) == (await stock.next_expiry_us(), await stock.expire())
        assert Reservation(an_id(0), "reserved", 2, 4) == await stock.reserve(
            reserve(0, (TEA, 3), (MUG, 1))
        )
        assert Reservation(an_id(2), "committed", 2, 6, 6) == await stock.commit(an_id(2))
        assert Reservation(an_id(3), "released", 1, 5) == await stock.release(an_id(3))
        await stock.commit_part(part(0, "a", (TEA, 1), keep=True))
        assert Reservation(an_id(0), "committed", 2, 4, 4) == await stock.commit(an_id(0))
        assert "released" == (await stock.release(an_id(1))).state
        assert taken(2, "x", 1, 4) == await stock.take_back(back(2, "x", (TEA, 4)))
        await refused(stock.take_back(back(3, "y", (TEA, 1))), "RETURN_TOO_LARGE")
        levels = [await stock.level(product) for product in (TEA, MUG)]
        assert [(17, 0, 7, 4), (0, 0, 3, 0)] == [
            (each.on_hand, each.reserved, each.shipped, each.restocked) for each in levels
        ]


def test_what_was_applied_is_never_renamed() -> None:
    """A database that a release has made would be refused."""
    names = [migration.name for migration in STOCK_MIGRATIONS]
    assert names == [
        "stock and reservations",
        "reservations that expire, parts and returns",
        "reservations of what there is, and what suppliers deliver",
    ]
