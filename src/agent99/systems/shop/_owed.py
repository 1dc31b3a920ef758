"""What customers are owed to be told, in SQL: written in the transaction of what it tells of.

Each function is a part of a transaction on the database of the orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import msgspec

from agent99.store import Transaction
from agent99.systems.shop._events import CustomerTold
from agent99.systems.shop._model import (
    INVENTORY_ERROR,
    NUMBER_MAX,
    PAYMENT_ERROR,
    PRICE_MISMATCH,
    RESERVATION_CLOSED,
    MessageType,
    Notify,
)

_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        INVENTORY_ERROR: "not all of it is in stock",
        PAYMENT_ERROR: "the payment was declined",
        PRICE_MISMATCH: "a price is not ours",
        RESERVATION_CLOSED: "it waited too long for its payment",
    }
)
_OWE = (
    "INSERT INTO order_messages (order_id, type, number, data, at_us)"
    " VALUES (:order_id, :type, :number, :data, :at_us) ON CONFLICT DO NOTHING"
)
_OWED = (
    "SELECT customer_id, number, data FROM order_messages AS m JOIN orders AS o"
    " ON o.order_id = m.order_id WHERE m.order_id = :order_id AND type = :type"
    " AND told_us IS NULL ORDER BY number"
)
_SETTLE = (
    "UPDATE order_messages SET told_us = :at_us"
    " WHERE order_id = :order_id AND type = :type AND number = :number AND told_us IS NULL"
)
_LAST = (
    "SELECT coalesce(max(number), 0) FROM order_messages"
    " WHERE order_id = :order_id AND type = :type"
)
_LEFT = "SELECT count(*) FROM order_messages WHERE told_us IS NULL"


def in_words(code: str) -> str:
    """Return why an order was rejected, for its customer."""
    return _WORDS.get(code, "something went wrong on our side")


def owe(
    tx: Transaction,
    order_id: str,
    kind: MessageType,
    data: Mapping[str, Any],
    *,
    at_us: int,
    number: int = 1,
) -> None:
    """Write down that a customer is to be told something of an order; once.

    What has a number beyond the bound is not told.
    """
    if number > NUMBER_MAX:
        return
    row = {
        "order_id": order_id,
        "type": kind,
        "number": number,
        "data": msgspec.json.encode(data).decode(),
        "at_us": at_us,
    }
    tx.execute(_OWE, row)


def next_number(tx: Transaction, order_id: str, kind: MessageType) -> int:
    """Return the number of an order's next message of a type."""
    return int(tx.execute(_LAST, {"order_id": order_id, "type": kind}).scalar() or 0) + 1


def owed(tx: Transaction, *, order_id: UUID, kind: MessageType) -> tuple[Notify, ...]:
    """Return what the customer of an order was not told yet, of one type."""
    rows = tx.execute(_OWED, {"order_id": str(order_id), "type": kind})
    return tuple(
        Notify(
            type=kind,
            customer_id=UUID(row.customer_id),
            order_id=order_id,
            template_data=msgspec.json.decode(row.data),
            number=row.number,
        )
        for row in rows
    )


def settle(tx: Transaction, told: CustomerTold) -> None:
    """Write down that a customer was told."""
    which = {"order_id": str(told.order_id), "type": told.type, "number": told.number}
    tx.execute(_SETTLE, {**which, "at_us": told.at_us})


def count_owed(tx: Transaction) -> int:
    """Return how many messages customers are owed."""
    return int(tx.execute(_LEFT).scalar() or 0)
