"""One instance that takes orders, without the bus: sagas on a journal in memory, and its books."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, NamedTuple

import pytest

from agent99.errors import RequestError
from agent99.saga import History
from agent99.saga._records import Cancel, Retry
from agent99.store import Transaction
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._journey import Journey
from agent99.systems.shop._model import OrderConfirmation, OrderView, PlaceOrder, StockLine
from agent99.systems.shop._order import Order, Refusal
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._states import INITIAL, TRANSITIONS, OrderEvent
from agent99.testing import SagaStage
from tests._wait import PATIENCE_S
from tests.saga._programme import Crash, Deaths, JumpClock, MortalJournal
from tests.systems.shop._shop import MUG, ORDER, PRICES, TEA, Faults, Local, Shop

PENCE = 520
"""That the order costs."""


class Books(NamedTuple):
    """What came of an order."""

    state: str
    reason: str | None
    stock: dict[str, int]
    """Of its reservation: units `held` and `gone`, those that came back not counted."""
    money: dict[str, int]
    """Of its payment: pence `held` and `taken`."""


CONFIRMED = Books("confirmed", None, {"held": 0, "gone": 3}, {"held": 0, "taken": PENCE})


def rejected(reason: str) -> Books:
    """Return the books of an order of which nothing is left but its reason."""
    return Books("rejected", reason, {"held": 0, "gone": 0}, {"held": 0, "taken": 0})


class FrontOrders(Orders):
    """Orders whose steps go wrong by `faults`: `take`, and `order:` with the name of an event."""

    def __init__(self, orders: Orders, faults: Faults) -> None:
        super().__init__(orders._store, orders._clock, orders._ids)
        self._faults = faults

    async def take(self, request: PlaceOrder, order_id: Any, saga_id: str = "") -> Order:
        """Store an order."""
        take = super().take
        return await self._faults.around("take", lambda: take(request, order_id, saga_id))

    async def move(self, order_id: Any, event: OrderEvent, refusal: Refusal | None = None) -> Order:
        """Move an order."""
        move = super().move
        return await self._faults.around(f"order:{event}", lambda: move(order_id, event, refusal))

    async def take_apart(self, order_id: Any, missing: tuple[StockLine, ...]) -> Order:
        """Take an order apart."""
        take_apart = super().take_apart
        return await self._faults.around("apart", lambda: take_apart(order_id, missing))


class Front:
    """An instance that takes orders.

    Args:
        shop: Where they end.
        stage: The journals of its sagas: those of another instance, or its own.
        deaths: Where its process dies.
    """

    def __init__(
        self, shop: Shop, stage: SagaStage | None = None, deaths: Deaths | None = None
    ) -> None:
        self.shop = shop
        self.faults = Faults(deaths)
        self.services = Local(shop.stock, shop.payments, self.faults)
        self.orders = FrontOrders(shop.orders, self.faults)
        self.journey = Journey(self.orders, PRICES, self.services)
        self.stage = stage or SagaStage(clock=JumpClock())
        if deaths is not None:
            self.stage._journal = MortalJournal(JumpClock(), deaths)

    async def place(self, order: PlaceOrder = ORDER, key: str = "k") -> OrderConfirmation:
        """Place an order, or go on with it; what goes round for ever is found out."""
        journey = partial(self.journey.place, order)
        async with asyncio.timeout(PATIENCE_S):
            return await self.stage.play(journey, OrderConfirmation, key=key)

    async def refused(self, order: PlaceOrder = ORDER, key: str = "k") -> RequestError:
        """Place an order that is refused, or gets stuck, and return how."""
        with pytest.raises(RequestError) as caught:
            await self.place(order, key)
        return caught.value

    async def ending(self, order: PlaceOrder = ORDER, key: str = "k") -> str:
        """Place an order, and return how that ended: its status, or the code of an error."""
        try:
            return (await self.place(order, key)).status
        except RequestError as error:
            return error.code

    async def ending_of_mortals(self, key: str) -> tuple[str, int]:
        """Place an order in as many processes as die of it; return its end, and how many."""
        processes = 0
        while True:
            processes += 1
            self.faults.deaths.is_dead = False
            try:
                return await self.ending(key=key), processes
            except Crash:
                continue

    # --- what is looked at afterwards -------------------------------------------------------------

    async def books(self, key: str = "k") -> Books:
        """Return what came of an order, after a look at whether the shop's books add up."""
        await self.shop.store.read(_add_up)
        view = await self.shop.orders.view(order_uuid(key))
        _check_history(view)
        stock, money = await self.shop.store.read(partial(_of, order=str(view.order_id)))
        return Books(view.state, view.reason, stock, money)

    async def events(self, key: str = "k") -> list[str]:
        """Return what happened to an order."""
        return [entry.event for entry in (await self.shop.orders.view(order_uuid(key))).history]

    async def levels(self) -> tuple[tuple[int, int, int], ...]:
        """Return the stock of tea and of mugs: on hand, reserved, and gone for good."""
        levels = [await self.shop.stock.level(product) for product in (TEA, MUG)]
        return tuple(
            (each.on_hand, each.reserved, each.shipped - each.restocked) for each in levels
        )

    async def cash(self) -> int:
        """Return all the money that there is."""
        sql = "SELECT coalesce(sum(pence), 0) FROM ledger WHERE account = 'cash'"
        return int(await self.shop.store.read(lambda tx: tx.execute(sql).scalar()) or 0)

    async def saga(self, key: str = "k") -> History:
        """Return what the journal says of an order's saga."""
        return await self.stage.history(key)

    async def say(self, record: type[Cancel | Retry], key: str = "k") -> None:
        """Write what an operator wants into the journal of an order's saga."""
        log = self.stage._log_of(key, (await self.saga(key)).owner)
        await log.read()
        await log.write(record(at_us=0))


