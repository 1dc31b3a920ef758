"""What a customer gives back, and what is given for it: of orders that were confirmed."""

from __future__ import annotations

from typing import Annotated, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from agent99.systems.shop._model import LINES_MAX, OrderLine, StockLine

ReturnLines: TypeAlias = Annotated[tuple[OrderLine, ...], Meta(max_length=LINES_MAX)]


class GiveBack(msgspec.Struct, frozen=True):
    """A customer gives back what was bought: units of products, at the prices that were paid."""

    customer_id: UUID
    items: ReturnLines
    """Each is matched with the latest line of the customer's confirmed orders that has the same
    product and price, and of which as many units are still to be given back."""


class OrderReturn(msgspec.Struct, frozen=True):
    """What is given back of one order."""

    order_id: UUID
    amount_pence: int
    items: tuple[StockLine, ...]


class Matched(msgspec.Struct, frozen=True):
    """Which orders a return is of."""

    return_id: UUID
    orders: tuple[OrderReturn, ...]
    """By their ids."""
    matched: int
    """Lines that were matched."""
    unmatched: int
    """Lines that fit nothing that was bought: nothing is given for them."""


class GivenBack(msgspec.Struct, frozen=True):
    """The goods are on the shelf again, and the money is the customer's."""

    return_id: UUID
    matched: int
    unmatched: int
    refunded_pence: int
    orders: tuple[UUID, ...]
    """The orders that it was of."""
