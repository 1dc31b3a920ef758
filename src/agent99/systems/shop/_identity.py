"""Names that two people make alike: every id of the shop that follows from the data (rule 1).

Nothing here is random; an order without a key takes its id from `agent99.ids`.
"""

from __future__ import annotations

from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

NAMESPACE: Final = uuid5(NAMESPACE_URL, "https://doi.org/10.24432/C5CG6D")
"""The namespace of every id, from the DOI of the data."""


def product_uuid(stock_code: str) -> UUID:
    """Return the product of a stock code; blanks around it and its case do not matter."""
    return uuid5(NAMESPACE, stock_code.strip().upper())


def customer_uuid(customer: int) -> UUID:
    """Return the customer of a number in the data."""
    return uuid5(NAMESPACE, str(customer))


def guest_uuid(invoice: str) -> UUID:
    """Return the guest who placed the order of an invoice that names no customer."""
    return uuid5(NAMESPACE, invoice)


def order_uuid(idempotency_key: str) -> UUID:
    """Return the order of an idempotency key: the same key is the same order, for ever."""
    return uuid5(NAMESPACE, idempotency_key)


def derived_uuid(what: str, of: UUID) -> UUID:
    """Return the one thing of a sort that belongs to something else: `shipment` of an order."""
    return uuid5(NAMESPACE, f"{what}:{of}")


def rest_key(order_id: UUID) -> str:
    """Return the idempotency key of the order of what was not there of an order: its back-order."""
    return f"{order_id}:rest"


def refund_uuid(return_id: UUID, order_id: UUID) -> UUID:
    """Return the refund, and the way back to the shelf, of what a return takes of an order."""
    return derived_uuid(f"return:{return_id}", order_id)
