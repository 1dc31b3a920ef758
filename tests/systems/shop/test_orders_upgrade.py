"""Orders of before customers were told of everything: brought up to date where they lie."""

from __future__ import annotations

from agent99.ids import SystemIds
from agent99.store import Transaction, open_store
from agent99.systems.shop._model import Backlog
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._tables import ORDERS_MIGRATIONS, ORDERS_SCHEMA
from agent99.testing import ManualClock
from tests.systems.shop._shop import an_id


def _fill(tx: Transaction) -> None:
    """Write what the release before would have written: told of, not told of, and rejected."""
    for name, state, told in (("a", "confirmed", 1), ("b", "confirmed", 0), ("c", "rejected", 0)):
        order = {"order_id": str(an_id(name)), "customer": str(an_id("who")), "state": state}
        tx.execute(
            "INSERT INTO orders VALUES"
            " (:order_id, :customer, :state, 520, '{}', '', NULL, NULL, 5, 1, 2)",
            order,
        )
        if told:
            tx.execute(
                "INSERT INTO order_history VALUES (:order_id, 5, 'notify', :state, NULL, 2)", order
            )


async def test_what_was_not_told_yet_is_owed(url: str) -> None:
    """Of the confirmed ones, in the words in which it would have been said before."""
    async with open_store(url, migrations=ORDERS_MIGRATIONS[:2], schema=ORDERS_SCHEMA) as store:
        await store.transaction(_fill)
    async with open_store(url, migrations=ORDERS_MIGRATIONS, schema=ORDERS_SCHEMA) as store:
        orders = Orders(store, ManualClock(), SystemIds())
        assert Backlog(2, 1, 0) == await orders.backlog()
        assert () == await orders.owed(an_id("a"), "order_confirmation")
        (message,) = await orders.owed(an_id("b"), "order_confirmation")
        assert {"total": "5.20", "estimated_delivery": "1970-01-08"} == message.template_data
        assert () == await orders.owed(an_id("c"), "order_rejected")