def _of(tx: Transaction, *, order: str) -> tuple[dict[str, int], dict[str, int]]:
    values = {"order_id": order}
    lines = tx.execute(
        "SELECT r.state, l.quantity, l.shipped, l.returned FROM reservations AS r"
        " JOIN reservation_lines AS l USING (order_id) WHERE order_id = :order_id",
        values,
    ).all()
    held = sum(line.quantity - line.shipped for line in lines if line.state == "reserved")
    gone = sum(line.shipped - line.returned for line in lines)
    paid = tx.execute("SELECT * FROM payments WHERE order_id = :order_id", values).all()
    assert len(paid) <= 1, "an order has one payment"
    pence = sum(each.amount_pence for each in paid if each.state == "authorised")
    taken = sum(each.captured_pence - each.refunded_pence for each in paid)
    return {"held": held, "gone": gone}, {"held": pence, "taken": taken}


def _add_up(tx: Transaction) -> None:
    for row in tx.execute("SELECT * FROM stock"):
        assert row.on_hand + row.reserved + row.shipped == row.opening + row.restocked
        assert min(row.on_hand, row.reserved, row.shipped) >= 0
    sums = tx.execute(
        "SELECT (SELECT coalesce(sum(captured_pence - refunded_pence), 0) FROM payments),"
        " (SELECT coalesce(sum(pence), 0) FROM ledger WHERE account = 'cash'),"
        " (SELECT coalesce(sum(pence), 0) FROM ledger)"
    ).one()
    assert sums[0] == sums[1], "what was taken is in the ledger"
    assert 0 == sums[2], "the ledger sums to 0"


def _check_history(view: OrderView) -> None:
    state = INITIAL
    assert ("receive", INITIAL) == (view.history[0].event, view.history[0].state)
    for entry in view.history[1:]:
        if entry.event in ("refund", "ship", "notify"):  # no step: it stays where it is
            assert state == entry.state
            continue
        state = TRANSITIONS[state, OrderEvent(entry.event)]
        assert state == entry.state
    assert state == view.state
