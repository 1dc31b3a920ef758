"""A naive stock: a list of single units, each of which is somewhere. For comparison alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from agent99.systems.shop._model import Reserve, StockLine
from agent99.systems.shop._stock_model import Commit, TakeBack


@dataclass
class Unit:
    """One unit of a product."""

    product: UUID
    place: str = "shelf"
    """`shelf`, `held`, `gone`, or `came back`: it is gone, and another unit stands on the shelf."""
    order: UUID | None = None


@dataclass
class Held:
    """What is known of one order."""

    state: str
    wanted: Counter[UUID]
    expires_s: float


@dataclass
class NaiveStock:
    """Does what the stock should do, one unit at a time. Operations return a state or a code."""

    opening: int
    products: tuple[UUID, ...]
    now_s: float = 0.0
    units: list[Unit] = field(default_factory=list)
    orders: dict[UUID, Held] = field(default_factory=dict)
    moves: dict[Any, tuple[Any, str]] = field(default_factory=dict)
    restocked: Counter[UUID] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for product in self.products:
            self.units += [Unit(product) for _ in range(self.opening)]

    def reserve(self, request: Reserve) -> str:
        """Hold all or none."""
        wanted, held = _counted(request.items), self.orders.get(request.order_id)
        if held is not None:
            if held.state in ("released", "expired"):
                return "RESERVATION_CLOSED"
            return "reserved" if wanted == held.wanted else "IDEMPOTENCY_CONFLICT"
        there = Counter(
            {
                product: min(units, len(self._at("shelf", None, product)))
                for product, units in wanted.items()
            }
        )
        if request.if_short == "part" and there.total():
            self._move(there, "shelf", None, "held", request.order_id)
            end_s = self.now_s + (request.hold_s or 0.0)
            self.orders[request.order_id] = Held("reserved", wanted, end_s)
            return "reserved"
        if any(units > len(self._at("shelf", None, product)) for product, units in wanted.items()):
            return "INVENTORY_ERROR"
        self._move(wanted, "shelf", None, "held", request.order_id)
        end_s = self.now_s + (request.hold_s or 0.0)
        self.orders[request.order_id] = Held("reserved", wanted, end_s)
        return "reserved"

    def commit(self, order: UUID) -> str:
        """Ship all that is held."""
        held = self.orders.get(order)
        if held is None:
            return "RESERVATION_NOT_FOUND"
        if held.state in ("released", "expired"):
            return "RESERVATION_CLOSED"
        self._move(self._held(order), "held", order, "gone", order)
        held.state = "committed"
        return held.state

    def release(self, order: UUID) -> str:
        """Let go of all that is held."""
        held = self.orders.setdefault(order, Held("released", Counter(), 0.0))
        if held.state == "committed":
            return "RESERVATION_CLOSED"
        self._move(self._held(order), "held", order, "shelf", None)
        held.state = "expired" if held.state == "expired" else "released"
        return held.state

    def commit_part(self, request: Commit) -> str:
        """Ship some of it."""
        order, wanted = request.order_id, _counted(request.items or ())
        held = self.orders.get(order)
        if held is None:
            return "RESERVATION_NOT_FOUND"
        name, content = ("part", request.part or order), (order, wanted, request.rest)
        if name in self.moves:
            return self._moved_before(name, content)
        if held.state != "reserved":
            return "RESERVATION_CLOSED"
        if wanted - self._held(order):
            return "RESERVATION_TOO_SMALL"
        self._move(wanted, "held", order, "gone", order)
        if request.rest == "release":
            self._move(self._held(order), "held", order, "shelf", None)
        held.state = "reserved" if self._held(order) else "committed"
        self.moves[name] = (content, held.state)
        return held.state

    def take_back(self, request: TakeBack) -> str:
        """Bring some of what left."""
        order, wanted = request.order_id, _counted(request.items)
        if order not in self.orders:
            return "RESERVATION_NOT_FOUND"
        name, content = ("return", request.return_id), (order, wanted)
        if name in self.moves:
            return self._moved_before(name, content)
        for product, units in wanted.items():
            if units > len(self._at("gone", order, product)):
                return "RETURN_TOO_LARGE"
        self._move(wanted, "gone", order, "came back", order)
        self.units += [Unit(product) for product in wanted.elements()]
        self.restocked.update(wanted)
        self.moves[name] = (content, "back")
        return "back"

    def expire(self) -> int:
        """Let go of what is held for too long."""
        count = 0
        for order, held in self.orders.items():
            if held.state == "reserved" and held.expires_s <= self.now_s:
                self._move(self._held(order), "held", order, "shelf", None)
                held.state = "expired"
                count += 1
        return count

    def levels(self) -> dict[UUID, tuple[int, int, int, int]]:
        """Return the stock of every product: on hand, reserved, shipped, restocked."""
        places = Counter((unit.product, unit.place) for unit in self.units)
        return {
            product: (
                places[product, "shelf"],
                places[product, "held"],
                places[product, "gone"] + places[product, "came back"],
                self.restocked[product],
            )
            for product in self.products
        }

    def _at(self, place: str, order: UUID | None, product: UUID) -> list[Unit]:
        where = (product, place, order)
        return [unit for unit in self.units if (unit.product, unit.place, unit.order) == where]

    def _held(self, order: UUID) -> Counter[UUID]:
        return Counter(
            unit.product for unit in self.units if (unit.place, unit.order) == ("held", order)
        )

    def _move(
        self, units: Counter[UUID], place: str, order: UUID | None, to: str, to_order: UUID | None
    ) -> None:
        for product, count in units.items():
            for unit in self._at(place, order, product)[:count]:
                unit.place, unit.order = to, to_order

    def _moved_before(self, name: Any, content: Any) -> str:
        before, answer = self.moves[name]
        return answer if before == content else "IDEMPOTENCY_CONFLICT"


def _counted(lines: tuple[StockLine, ...]) -> Counter[UUID]:
    counted: Counter[UUID] = Counter()
    for line in lines:
        counted[line.product_id] += line.quantity
    return counted
