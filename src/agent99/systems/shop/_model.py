"""The messages of the shop: the sample's names and fields, and beside them fields of our own.

What the sample does not know of payments is in `_payment_model.py`.

In the sample's fields money is pounds (`Money`); ours end in `_pence`. A field that breaks the
rules of money is refused in the decode, like any other field, with the path of its struct.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agent99.systems.shop._money import Money, to_pence

LINES_MAX: Final = 1_000
"""Lines of one order; the longest in the data has 655."""
QUANTITY_MAX: Final = 1_000_000
"""Units on one line; the largest in the data is 19,152."""
HOLD_S_MAX: Final = 7 * 24 * 3600.0
"""Seconds that stock can be held for an order."""

INVENTORY_ERROR: Final = "INVENTORY_ERROR"
PAYMENT_ERROR: Final = "PAYMENT_ERROR"
PRICE_MISMATCH: Final = "PRICE_MISMATCH"
PRODUCT_NOT_FOUND: Final = "PRODUCT_NOT_FOUND"
PAYMENT_DECLINED: Final = "PAYMENT_DECLINED"
ORDER_NOT_FOUND: Final = "ORDER_NOT_FOUND"
PAYMENT_NOT_FOUND: Final = "PAYMENT_NOT_FOUND"
RESERVATION_NOT_FOUND: Final = "RESERVATION_NOT_FOUND"
RESERVATION_CLOSED: Final = "RESERVATION_CLOSED"
SHIPMENT_CLOSED: Final = "SHIPMENT_CLOSED"
TEMPLATE_ERROR: Final = "TEMPLATE_ERROR"
NO_CHANNEL: Final = "NO_CHANNEL"
ORDER_CANCELLED: Final = "ORDER_CANCELLED"
ORDER_CLOSED: Final = "ORDER_CLOSED"

Quantity: TypeAlias = Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
HoldTime: TypeAlias = Annotated[float, Meta(gt=0.0, le=HOLD_S_MAX)]
"""Seconds."""
_Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]


class Address(msgspec.Struct, frozen=True):
    """Where an order goes."""

    street: _Text
    city: _Text
    state: Annotated[str, Meta(max_length=200)]
    """May be empty: most countries have none."""
    zip_code: Annotated[str, Meta(max_length=20)]
    country: _Text


class OrderLine(msgspec.Struct, frozen=True):
    """One line of an order. The same product may stand on several."""

    product_id: UUID
    quantity: Quantity
    unit_price: Money
    """One of the catalogue's prices of this product."""

    def __post_init__(self) -> None:
        to_pence(self.unit_price, "unit_price")

    @property
    def unit_price_pence(self) -> int:
        """The price of one unit in pence."""
        return to_pence(self.unit_price, "unit_price")

    @property
    def total_pence(self) -> int:
        """The price of the whole line in pence."""
        return self.quantity * self.unit_price_pence


IfShort: TypeAlias = Literal["refuse", "wait", "split"]
"""What becomes of an order that is not in stock as a whole: it is refused; it waits for the rest,
and ships whole; what is there ships, and the rest waits as an order of its own."""
Lines: TypeAlias = Annotated[tuple[OrderLine, ...], Meta(min_length=1, max_length=LINES_MAX)]


class PlaceOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a customer asks of `order_processing`.

    A field at its default is not written: journals and keys know an order by what it wrote before
    there was the field.
    """

    customer_id: UUID
    items: Lines
    shipping_address: Address
    if_short: IfShort = "refuse"

    @property
    def total_pence(self) -> int:
        """The price of the whole order, by the prices that it quotes."""
        return sum(line.total_pence for line in self.items)


class OrderConfirmation(msgspec.Struct, frozen=True):
    """The order is paid for, and its stock is the customer's."""

    order_id: UUID
    total: Money
    estimated_delivery: date
    """Seven days on."""
    total_pence: int
    """Of what is confirmed; a back-order has a total of its own, and is paid for when it ships."""
    status: Literal["confirmed"] = "confirmed"
    back_order_id: UUID | UnsetType = UNSET
    """The order of what was not there, where some was not."""
    back_ordered: tuple[StockLine, ...] | UnsetType = UNSET
    """What stands on it."""


class OrderQuery(msgspec.Struct, frozen=True):
    """Asks for one order; the reservation and the payment of an order are named alike."""

    order_id: UUID


class OrderCancelled(msgspec.Struct, frozen=True):
    """An order that its customer does not want any more: nothing of it is held, shipped or owed."""

    order_id: UUID
    refunded_pence: int
    """What was given back; 0 where it was not paid for."""
    status: Literal["cancelled"] = "cancelled"


class HistoryEntry(msgspec.Struct, frozen=True):
    """One step that an order took."""

    state: str
    """The state after it."""
    event: str
    at_us: int
    """When, microseconds since the epoch, UTC."""
    reason: str | None = None


class OrderView(msgspec.Struct, frozen=True):
    """One order as it stands."""

    order_id: UUID
    customer_id: UUID
    state: str
    total_pence: int
    items: tuple[OrderLine, ...]
    history: tuple[HistoryEntry, ...]
    reason: str | None = None
    """Why it was rejected: an error code."""
    back_order_id: UUID | None = None
    """The order of what was not there; it begins when this one is confirmed."""


class Backlog(msgspec.Struct, frozen=True):
    """What follows the orders and is not done yet."""

    to_ship: int
    """Confirmed orders without a shipment."""
    to_tell: int
    """Confirmed orders whose customers are not told yet."""
    to_send: int
    """Events of orders that are not in the log yet."""


class CheckStock(msgspec.Struct, frozen=True):
    """The sample's question to `inventory`: hold so many of one product."""

    product_id: UUID
    quantity: Quantity


class StockAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The sample's answer: held, or how many there are."""

    available: bool
    product_id: UUID
    reserved_quantity: int | UnsetType = UNSET
    remaining_stock: int | UnsetType = UNSET
    """Units that nobody holds, after this reservation."""
    reservation_id: UUID | UnsetType = UNSET
    """To commit or release it, in the place of an order's id."""
    expires_us: int | UnsetType = UNSET
    """When it is let go unless it is committed, microseconds since the epoch, UTC."""
    requested_quantity: int | UnsetType = UNSET
    available_quantity: int | UnsetType = UNSET


class StockLine(msgspec.Struct, frozen=True):
    """So many of one product."""

    product_id: UUID
    quantity: Quantity


StockLines: TypeAlias = Annotated[tuple[StockLine, ...], Meta(min_length=1, max_length=LINES_MAX)]
"""The same product may stand on several; they are summed."""


class Reserve(msgspec.Struct, frozen=True):
    """Hold the stock of an order: of all lines or of none, unless a part will do."""

    order_id: UUID
    items: StockLines
    hold_s: HoldTime | None = None
    """Seconds until it is let go; None: what the shop's settings say."""
    if_short: Literal["refuse", "part"] = "refuse"
    """Where not all of it is there: hold nothing, or what there is of it, if there is any."""


class Reservation(msgspec.Struct, frozen=True):
    """How the stock of one order stands."""

    order_id: UUID
    state: Literal["reserved", "committed", "released", "expired"]
    """Nothing is held but in the first; the others say who ended it: we, somebody, or time."""
    products: int
    """Different products that it holds, or held."""
    units: int
    """Units of them, whatever has become of these."""
    shipped_units: int = 0
    """Of these, what has left the house; what is let go does not count."""
    expires_us: int | None = None
    """When what is held is let go, microseconds since the epoch, UTC; None: nothing is held, or it
    was held before reservations had an end, and has none."""
    missing: tuple[StockLine, ...] = ()
    """What was asked for with it and was not there, by product."""


class Restock(msgspec.Struct, frozen=True):
    """New units of one product arrived."""

    product_id: UUID
    quantity: Quantity


class StockQuery(msgspec.Struct, frozen=True):
    """Asks for one product's stock, and changes nothing."""

    product_id: UUID


class StockLevel(msgspec.Struct, frozen=True):
    """One product's stock. `on_hand + reserved + shipped == opening + restocked`, always."""

    product_id: UUID
    opening: int
    on_hand: int
    """Units that nobody holds."""
    reserved: int
    shipped: int
    """Units that have left, those that came back since included."""
    restocked: int
    """Units that arrived, or came back."""


class Charge(msgspec.Struct, frozen=True):
    """Take money from a customer."""

    customer_id: UUID
    amount: Money
    currency: Literal["GBP"] = "GBP"
    order_id: UUID | None = None
    """The shop always sends it. Without one each charge stands for itself."""

    def __post_init__(self) -> None:
        to_pence(self.amount, "amount")

    @property
    def amount_pence(self) -> int:
        """The amount in pence."""
        return to_pence(self.amount, "amount")


class ChargeReceipt(msgspec.Struct, frozen=True):
    """The money was taken."""

    payment_id: UUID
    amount: Money
    transaction_id: str
    """`txn_` and 32 hexadecimal digits."""
    amount_pence: int
    success: Literal[True] = True


PARTS_MAX: Final = 1_000
"""Parts that one order may be shipped in."""
HOLD_BACK_S_MAX: Final = 30 * 86_400.0
"""Seconds that a shipment may be held back, at most."""
NUMBER_MAX: Final = 1_000
"""Messages of one type that one order may have."""

HoldBackTime: TypeAlias = Annotated[float, Meta(ge=0.0, le=HOLD_BACK_S_MAX)]
"""Seconds."""
Part: TypeAlias = Annotated[int, Meta(ge=1, le=PARTS_MAX)]
Channel: TypeAlias = Literal["email", "sms"]
MessageType: TypeAlias = Literal[
    "order_confirmation",
    "order_back_ordered",
    "order_shipped",
    "order_rejected",
    "order_cancelled",
    "order_refunded",
]
_SEVERAL: Final = frozenset({"order_shipped", "order_refunded"})


class Ship(msgspec.Struct, frozen=True):
    """Send an order on its way, or a part of it."""

    order_id: UUID
    items: Lines
    shipping_address: Address
    part: Part = 1
    """Which part of the order these items are. What was shipped with one is not shipped again."""
    hold_s: HoldBackTime = 0.0
    """Seconds that it stays in the house, to be cancelled; then it leaves by itself. What a part
    was asked for with first holds."""


class Shipment(msgspec.Struct, frozen=True):
    """The order, or a part of it, is with a carrier, or about to be."""

    shipment_id: UUID
    carrier: str | None
    """None: it was cancelled before anybody asked for it."""
    status: Literal["prepared", "shipped", "cancelled"] = "shipped"
    """`prepared`: it is held back, and leaves by itself. `cancelled`: it stays, for good."""
    part: int = 1


class Notify(msgspec.Struct, frozen=True):
    """Tell a customer something."""

    type: MessageType
    customer_id: UUID
    order_id: UUID
    template_data: dict[str, Any] = {}
    """What the text of the message may use; bounded by the size of a message."""
    number: Annotated[int, Meta(ge=1, le=NUMBER_MAX)] = 1
    """Which refund it tells of, or which part was shipped; of other types there is one."""

    def __post_init__(self) -> None:
        if self.number > 1 and self.type not in _SEVERAL:
            message = f"an order has one message of type {self.type}, and this has a number above 1"
            raise ValueError(message)


class Notified(msgspec.Struct, frozen=True):
    """The message is with a provider."""

    notification_id: UUID
    channel: Channel
