"""The order that every stack is asked to confirm: 400 bytes of JSON, the same as the bound's."""

from __future__ import annotations

import msgspec


class Item(msgspec.Struct):
    """A line of the order."""

    product_id: str
    quantity: int
    unit_price: float


class Address(msgspec.Struct):
    """Where it goes."""

    street: str
    city: str
    state: str
    zip_code: str
    country: str


class Order(msgspec.Struct):
    """What is asked."""

    customer_id: str
    items: list[Item]
    shipping_address: Address


class Confirmation(msgspec.Struct):
    """What is answered."""

    order_id: str
    status: str
    total: float


ORDER = Order(
    "3f1c9a52-7d7e-4d0a-9a59-2b1f0f6a9e11",
    [
        Item("a81bc81b-dead-4e5d-abff-90865d1e13b1", 2, 29.99),
        Item("b92cd92c-beef-4f6e-bc00-a1976e2f24c2", 1, 39.99),
        Item("c03de03d-cafe-4071-8d11-b2087f3035d3", 5, 4.95),
    ],
    Address("742 Evergreen Terrace", "Springfield", "OR", "97403", "US"),
)
TOTAL = 124.72


def confirm(order: Order) -> Confirmation:
    """Answer an order."""
    total = sum(item.quantity * item.unit_price for item in order.items)
    return Confirmation(order.customer_id[:8] + "-0001", "confirmed", round(total, 2))
