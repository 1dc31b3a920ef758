"""The shipments of the shop, in SQL: one for each part of an order, and an event with each step.

A shipment is shipped at once, or held back for a while and then shipped, or cancelled. Any number
of processes may share one database.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple
from uuid import UUID

from agent99.clock import Clock
from agent99.errors import Failure, IdempotencyConflictError
from agent99.store import Store, Transaction
from agent99.systems.shop._aftercare import (
    BECOMES,
    ShipmentState,
    ship,
    ship_fingerprint,
    shipment_uuid,
)
from agent99.systems.shop._delivery import OrderShipments, ShipmentView
from agent99.systems.shop._events import (
    PREPARED,
    SHIPMENT_CANCELLED,
    SHIPPED,
    OrderShipped,
    ShipmentCancelled,
    ShipmentPrepared,
)
from agent99.systems.shop._model import SHIPMENT_CLOSED, Ship, Shipment, StockLine

DEPARTURES_MAX: Final = 100
"""Shipments whose time has come that leave in one transaction."""

_ADD = (
    "INSERT INTO shipments (shipment_id, order_id, part, carrier, state, fingerprint, leaves_us,"
    " traceparent, at_us) VALUES (:shipment_id, :order_id, :part, :carrier, :state, :fingerprint,"
    " :leaves_us, :traceparent, :at_us) ON CONFLICT DO NOTHING"
)
_ADD_ITEM = (
    "INSERT INTO shipment_items (shipment_id, line, product_id, quantity)"
    " VALUES (:shipment_id, :line, :product_id, :quantity)"
)
_FIND = "SELECT * FROM shipments WHERE shipment_id = :shipment_id"
_OF_ORDER = "SELECT * FROM shipments WHERE order_id = :order_id ORDER BY part"
_ITEMS = (
    "SELECT product_id, quantity FROM shipment_items WHERE shipment_id = :shipment_id ORDER BY line"
)
_BECOME = "UPDATE shipments SET state = :state, at_us = :at_us WHERE shipment_id = :shipment_id"
_NEXT = "SELECT min(leaves_us) FROM shipments WHERE state = 'prepared'"
_DUE = (
    "SELECT shipment_id FROM shipments WHERE state = 'prepared' AND leaves_us <= :now_us"
    " ORDER BY leaves_us LIMIT :rows"
)


class Shipments:
    """Which part of which order went with which carrier, or will, or will not.

    Invariant: a part of an order has at most one shipment, which is shipped at most once and has
    one event for each state that somebody could see it in.

    Args:
        store: Where they are.
        clock: The source of time; a shipment leaves by its wall clock.
        traceparent: Returns the trace that an event belongs to, or nothing.
    """

    def __init__(self, store: Store, clock: Clock, traceparent: Callable[[], str]) -> None:
        self._store = store
        self._clock = clock
        self._traceparent = traceparent

    def __repr__(self) -> str:
        return f"Shipments({self._store!r})"

    async def ship(self, request: Ship) -> Shipment:
        """Send a part on its way, or hold it back; the same part again is the same shipment.

        Raises:
            IdempotencyConflictError: the part came before with other lines or another address.
            StoreError: and its kinds.
        """
        return await self._store.transaction(partial(_ship, request=request, at=self._at()))

    async def cancel(self, order_id: UUID, part: int) -> ShipmentView:
        """Let a part stay in the house; the same again gets the same answer.

        A part that nobody asked for is noted as cancelled, so that a request to ship it that is
        still on its way takes no effect.

        Raises:
            Failure: `SHIPMENT_CLOSED` (`order_id`, `part`, `status`): it is with its carrier.
            StoreError: and its kinds.
        """
        work = partial(_cancel, order_id=order_id, part=part, at=self._at())
        return await self._store.transaction(work)

    async def of_order(self, order_id: UUID) -> OrderShipments:
        """Return the shipments of an order; none where nothing was asked for.

        Raises:
            StoreError: and its kinds.
        """
        return await self._store.read(partial(_of_order, order_id=order_id))

    async def depart(self) -> int | None:
        """Send on their way those that were held back long enough, each once.

        Returns:
            When the next one leaves, microseconds since the epoch; None: none is held back.

        Raises:
            StoreError: and its kinds.
        """
        now_us = self._clock.wall_us()
        next_us = await self._store.read(_next_us)
        if next_us is None or next_us > now_us:
            return next_us
        return await self._store.transaction(partial(_depart, now_us=now_us))

    def _at(self) -> _Moment:
        return _Moment(self._clock.wall_us(), self._traceparent())


class _Moment(NamedTuple):
    """When something happens, and what it is part of."""

    now_us: int
    traceparent: str


def _ship(tx: Transaction, *, request: Ship, at: _Moment) -> Shipment:
    shipment, said = ship(request), ship_fingerprint(request)
    is_held = shipment.status == "prepared"
    leaves_us = at.now_us + round(request.hold_s * 1_000_000) if is_held else None
    row = {
        "shipment_id": str(shipment.shipment_id),
        "order_id": str(request.order_id),
        "part": request.part,
        "carrier": shipment.carrier,
        "state": shipment.status,
        "fingerprint": said,
        "leaves_us": leaves_us,
        "traceparent": at.traceparent,
        "at_us": at.now_us,
    }
    if not tx.execute(_ADD, row).changed:
        return _shipped_before(tx, request, said)
    items = [
        {
            "shipment_id": row["shipment_id"],
            "line": index,
            "product_id": str(line.product_id),
            "quantity": line.quantity,
        }
        for index, line in enumerate(request.items)
    ]
    tx.execute(_ADD_ITEM, items)
    _tell(tx, tx.execute(_FIND, row).one(), shipment.status, at)
    return shipment


def _shipped_before(tx: Transaction, request: Ship, said: str) -> Shipment:
    shipment_id = shipment_uuid(request.order_id, request.part)
    row = tx.execute(_FIND, {"shipment_id": str(shipment_id)}).one()
    if row.fingerprint not in (None, said):  # None: shipped before anybody kept it
        raise IdempotencyConflictError(f"{request.order_id}:{request.part}")
    return Shipment(shipment_id, row.carrier, row.state, request.part)


def _cancel(tx: Transaction, *, order_id: UUID, part: int, at: _Moment) -> ShipmentView:
    name = str(shipment_uuid(order_id, part))
    unknown = {
        "shipment_id": name,
        "order_id": str(order_id),
        "part": part,
        "carrier": None,
        "state": "cancelled",
        "fingerprint": None,
        "leaves_us": None,
        "traceparent": at.traceparent,
        "at_us": at.now_us,
    }
    is_new = tx.execute(_ADD, unknown).changed
    row = tx.lock("shipments", (name,), key="shipment_id")[name]
    if is_new:
        _tell(tx, row, "cancelled", at)
    elif row.state != "cancelled":
        _become(tx, row, "cancelled", at)
    return _view(tx, tx.execute(_FIND, {"shipment_id": name}).one())


def _depart(tx: Transaction, *, now_us: int) -> int | None:
    due = tx.execute(_DUE, {"now_us": now_us, "rows": DEPARTURES_MAX}).scalars()
    for row in tx.lock("shipments", due, key="shipment_id").values():
        if row.state == "prepared":  # else another process was faster, or it was cancelled
            _become(tx, row, "shipped", _Moment(now_us, row.traceparent))
    return _next_us(tx)


def _next_us(tx: Transaction) -> int | None:
    next_us: int | None = tx.execute(_NEXT).scalar()
    return next_us


def _become(tx: Transaction, row: Any, state: ShipmentState, at: _Moment) -> None:
    """Let a shipment whose row is locked take a step, and tell of it.

    Raises:
        Failure: `SHIPMENT_CLOSED`.
    """
    before: ShipmentState = row.state
    if state not in BECOMES[before]:
        raise _closed(row)
    values = {"shipment_id": row.shipment_id, "state": state, "at_us": at.now_us}
    tx.execute(_BECOME, values)
    _tell(tx, row, state, at)


def _tell(tx: Transaction, row: Any, state: ShipmentState, at: _Moment) -> None:
    order_id, shipment_id, now_us = UUID(row.order_id), UUID(row.shipment_id), at.now_us
    topic: str
    event: ShipmentPrepared | OrderShipped | ShipmentCancelled
    if state == "prepared":
        topic = PREPARED
        event = ShipmentPrepared(
            order_id, shipment_id, row.carrier, now_us, row.leaves_us, row.part
        )
    elif state == "shipped":
        topic = SHIPPED
        event = OrderShipped(order_id, shipment_id, row.carrier, now_us, row.part)
    else:
        topic = SHIPMENT_CANCELLED
        event = ShipmentCancelled(order_id, shipment_id, now_us, row.part)
    tx.append(topic, event, key=row.order_id, traceparent=at.traceparent)


def _of_order(tx: Transaction, *, order_id: UUID) -> OrderShipments:
    rows = tx.execute(_OF_ORDER, {"order_id": str(order_id)})
    return OrderShipments(order_id, tuple(_view(tx, row) for row in rows))


def _view(tx: Transaction, row: Any) -> ShipmentView:
    items = tx.execute(_ITEMS, {"shipment_id": row.shipment_id})
    return ShipmentView(
        order_id=UUID(row.order_id),
        part=row.part,
        shipment_id=UUID(row.shipment_id),
        status=row.state,
        carrier=row.carrier,
        items=tuple(StockLine(UUID(each.product_id), each.quantity) for each in items),
        leaves_us=row.leaves_us,
        at_us=row.at_us,
    )


def _closed(row: Any) -> Failure:
    return Failure(
        f"part {row.part} of order {row.order_id} is {row.state} for good",
        code=SHIPMENT_CLOSED,
        details={"order_id": row.order_id, "part": row.part, "status": row.state},
    )
