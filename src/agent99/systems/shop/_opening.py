"""Opening the three stores. Imported when an agent starts: SQLAlchemy loads late."""

from __future__ import annotations

from agent99.clock import Clock
from agent99.ids import Ids
from agent99.store import Store, open_store
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._payments import Payments
from agent99.systems.shop._settings import ShopSettings
from agent99.systems.shop._stock import Stock
from agent99.systems.shop._tables import (
    ORDERS_MIGRATIONS,
    ORDERS_SCHEMA,
    PAYMENTS_MIGRATIONS,
    PAYMENTS_SCHEMA,
    STOCK_MIGRATIONS,
    STOCK_SCHEMA,
)


async def open_orders(settings: ShopSettings, clock: Clock, ids: Ids) -> tuple[Store, Orders]:
    """Open the store of the orders.

    Raises:
        StoreError: and its kinds.
        UsageError: the URL is none.
    """
    store = open_store(
        settings.orders_url,
        migrations=ORDERS_MIGRATIONS,
        schema=ORDERS_SCHEMA,
        clock=clock,
        ids=ids,
    )
    await store.open()
    return store, Orders(store, clock, ids)


async def open_stock(settings: ShopSettings, clock: Clock, ids: Ids) -> tuple[Store, Stock]:
    """Open the store of the stock.

    Raises:
        StoreError: and its kinds.
        UsageError: the URL is none.
    """
    store = open_store(
        settings.stock_url,
        migrations=STOCK_MIGRATIONS,
        schema=STOCK_SCHEMA,
        clock=clock,
        ids=ids,
    )
    await store.open()
    return store, Stock(store, clock, ids)


async def open_payments(settings: ShopSettings, clock: Clock, ids: Ids) -> tuple[Store, Payments]:
    """Open the store of the payments.

    Raises:
        StoreError: and its kinds.
        UsageError: the URL is none.
    """
    store = open_store(
        settings.payments_url,
        migrations=PAYMENTS_MIGRATIONS,
        schema=PAYMENTS_SCHEMA,
        clock=clock,
        ids=ids,
    )
    await store.open()
    return store, Payments(store, clock, ids, settings.declines)
