"""What became of an order, as its events tell it: a fold that takes them in any order. Pure.

Every part of a record has a name of its own: a step its number, a shipment its part, a message and
a refund their ids. Folding an event puts its part beside the others, or, where one of that name is
there, keeps the later of the two. So an event that comes twice changes nothing, and the order in
which events come makes no difference: the same events are the same record, to the byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec

from agent99.systems.shop._events import (
    CustomerTold,
    OrderMoved,
    OrderRefunded,
    OrderShipped,
    ShipmentCancelled,
    ShipmentPrepared,
    Told,
)
from agent99.systems.shop._model import Channel

PartT = TypeVar("PartT", bound=msgspec.Struct)
NameT = TypeVar("NameT", int, str)
ValueT = TypeVar("ValueT", int, UUID)


class StepSeen(msgspec.Struct, frozen=True):
    """One step that the order took."""

    step: int
    event: str
    state: str
    """The state after it."""
    at_us: int
    """When, microseconds since the epoch, UTC; so are all times here."""
    reason: str | None = None
    """Why it was rejected: an error code."""


class ShipmentSeen(msgspec.Struct, frozen=True):
    """A part of the order, as it stands with fulfilment."""

    part: int
    shipment_id: UUID
    state: Literal["prepared", "shipped", "cancelled"]
    at_us: int
    carrier: str | None = None


class MessageSeen(msgspec.Struct, frozen=True):
    """A message that the customer was sent."""

    notification_id: UUID
    type: str
    number: int
    channel: Channel
    at_us: int


class RefundSeen(msgspec.Struct, frozen=True):
    """Money that was given back."""

    refund_id: UUID
    step: int
    amount_pence: int
    at_us: int


class OrderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One order, as far as its events were seen; what none of them told yet is None or empty."""

    order_id: UUID
    customer_id: UUID | None = None
    state: str | None = None
    """That of the last step seen."""
    reason: str | None = None
    """Why it was rejected: an error code."""
    total_pence: int | None = None
    refunded_pence: int = 0
    received_us: int | None = None
    """When it was taken."""
    changed_us: int | None = None
    """When the last thing happened to it."""
    steps: tuple[StepSeen, ...] = ()
    """In their order."""
    shipments: tuple[ShipmentSeen, ...] = ()
    """By part."""
    messages: tuple[MessageSeen, ...] = ()
    """By id."""
    refunds: tuple[RefundSeen, ...] = ()
    """By id."""


class EventSeen(msgspec.Struct, frozen=True):
    """One event of an order, as the log has it."""

    sequence: int
    """Its place in the log."""
    id: str
    """The same for all copies of one event."""
    topic: str
    stored_us: int
    """When the server stored it."""
    content: dict[str, Any]


class OrderAudit(msgspec.Struct, frozen=True):
    """Every event of one order that the log keeps, in the log's order; repeated ones too."""

    order_id: UUID
    events: tuple[EventSeen, ...]


class HistoryDigest(msgspec.Struct, frozen=True):
    """What a read model comes to."""

    orders: int
    by_state: dict[str, int]
    """Orders by the state of their last step."""
    hash: str
    """Of every record: equal models have equal ones."""


class Rebuild(msgspec.Struct, frozen=True):
    """Asks for the read model to be made anew from the log."""

    patience_s: Annotated[float, msgspec.Meta(ge=0.0, le=300.0)] = 2.0
    """Seconds that the live model has to catch up with the log, before both are compared."""


class Rebuilt(msgspec.Struct, frozen=True):
    """A read model was made anew from the first event of the log, and took the old one's place."""

    before: HistoryDigest
    """The model that was kept by following."""
    after: HistoryDigest
    """The one that was made anew."""
    events: int
    """Read from the log."""
    identical: bool
    """Whether both have the same hash."""


