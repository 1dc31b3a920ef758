"""Opening the six stores. Imported when an agent starts: SQLAlchemy loads late.

Each raises a `StoreError` or one of its kinds, and `UsageError` for a URL that is none. What is
given as `traceparent` returns the trace that an event belongs to, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from agent99.clock import Clock
from agent99.ids import Ids
from agent99.store import Migration, Store, open_store
from agent99.systems.shop._history import History
from agent99.systems.shop._messages import Messages
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._payments import Payments
from agent99.systems.shop._provider import PretendProvider, Provider
from agent99.systems.shop._settings import ShopSettings
from agent99.systems.shop._shipments import Shipments
from agent99.systems.shop._stock import Stock
from agent99.systems.shop._tables import (
    ORDERS_MIGRATIONS,
    ORDERS_SCHEMA,
    PAYMENTS_MIGRATIONS,
    PAYMENTS_SCHEMA,
    STOCK_MIGRATIONS,
    STOCK_SCHEMA,
)
from agent99.systems.shop._tables_aftercare import (
    MESSAGES_MIGRATIONS,
    MESSAGES_SCHEMA,
    SHIPMENTS_MIGRATIONS,
    SHIPMENTS_SCHEMA,
)
from agent99.systems.shop._tables_history import HISTORY_MIGRATIONS, HISTORY_SCHEMA


async def open_orders(
    settings: ShopSettings, clock: Clock, ids: Ids, traceparent: Callable[[], str] = str
) -> tuple[Store, Orders]:
    """Open the store of the orders."""
    store = await _open(settings.orders_url, ORDERS_SCHEMA, ORDERS_MIGRATIONS, clock, ids)
    return store, Orders(store, clock, ids, traceparent)


async def open_stock(settings: ShopSettings, clock: Clock, ids: Ids) -> tuple[Store, Stock]:
    """Open the store of the stock."""
    store = await _open(settings.stock_url, STOCK_SCHEMA, STOCK_MIGRATIONS, clock, ids)
    return store, Stock(store, clock, ids, settings.hold_s)


async def open_payments(settings: ShopSettings, clock: Clock, ids: Ids) -> tuple[Store, Payments]:
    """Open the store of the payments."""
    store = await _open(settings.payments_url, PAYMENTS_SCHEMA, PAYMENTS_MIGRATIONS, clock, ids)
    return store, Payments(store, clock, ids, settings.declines)


async def open_shipments(
    settings: ShopSettings, clock: Clock, ids: Ids, traceparent: Callable[[], str] = str
) -> tuple[Store, Shipments]:
    """Open the store of the shipments."""
    store = await _open(settings.shipments_url, SHIPMENTS_SCHEMA, SHIPMENTS_MIGRATIONS, clock, ids)
    return store, Shipments(store, clock, traceparent)


async def open_messages(
    settings: ShopSettings,
    clock: Clock,
    ids: Ids,
    traceparent: Callable[[], str] = str,
    provider: Provider | None = None,
) -> tuple[Store, Messages]:
    """Open the store of the messages; without a provider one that pretends carries them."""
    store = await _open(settings.messages_url, MESSAGES_SCHEMA, MESSAGES_MIGRATIONS, clock, ids)
    carrier = provider or PretendProvider(store, clock, ids)
    return store, Messages(store, clock, traceparent, carrier)


async def open_history(settings: ShopSettings, clock: Clock, ids: Ids) -> tuple[Store, History]:
    """Open the store of the read model."""
    store = await _open(settings.history_url, HISTORY_SCHEMA, HISTORY_MIGRATIONS, clock, ids)
    return store, History(store)


async def _open(
    url: str, schema: str, migrations: tuple[Migration, ...], clock: Clock, ids: Ids
) -> Store:
    store = open_store(url, migrations=migrations, schema=schema, clock=clock, ids=ids)
    await store.open()
    return store
