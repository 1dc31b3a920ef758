"""The messages: the sample's fields work, and bad input is refused by path and rule."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from agent99.systems.shop._model import (
    LINES_MAX,
    Charge,
    OrderConfirmation,
    PlaceOrder,
    StockAnswer,
)
from agent99.systems.shop._payment_model import Authorise, Capture, Refund

_ID = "7b2b4b0e-5c53-4f3c-9a6e-0d7f5d1a2b3c"
_ORDER: dict[str, Any] = {
    "customer_id": _ID,
    "items": [
        {"product_id": _ID, "quantity": 2, "unit_price": 12.5},
        {"product_id": _ID, "quantity": 1, "unit_price": "0.99"},
    ],
    "shipping_address": {
        "street": "1 High Street",
        "city": "Leeds",
        "state": "",
        "zip_code": "LS1 1AA",
        "country": "United Kingdom",
    },
}


def _without(path: str) -> dict[str, Any]:
    order = json.loads(json.dumps(_ORDER))
    *parents, last = path.split(".")
    holder: Any = order
    for name in parents:
        holder = holder[int(name) if name.isdigit() else name]
    del holder[last]
    return dict(order)


def _with(path: str, value: object) -> dict[str, Any]:
    order = json.loads(json.dumps(_ORDER))
    *parents, last = path.split(".")
    holder: Any = order
    for name in parents:
        holder = holder[int(name) if name.isdigit() else name]
    holder[last] = value
    return dict(order)


def _decode(order: dict[str, Any]) -> PlaceOrder:
    return msgspec.json.decode(json.dumps(order).encode(), type=PlaceOrder)


def test_the_samples_order_is_read() -> None:
    """Numbers and strings are both money, and the total is exact."""
    order = _decode(_ORDER)
    assert [1250, 99] == [line.unit_price_pence for line in order.items]
    assert 2599 == order.total_pence
    assert UUID(_ID) == order.customer_id


@pytest.mark.parametrize(
    "path",
    [
        "customer_id",
        "items",
        "shipping_address",
        "items.1.product_id",
        "items.1.quantity",
        "items.1.unit_price",
        "shipping_address.street",
        "shipping_address.city",
        "shipping_address.state",
        "shipping_address.zip_code",
        "shipping_address.country",
    ],
)
def test_a_missing_field_is_named(path: str) -> None:
    """Every field of the sample's schema is required."""
    with pytest.raises(msgspec.ValidationError, match=f"`{path.rsplit('.', 1)[-1]}`"):
        _decode(_without(path))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("items", [], r"length >= 1 - at `\$\.items`"),
        ("items", _ORDER["items"] * LINES_MAX, r"length <= 1000 - at `\$\.items`"),
        ("items.0.quantity", 0, r">= 1 - at `\$\.items\[0\]\.quantity`"),
        ("items.0.quantity", 2.5, r"`int`, got `float` - at `\$\.items\[0\]\.quantity`"),
        ("items.0.quantity", 10**30, r"\$\.items\[0\]\.quantity"),
        ("items.1.unit_price", -1, r"`unit_price` is -1: .* - at `\$\.items\[1\]`"),
        ("items.1.unit_price", "1.001", r"two decimal places - at `\$\.items\[1\]`"),
        ("items.1.product_id", "x", r"UUID - at `\$\.items\[1\]\.product_id`"),
        ("customer_id", 7, r"`\$\.customer_id`"),
        ("shipping_address.street", "", r"`\$\.shipping_address\.street`"),
        ("shipping_address.city", "x" * 201, r"`\$\.shipping_address\.city`"),
    ],
)
def test_a_broken_rule_is_named_with_its_path(path: str, value: object, message: str) -> None:
    """What breaks the schema gets the rule and the path."""
    with pytest.raises(msgspec.ValidationError, match=message):
        _decode(_with(path, value))


def test_the_answers_are_the_samples() -> None:
    """The sample's fields of an answer stand under their own names; money as a string of pounds."""
    confirmation = msgspec.json.decode(
        msgspec.json.encode(
            OrderConfirmation(
                order_id=UUID(_ID),
                total=Decimal("25.99"),
                estimated_delivery=date(2010, 1, 8),
                total_pence=2599,
            )
        )
    )
    assert {
        "order_id": _ID,
        "status": "confirmed",
        "total": "25.99",
        "estimated_delivery": "2010-01-08",
        "total_pence": 2599,
    } == confirmation


def test_a_stock_answer_has_only_the_fields_of_its_case() -> None:
    """Held and not held carry different fields, as in the sample."""
    held = StockAnswer(available=True, product_id=UUID(_ID), reserved_quantity=2, remaining_stock=0)
    short = StockAnswer(
        available=False, product_id=UUID(_ID), requested_quantity=2, available_quantity=0
    )
    assert {
        "available": True,
        "product_id": _ID,
        "reserved_quantity": 2,
        "remaining_stock": 0,
    } == json.loads(msgspec.json.encode(held))
    assert {
        "available": False,
        "product_id": _ID,
        "requested_quantity": 2,
        "available_quantity": 0,
    } == json.loads(msgspec.json.encode(short))


def test_a_charge_is_in_the_shops_currency() -> None:
    """The currency is the shop's by default, and no other is taken."""
    body = {"customer_id": _ID, "amount": "3.10"}
    charge = msgspec.convert(body, Charge)
    assert ("GBP", 310, None) == (charge.currency, charge.amount_pence, charge.order_id)
    with pytest.raises(msgspec.ValidationError, match=r"\$\.currency"):
        msgspec.convert({**body, "currency": "USD"}, Charge)
    with pytest.raises(msgspec.ValidationError, match="`amount`"):
        msgspec.convert({**body, "amount": "3.101"}, Charge)


@pytest.mark.parametrize(
    ("kind", "body", "path"),
    [
        (Authorise, {"customer_id": _ID, "amount": "3.10"}, "`order_id`"),
        (Authorise, {"customer_id": _ID, "amount": "3.101", "order_id": _ID}, "`amount`"),
        (Capture, {"order_id": _ID, "amount_pence": 0}, r"\$\.amount_pence"),
        (Capture, {"order_id": _ID, "amount_pence": 10**12 + 1}, r"\$\.amount_pence"),
        (Refund, {"order_id": _ID, "amount_pence": 1}, "`refund_id`"),
        (Refund, {"order_id": _ID, "refund_id": _ID, "amount_pence": 0}, r"\$\.amount_pence"),
        (Refund, {"order_id": _ID, "refund_id": _ID, "amount_pence": 1.5}, r"\$\.amount_pence"),
        (
            Refund,
            {"order_id": _ID, "refund_id": _ID, "amount_pence": 1, "reason": "x" * 201},
            r"\$\.reason",
        ),
    ],
)
def test_money_is_asked_for_in_whole_pence(kind: type, body: dict[str, Any], path: str) -> None:
    """Each operation names its order, a refund itself as well, and moves a penny at the least."""
    with pytest.raises(msgspec.ValidationError, match=path):
        msgspec.convert(body, kind)