def fold(record: OrderRecord, told: Told) -> OrderRecord:
    """Return a record with one more event of its order in it; the same if it was in it before."""
    replace = msgspec.structs.replace
    match told:
        case OrderMoved():
            step = StepSeen(told.step, told.event, told.state, told.at_us, told.reason)
            record = replace(
                record,
                customer_id=_greater(record.customer_id, told.customer_id),
                total_pence=_lesser(record.total_pence, told.total_pence),
                steps=_joined(record.steps, step, lambda each: each.step),
            )
        case OrderRefunded():
            refund = RefundSeen(told.refund_id, told.step, told.amount_pence, told.at_us)
            refunds = _joined(record.refunds, refund, lambda each: str(each.refund_id))
            record = replace(record, refunds=refunds)
        case CustomerTold():
            message = MessageSeen(
                told.notification_id, told.type, told.number, told.channel, told.at_us
            )
            messages = _joined(record.messages, message, lambda each: str(each.notification_id))
            record = replace(record, messages=messages)
        case ShipmentPrepared() | OrderShipped() | ShipmentCancelled():
            shipments = _joined(record.shipments, _shipment(told), lambda each: each.part, _rank)
            record = replace(record, shipments=shipments)
    return _summed_up(record)


def fold_all(order_id: UUID, told: Iterable[Told]) -> OrderRecord:
    """Return the record of an order from events of it, in any order."""
    record = OrderRecord(order_id=order_id)
    for each in told:
        record = fold(record, each)
    return record


def canonical(record: OrderRecord) -> str:
    """Return the one text of a record: equal records have equal texts."""
    return msgspec.json.encode(record).decode()


class Digest:
    """The hash of a read model: SHA-256 over the records' texts, a line each, by order id."""

    def __init__(self) -> None:
        self._hash = sha256()
        self._last = ""

    def __repr__(self) -> str:
        return f"Digest({self.text!r})"

    def add(self, order_id: str, text: str) -> None:
        """Add a record; they come by their ids, the smallest first.

        Raises:
            ValueError: this one does not.
        """
        if order_id <= self._last:
            message = f"{order_id} comes after {self._last}"
            raise ValueError(message)
        self._last = order_id
        self._hash.update(text.encode() + b"\n")

    @property
    def text(self) -> str:
        """The hash so far, in hexadecimal."""
        return self._hash.hexdigest()


def digest_of(records: Iterable[OrderRecord]) -> str:
    """Return the hash of some records, in whatever order they are given; each order once."""
    digest = Digest()
    for record in sorted(records, key=lambda each: str(each.order_id)):
        digest.add(str(record.order_id), canonical(record))
    return digest.text


# --- inside ---------------------------------------------------------------------------------------


def _joined(
    parts: tuple[PartT, ...],
    part: PartT,
    name: Callable[[PartT], NameT],
    rank: Callable[[PartT], int] = lambda _: 0,
) -> tuple[PartT, ...]:
    """Return the parts with one more among them, by name; of two with one name the greater.

    Two of one rank that differ come of a shop whose database was made anew: whichever is greater,
    it is the same one in whatever order they come.
    """
    known = {name(each): each for each in parts}
    rival = known.get(name(part), part)
    known[name(part)] = max(rival, part, key=lambda each: (rank(each), msgspec.json.encode(each)))
    return tuple(known[each] for each in sorted(known))


def _greater(known: ValueT | None, value: ValueT) -> ValueT:
    """Return what all events of an order say alike, or the greater of two that differ."""
    return value if known is None else max(known, value)


def _lesser(known: int | None, value: int) -> int:
    """Return the latest total: an order that is taken apart becomes smaller, and never larger."""
    return value if known is None else min(known, value)


def _shipment(told: ShipmentPrepared | OrderShipped | ShipmentCancelled) -> ShipmentSeen:
    match told:
        case ShipmentPrepared():
            return ShipmentSeen(told.part, told.shipment_id, "prepared", told.at_us, told.carrier)
        case OrderShipped():
            return ShipmentSeen(told.part, told.shipment_id, "shipped", told.at_us, told.carrier)
        case ShipmentCancelled():
            return ShipmentSeen(told.part, told.shipment_id, "cancelled", told.at_us)


def _rank(shipment: ShipmentSeen) -> int:
    """Return what of one part counts: what it was first, or what it came to."""
    return 0 if shipment.state == "prepared" else 1


def _summed_up(record: OrderRecord) -> OrderRecord:
    """Return a record whose sums follow from its parts."""
    steps = record.steps
    times = [
        each.at_us
        for parts in (steps, record.shipments, record.messages, record.refunds)
        for each in parts
    ]
    first, last = (steps[0], steps[-1]) if steps else (None, None)
    return msgspec.structs.replace(
        record,
        state=None if last is None else last.state,
        reason=None if last is None else last.reason,
        refunded_pence=sum(each.amount_pence for each in record.refunds),
        received_us=first.at_us if first is not None and first.step == 0 else None,
        changed_us=max(times, default=None),
    )
