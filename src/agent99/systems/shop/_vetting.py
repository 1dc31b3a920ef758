"""A look at the database that the demo is given, before anything starts. Loads SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from agent99.clock import Clock
from agent99.errors import StoreError, StoreFullError, StoreUnavailableError, UsageError
from agent99.ids import Ids
from agent99.store import Transaction
from agent99.systems.shop._opening import (
    open_history,
    open_messages,
    open_orders,
    open_payments,
    open_shipments,
    open_stock,
)
from agent99.systems.shop._settings import ShopSettings

_OPENINGS: Final[tuple[tuple[Callable[..., Any], tuple[str, ...]], ...]] = (
    (open_orders, ("orders", "prices")),
    (open_stock, ("stock", "reservations")),
    (open_payments, ("payments", "ledger")),
    (open_shipments, ("shipments",)),
    (open_messages, ("notifications",)),
    (open_history, ("order_records",)),
)
"""By store: its tables that every run of the shop fills."""


async def require_empty(settings: ShopSettings, clock: Clock, ids: Ids) -> None:
    """Open the stores once, which makes their tables, and see that there is nothing in them.

    Raises:
        UsageError: the URL is none; the database holds a shop already, or tables of others.
        StoreUnavailableError, StoreFullError: it cannot be used now.
    """
    for open_one, tables in _OPENINGS:
        try:
            store, _ = await open_one(settings, clock, ids)
        except (StoreFullError, StoreUnavailableError):
            raise
        except StoreError as error:
            raise UsageError(f"the database is not an empty one: {error}") from error
        try:
            used = await store.read(partial(_used, tables=tables))
        finally:
            await store.aclose()
        if used:
            message = f"the database has {used} in it already; the demo needs an empty one"
            raise UsageError(message)


def _used(tx: Transaction, tables: tuple[str, ...]) -> str:
    """Return the first of the tables with a row; empty if there is none."""
    for table in tables:
        if tx.execute(f"SELECT 1 FROM {table} LIMIT 1").first() is not None:  # noqa: S608 - our names
            return table
    return ""
