"""What the sample does not know of stock: parts of an order that ship alone, and returns."""

from __future__ import annotations

from typing import Final, Literal
from uuid import UUID

import msgspec

from agent99.systems.shop._model import StockLines

RESERVATION_TOO_SMALL: Final = "RESERVATION_TOO_SMALL"
RETURN_TOO_LARGE: Final = "RETURN_TOO_LARGE"


class Commit(msgspec.Struct, frozen=True):
    """Ship what is held for an order, or a part of it."""

    order_id: UUID
    items: StockLines | None = None
    """What ships; None: all that is held."""
    rest: Literal["release", "keep"] = "release"
    """What becomes of what is held beside the items: it is let go, or kept until its time is up."""
    part: UUID | None = None
    """Names the part, everywhere and for ever: the same part ships once. An order of which only one
    part ships by itself needs no name for it: it is named by the order."""

    def __post_init__(self) -> None:
        if self.items is None and (self.part is not None or self.rest != "release"):
            message = "`part` and `rest` are about a part: say its `items`"
            raise ValueError(message)


class TakeBack(msgspec.Struct, frozen=True):
    """Units that were shipped for an order are back."""

    order_id: UUID
    return_id: UUID
    """Names the return, everywhere and for ever: the same return is taken back once."""
    items: StockLines


class TakenBack(msgspec.Struct, frozen=True):
    """They are on the shelf again."""

    order_id: UUID
    return_id: UUID
    products: int
    """Different products of this return."""
    units: int
