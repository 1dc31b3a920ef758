"""A database of an earlier version is brought up to date, and what it says still holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
import pytest

from agent99.clock import SystemClock
from agent99.errors import Failure
from agent99.ids import SystemIds
from agent99.store import Migration, Store, open_store
from agent99.systems.shop._aftercare import notification_uuid, shipment_uuid
from agent99.systems.shop._model import Notified, Notify, Ship, Shipment
from agent99.systems.shop._opening import open_messages, open_shipments
from agent99.systems.shop._provider import PretendProvider
from agent99.systems.shop._settings import settings_on
from agent99.systems.shop._tables_aftercare import (
    MESSAGES_MIGRATIONS,
    MESSAGES_SCHEMA,
    SHIPMENTS_MIGRATIONS,
    SHIPMENTS_SCHEMA,
)
from tests.systems.shop._shop import an_id, order_of

ORDER_ID, ANN = an_id("order"), an_id("ann")
ORDER = order_of((an_id("tea"), 2, "1.10"))
SHIP = Ship(ORDER_ID, ORDER.items, ORDER.shipping_address)
SAID = Notify("order_confirmation", ANN, ORDER_ID, {"total": "2.20"})
SHIPMENT_ID = shipment_uuid(ORDER_ID, 1)
NOTIFICATION_ID = notification_uuid(ORDER_ID, SAID.type, 1)


async def _fill(
    url: str, schema: str, migrations: Sequence[Migration], table: str, row: Mapping[str, Any]
) -> None:
    """Make tables as an earlier version did, and put a row into one."""
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    statement = f"INSERT INTO {table} ({names}) VALUES ({values})"
    async with open_store(url, migrations=migrations, schema=schema) as store:
        await store.transaction(lambda tx: tx.execute(statement, row))


async def _events(store: Store) -> int:
    return (await store.outbox.counts()).waiting


async def test_what_was_done_before_parts_and_intents_stays_done(url: str) -> None:
    """The first part is shipped, and the customer told, whatever the words were; nothing twice."""
    order_id, settings = str(ORDER_ID), settings_on(url)
    shipped = {
        "shipment_id": str(SHIPMENT_ID),
        "order_id": order_id,
        "carrier": "DHL",
        "state": "shipped",
        "at_us": 1,
    }
    told = {
        "notification_id": str(NOTIFICATION_ID),
        "order_id": order_id,
        "customer_id": str(ANN),
        "type": SAID.type,
        "channel": "sms",
        "at_us": 1,
    }
    await _fill(url, SHIPMENTS_SCHEMA, SHIPMENTS_MIGRATIONS[:1], "shipments", shipped)
    await _fill(url, MESSAGES_SCHEMA, MESSAGES_MIGRATIONS[:1], "notifications", told)

    store, shipments = await open_shipments(settings, SystemClock(), SystemIds())
    async with aclosing(store):
        assert Shipment(SHIPMENT_ID, "DHL") == await shipments.ship(SHIP)
        with pytest.raises(Failure, match="is shipped for good"):
            await shipments.cancel(ORDER_ID, 1)
        assert 0 == await _events(store)
        await shipments.ship(msgspec.structs.replace(SHIP, part=2))
        assert 1 == await _events(store)
        assert [0, 1] == [len(s.items) for s in (await shipments.of_order(ORDER_ID)).shipments]

    store, messages = await open_messages(settings, SystemClock(), SystemIds())
    async with aclosing(store):
        assert Notified(NOTIFICATION_ID, "sms") == await messages.send(SAID)
        assert isinstance(messages.provider, PretendProvider)
        assert 0 == (await messages.provider.view()).sent == await _events(store)
        await messages.send(msgspec.structs.replace(SAID, type="order_cancelled"))
        assert 1 == (await messages.provider.view()).sent == await _events(store)
