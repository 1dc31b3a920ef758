"""Orders that are not in stock as a whole: what there is ships, the rest waits; or all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import msgspec
import pytest
from msgspec import UNSET

from agent99.clock import SystemClock
from agent99.errors import (
    DeadlineExceededError,
    Failure,
    HandlerError,
    IdempotencyConflictError,
    OverloadedError,
    RemoteError,
)
from agent99.systems.shop import _journey
from agent99.systems.shop._cancelling import Cancelling
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._errors import IllegalTransitionError
from agent99.systems.shop._giving_back import GivingBack
from agent99.systems.shop._handover import hand_over
from agent99.systems.shop._identity import order_uuid, rest_key
from agent99.systems.shop._model import (
    OrderCancelled,
    OrderConfirmation,
    OrderLine,
    PlaceOrder,
    Reservation,
    Reserve,
    Restock,
    StockLine,
)
from agent99.systems.shop._order import CANCELS_REST, Order, take_apart
from agent99.systems.shop._returns import Returns
from agent99.systems.shop._states import OrderEvent
from agent99.testing import SagaStage
from tests._wait import PATIENCE_S, eventually
from tests.saga._programme import Crash, Deaths, JumpClock
from tests.systems.shop._front import PENCE, Books, Front, rejected
from tests.systems.shop._shop import (
    MUG,
    ORDER,
    TEA,
    AtOnce,
    Faults,
    Local,
    OpenShop,
    Others,
    Shop,
    an_id,
    order_of,
)
from tests.systems.shop._stand import Stand, a_stand

SPLIT = order_of((TEA, 2, "1.10"), (MUG, 1, "3.00"), if_short="split")
WAIT = order_of((TEA, 2, "1.10"), (MUG, 1, "3.00"), if_short="wait")
FIRST, REST = 410, 110
"""Pence of a tea and a mug, and of the tea that is missing."""
_KEY = rest_key(order_uuid("k"))
_NOTHING = {"held": 0, "gone": 0}
_NO_MONEY = {"held": 0, "taken": 0}


def _confirmed(units: int, pence: int) -> Books:
    return Books("confirmed", None, {"held": 0, "gone": units}, {"held": 0, "taken": pence})


def _cancelled() -> Books:
    return Books("cancelled", "ORDER_CANCELLED", _NOTHING, _NO_MONEY)


class Desk:
    """An instance with little stock, what follows its orders, and where they are cancelled."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.shop = front.shop
        self.after = AtOnce(front.shop)
        self.faults = Faults()
        """And calls, of whoever cancels."""

    async def follow(self, key: str = "k") -> None:
        """Do what follows a confirmed order; of its back-order, that it is taken."""
        await hand_over(self.shop.orders, self.after, order_uuid(key), hold_s=60.0)

    async def begin(self, order: PlaceOrder, key: str = "k") -> asyncio.Task[OrderConfirmation]:
        """Begin an order, and let it find twice that its stock is not there."""
        calls = self.front.faults.calls
        before = calls["reserve"]
        placing = asyncio.ensure_future(self.front.place(order, key))
        await eventually(lambda: calls["reserve"] >= before + 2)
        return placing

    async def begin_rest(self) -> asyncio.Task[OrderConfirmation]:
        """Begin the back-order."""
        return await self.begin(self.after.rests[_KEY], _KEY)

    async def deliver(self, product: UUID = TEA, units: int = 1) -> None:
        """Put units on the shelf."""
        await self.shop.stock.restock(Restock(product, units))

    async def cancel(self, key: str = "k") -> OrderCancelled:
        """Cancel an order, as often as anybody likes, and its back-order with it."""
        others, store = Others(self.shop, self.faults), self.shop.orders._store
        returns = Returns(store, SystemClock())
        giving_back = GivingBack(returns, others)
        cancelling = Cancelling(self.shop.orders, returns, giving_back, others)
        others.cancels = partial(_cancel, cancelling)
        return await _cancel(cancelling, order_uuid(key))


async def _cancel(cancelling: Cancelling, order_id: UUID) -> OrderCancelled:
    stage = SagaStage(clock=JumpClock())
    cancel = partial(cancelling.cancel, order_id)
    return await stage.play(cancel, OrderCancelled, key="c", version=CANCELS_REST)


async def _desk(open_shop: OpenShop, tea: int = 1, mugs: int = 1) -> Desk:
    front = Front(await open_shop())
    await front.shop.stock.fill({TEA: tea, MUG: mugs})
    return Desk(front)


async def _both_paid(open_shop: OpenShop) -> Desk:
    """Give an order and its back-order, both confirmed, the first one still in the house."""
    desk = await _desk(open_shop)
    await desk.front.place(SPLIT)
    await desk.follow()
    rest = await desk.begin_rest()
    await desk.deliver()
    await rest
    return desk


async def test_what_there_is_ships_and_the_rest_follows(open_shop: OpenShop) -> None:
    """Two orders, two payments, each for its own lines; together what was asked for (E9)."""
    desk = await _desk(open_shop)
    answer = await desk.front.place(SPLIT)
    assert (FIRST, order_uuid(_KEY)) == (answer.total_pence, answer.back_order_id)
    assert (StockLine(TEA, 1),) == answer.back_ordered
    assert _confirmed(2, FIRST) == await desk.front.books()
    await desk.follow()
    asked = order_of((TEA, 1, "1.10"), if_short="wait")
    assert {_KEY: asked} == desk.after.rests
    rest = await desk.begin_rest()
    assert Books("back_ordered", None, _NOTHING, _NO_MONEY) == await desk.front.books(_KEY)
    await desk.deliver()
    assert REST == (await rest).total_pence
    assert _confirmed(1, REST) == await desk.front.books(_KEY)
    assert PENCE == await desk.front.cash()
    events = await desk.front.events(_KEY)
    assert ["receive", "await_stock", "reserve", "authorise", "pay", "confirm"] == events


async def test_asked_again_it_gets_the_same_answer(open_shop: OpenShop) -> None:
    """By the journal, and from the database when that is gone; nothing is taken apart twice."""
    desk = await _desk(open_shop)
    first = await desk.front.place(SPLIT)
    await desk.deliver(units=5)
    assert first == await desk.front.place(SPLIT)
    assert first == await Front(desk.shop).place(SPLIT)
    assert _confirmed(2, FIRST) == await desk.front.books()
    view = await desk.shop.orders.view(order_uuid("k"))
    assert (FIRST, first.back_order_id) == (view.total_pence, view.back_order_id)
    assert [(TEA, 1), (MUG, 1)] == [(each.product_id, each.quantity) for each in view.items]


async def test_the_same_key_with_another_wish_is_another_order(open_shop: OpenShop) -> None:
    """What is to become of what is missing is a part of what was asked for."""
    desk = await _desk(open_shop)
    await desk.front.place(SPLIT)
    assert "IDEMPOTENCY_CONFLICT" == (await Front(desk.shop).refused(WAIT)).code


async def test_all_in_stock_there_is_no_back_order(open_shop: OpenShop) -> None:
    """Whoever would wait need not; the answer is that of any order."""
    desk = await _desk(open_shop, tea=9, mugs=9)
    for number, order in enumerate((SPLIT, WAIT)):
        answer = await desk.front.place(order, str(number))
        plain = await desk.front.place(ORDER, f"plain {number}")
        assert (plain.total, plain.back_order_id) == (answer.total, answer.back_order_id)
        assert plain.back_ordered == answer.back_ordered
        await desk.follow(str(number))
    assert {} == desk.after.rests


async def test_who_wants_all_waits_for_all(open_shop: OpenShop) -> None:
    """Nothing is held until all of it is there; others may have it meanwhile."""
    desk = await _desk(open_shop)
    waiting = await desk.begin(WAIT)
    assert ((1, 0, 0), (1, 0, 0)) == await desk.front.levels()
    await desk.deliver()
    assert PENCE == (await waiting).total_pence
    assert _confirmed(3, PENCE) == await desk.front.books()


async def test_of_which_nothing_is_there_waits_as_a_whole(open_shop: OpenShop) -> None:
    """An order of nothing cannot be taken off."""
    desk = await _desk(open_shop, tea=0, mugs=0)
    waiting = await desk.begin(SPLIT)
    await desk.deliver()
    await desk.deliver(MUG)
    await desk.deliver()
    answer = await waiting
    assert PENCE == answer.total_pence
    assert _confirmed(3, PENCE) == await desk.front.books()


async def test_it_does_not_wait_for_ever(
    open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its time is up it is rejected, for good, and nothing of it is held."""
    monkeypatch.setattr(_journey, "BACK_ORDER_S", 60.0)
    desk = await _desk(open_shop)
    refusal = await desk.front.refused(WAIT)
    assert ("INVENTORY_ERROR", False) == (refusal.code, refusal.retryable)
    assert rejected("INVENTORY_ERROR") == await desk.front.books()
    assert ["receive", "await_stock", "refuse"] == await desk.front.events()
    await desk.deliver()
    assert "INVENTORY_ERROR" == (await Front(desk.shop).refused(WAIT)).code


async def test_a_declined_order_has_no_back_order(open_shop: OpenShop) -> None:
    """What was held goes back, and the rest never begins."""
    desk = await _desk(open_shop)
    desk.front.faults.planned["authorise"] = Failure("no", code="PAYMENT_DECLINED")
    assert "PAYMENT_ERROR" == (await desk.front.refused(SPLIT)).code
    assert rejected("PAYMENT_ERROR") == await desk.front.books()
    assert ((1, 0, 0), (1, 0, 0)) == await desk.front.levels()


async def test_what_was_committed_comes_back_as_it_was_held(open_shop: OpenShop) -> None:
    """Undone after the commit, an order taken apart brings back what there was, and no more."""
    desk = await _desk(open_shop)
    desk.front.faults.planned["commit:late"] = RuntimeError("broken")
    assert "HANDLER_ERROR" == (await desk.front.refused(SPLIT)).code
    assert _NOTHING == (await desk.front.books()).stock
    assert ((1, 0, 0), (1, 0, 0)) == await desk.front.levels()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_killed_wherever_it_may_be(open_shop: OpenShop) -> None:
    """At every point of its way: one hold, one charge, one back-order, of the same lines."""
    shop = await open_shop()
    counting = await _die(shop, "counting", Deaths())
    assert 1 == counting.processes
    for point in range(1, counting.points + 1):
        died = await _die(shop, f"dies at {point}", Deaths(point))
        assert 2 == died.processes
    assert (counting.points + 1) * FIRST == await Front(shop).cash()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_killed_wherever_it_may_be_while_it_waits(open_shop: OpenShop) -> None:
    """The same of one that waits as a whole: one hold, one charge."""
    shop = await open_shop()
    counting = await _die(shop, "counting", Deaths(), waits=True)
    for point in range(1, counting.points + 1):
        await _die(shop, f"dies at {point}", Deaths(point), waits=True)
    assert (counting.points + 1) * PENCE == await Front(shop).cash()


async def test_stock_comes_between_a_crash_and_the_next_process(open_shop: OpenShop) -> None:
    """What was to wait as a whole, and was not written down so, takes what there is by then."""
    desk = await _desk(open_shop, tea=0, mugs=0)
    desk.front.faults.planned["order:await_stock:late"] = [Crash()]
    with pytest.raises(Crash):
        await desk.front.place(SPLIT)
    await desk.deliver()
    answer = await desk.front.place(SPLIT)
    assert (REST, (StockLine(TEA, 1), StockLine(MUG, 1))) == (
        answer.total_pence,
        answer.back_ordered,
    )
    assert _confirmed(1, REST) == await desk.front.books()
    assert ["await_stock", "reserve"] == (await desk.front.events())[1:3]


class Slow(Local):
    """An inventory of which one request to hold a part is on its way until somebody lets it go."""

    def __init__(self, front: Front) -> None:
        super().__init__(front.shop.stock, front.shop.payments, front.faults)
        self.late: Reserve | None = None

    async def reserve(self, request: Reserve, key: str) -> Reservation:
        """Hold; the first request for a part is kept, and its sender told nothing."""
        if request.if_short == "part" and self.late is None:
            self.late = request
            raise DeadlineExceededError("no answer")
        return await super().reserve(request, key)

    async def arrive(self) -> None:
        """Let the late request take effect."""
        assert self.late is not None
        await self._stock.reserve(self.late)


async def _late(open_shop: OpenShop) -> tuple[Desk, asyncio.Task[OrderConfirmation]]:
    """Return an order that waits as a whole, and of which a late request holds a part."""
    desk = await _desk(open_shop, tea=0, mugs=0)
    desk.front.journey._services = slow = Slow(desk.front)
    waiting = await desk.begin(SPLIT)
    await desk.deliver()
    await slow.arrive()
    return desk, waiting


async def test_a_hold_that_comes_late_makes_it_an_order_of_that(open_shop: OpenShop) -> None:
    """Nobody pays for what is neither held nor back-ordered."""
    desk, waiting = await _late(open_shop)
    answer = await waiting
    assert REST == answer.total_pence
    assert (StockLine(TEA, 1), StockLine(MUG, 1)) == answer.back_ordered
    assert _confirmed(1, REST) == await desk.front.books()


async def test_undone_after_that_it_brings_back_what_was_held(open_shop: OpenShop) -> None:
    """Both undos name the same units, which are those of the order by then."""
    desk = await _desk(open_shop, tea=0, mugs=0)
    desk.front.journey._services = slow = Slow(desk.front)
    desk.front.faults.planned["commit:late"] = RuntimeError("broken")
    waiting = await desk.begin(SPLIT)
    await desk.deliver()
    await slow.arrive()
    with pytest.raises(HandlerError):
        await waiting
    assert _NOTHING == (await desk.front.books()).stock
    assert ((1, 0, -1), (0, 0, 0)) == await desk.front.levels()


async def test_an_owner_of_before_takes_it_apart_behind_the_next_ones_back(
    open_shop: OpenShop,
) -> None:
    """Who goes on with it charges for the order as it is, and not for what it was."""
    desk, waiting = await _late(open_shop)
    missing = (StockLine(TEA, 1), StockLine(MUG, 1))
    with suppress(IllegalTransitionError):  # the one who goes on may be faster
        await desk.shop.orders.take_apart(order_uuid("k"), missing)
    assert REST == (await waiting).total_pence
    assert REST == await desk.front.cash()


async def test_an_owner_of_before_reserves_before_it_is_to_wait(open_shop: OpenShop) -> None:
    """It need not wait, then; that it cannot is no reason to give it up."""
    desk = await _desk(open_shop, tea=2)

    class Overtaken(Local):
        async def reserve(self, request: Reserve, key: str) -> Reservation:
            if not self.faults.calls["overtaken"]:
                self.faults.calls["overtaken"] += 1
                await self._stock.reserve(request)
                await desk.shop.orders.move(order_uuid("k"), OrderEvent.RESERVE)
                raise Failure("sold out", code="INVENTORY_ERROR")
            return await super().reserve(request, key)

    services = Overtaken(desk.shop.stock, desk.shop.payments, desk.front.faults)
    desk.front.journey._services = services
    assert PENCE == (await desk.front.place(WAIT)).total_pence


async def test_not_too_many_wait(open_shop: OpenShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes then is refused, so that there is room for those who need not wait."""
    monkeypatch.setattr(_journey, "WAITING_MAX", 1)
    desk = await _desk(open_shop)
    waiting = await desk.begin(WAIT)
    assert "INVENTORY_ERROR" == (await desk.front.refused(WAIT, "other")).code
    await desk.deliver()
    await waiting


def test_what_journals_and_keys_know_orders_by_is_as_it_was() -> None:
    """An order that waits for nothing is written as it was before orders could wait."""
    order = msgspec.convert({**_ORDER_OF_BEFORE}, Order)
    assert _ORDER_OF_BEFORE == msgspec.to_builtins(order)
    assert {"customer_id", "items", "shipping_address"} == msgspec.to_builtins(ORDER).keys()


_ORDER_OF_BEFORE = {
    "order_id": str(order_uuid("k")),
    "customer_id": str(ORDER.customer_id),
    "state": "received",
    "total_pence": PENCE,
    "received_us": 1,
    "refusal": None,
    "saga_id": "x",
}


async def test_what_cannot_begin_holds_up_no_shipment(open_shop: OpenShop) -> None:
    """It is shipped and told of, and then it is said that its back-order has not begun."""
    desk = await _desk(open_shop)
    await desk.front.place(SPLIT)

    async def order_rest(request: PlaceOrder, key: str) -> None:
        raise OverloadedError("busy")

    desk.after.order_rest = order_rest  # type: ignore[method-assign]  # a world that is busy
    with pytest.raises(OverloadedError):
        await hand_over(desk.shop.orders, desk.after, order_uuid("k"))
    assert ["ship", "notify"] == sorted((await desk.front.events())[-2:], reverse=True)


async def test_anothers_order_is_no_back_order(open_shop: OpenShop) -> None:
    """Who guesses its key and takes its place is found out, and nobody's order is cancelled."""
    desk = await _desk(open_shop, mugs=9)
    await desk.front.place(SPLIT)
    await desk.front.place(order_of((MUG, 1, "3.00"), customer="thief"), _KEY)
    with pytest.raises(IdempotencyConflictError):
        await desk.follow()
    assert "confirmed" == (await desk.front.books(_KEY)).state


async def test_what_never_began_is_not_named(open_shop: OpenShop) -> None:
    """A client that follows the id of a back-order finds one."""
    desk = await _desk(open_shop)
    desk.front.faults.planned["authorise"] = Failure("no", code="PAYMENT_DECLINED")
    await desk.front.refused(SPLIT)
    assert (await desk.shop.orders.view(order_uuid("k"))).back_order_id is None


class Died(NamedTuple):
    """How an order fared."""

    processes: int
    points: int
    """At which a process might have died."""


async def _die(shop: Shop, key: str, deaths: Deaths, *, waits: bool = False) -> Died:
    """Place an order for products of its own, in as many processes as die of it.

    Args:
        waits: For all of it; else it is taken apart. What is missing is delivered to the second
            request for it.
    """
    front, tea, mug = Front(shop, deaths=deaths), an_id(f"{key}: tea"), an_id(f"{key}: mug")
    front.journey._prices = PriceList.of([(tea, 110), (mug, 300)])
    await shop.stock.fill({tea: 1, mug: 1})
    lines = (tea, 2, "1.10"), (mug, 1, "3.00")
    order, processes = order_of(*lines, if_short="wait" if waits else "split"), 0
    if waits:
        front.journey._services = _Delivers(shop.stock, shop.payments, front.faults)
    pence, units, lacks = (PENCE, 3, UNSET) if waits else (FIRST, 2, (StockLine(tea, 1),))
    while True:
        processes += 1
        deaths.is_dead = False
        try:
            answer = await front.place(order, key)
        except Crash:
            continue
        assert (pence, lacks) == (answer.total_pence, answer.back_ordered)
        assert _confirmed(units, pence) == await front.books(key)
        return Died(processes, deaths.points)


class _Delivers(Local):
    """An inventory to which a tea is delivered once it was refused."""

    async def reserve(self, request: Reserve, key: str) -> Reservation:
        """Hold."""
        if self.faults.calls["reserve"] == 1:
            await self._stock.restock(Restock(request.items[0].product_id, 1), key="delivery" + key)
        return await super().reserve(request, key)


# --- cancelled ------------------------------------------------------------------------------------


async def test_the_rest_alone_is_cancelled_after_its_payment(open_shop: OpenShop) -> None:
    """What was paid for it goes back, and no more."""
    desk = await _both_paid(open_shop)
    assert OrderCancelled(order_uuid(_KEY), REST) == await desk.cancel(_KEY)
    assert (_cancelled(), FIRST) == (await desk.front.books(_KEY), await desk.front.cash())


async def test_an_order_is_cancelled_with_its_back_order(open_shop: OpenShop) -> None:
    """Both are paid for, and both are refunded, to the penny; whoever asks again hears the same."""
    desk = await _both_paid(open_shop)
    assert OrderCancelled(order_uuid("k"), PENCE) == await desk.cancel()
    assert OrderCancelled(order_uuid("k"), PENCE) == await desk.cancel()
    assert _cancelled() == await desk.front.books()
    assert _cancelled() == await desk.front.books(_KEY)
    assert 0 == await desk.front.cash()
    # One tea more came to the house than has left it: that which was delivered.
    assert ((2, 0, -1), (1, 0, 0)) == await desk.front.levels()


async def test_a_back_order_that_has_left_stays(open_shop: OpenShop) -> None:
    """The first half is cancelled and refunded; what has left can be given back."""
    desk = await _both_paid(open_shop)
    await hand_over(desk.shop.orders, desk.after, order_uuid(_KEY))
    assert OrderCancelled(order_uuid("k"), FIRST) == await desk.cancel()
    assert _confirmed(1, REST) == await desk.front.books(_KEY)


async def test_who_cancels_waits_for_the_back_order_to_begin(open_shop: OpenShop) -> None:
    """It cannot begin behind his back when he believes that all is cancelled."""
    desk = await _desk(open_shop)
    await desk.front.place(SPLIT)
    cancelling = asyncio.ensure_future(desk.cancel())
    await eventually(lambda: desk.faults.calls["keep"])
    assert 0 == desk.faults.calls["cancel_rest"], "that there is none would be its answer for ever"
    assert not cancelling.done()
    await desk.follow()
    await desk.front.place(desk.after.rests[_KEY], _KEY)  # the other half came back for it
    assert OrderCancelled(order_uuid("k"), PENCE) == await cancelling


# --- on the mesh ----------------------------------------------------------------------------------


@asynccontextmanager
async def _short_stand(folder: Path, tea: int = 1, mugs: int = 1) -> AsyncIterator[Stand]:
    """Give a shop on the mesh that lacks a tea for the order; what is confirmed stays a while."""
    async with a_stand(folder, stock={TEA: tea, MUG: mugs}) as stand:
        stand.settings = msgspec.structs.replace(stand.settings, grace_s=600.0)
        await stand.host_all()
        yield stand


async def _events_of_rest(stand: Stand, wanted: list[str]) -> None:
    """Wait until so much has happened to the back-order: it begins by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(Failure, RemoteError):
                if wanted == await stand.events(order_uuid(_KEY), len(wanted)):
                    return


async def test_a_back_order_begins_and_ends_by_itself(tmp_path: Path) -> None:
    """Its stock comes, and it is paid and told of, without anybody asking for it."""
    async with _short_stand(tmp_path) as stand:
        answer = await stand.place(SPLIT)
        assert (FIRST, order_uuid(_KEY)) == (answer.total_pence, answer.back_order_id)
        await _events_of_rest(stand, ["receive", "await_stock"])
        await stand.ask("inventory", {"product_id": TEA, "quantity": 1}, "restock")
        wanted = ["receive", "await_stock", "reserve", "authorise", "pay", "confirm", "notify"]
        await _events_of_rest(stand, wanted)
        assert (0, 0, 2) == await stand.level(TEA)
        audit = await stand.ask("order_processing", {"order_id": order_uuid("k")}, "query")
        assert str(order_uuid(_KEY)) == audit["back_order_id"]


@pytest.mark.slow
async def test_one_that_waits_is_cancelled(tmp_path: Path) -> None:
    """Alone, before anything was paid for it: nothing goes back, and the other half stays (E9)."""
    async with _short_stand(tmp_path) as stand:
        await stand.place(SPLIT)
        await _events_of_rest(stand, ["receive", "await_stock"])
        answer = await _cancelled_on(stand, order_uuid(_KEY))
        assert OrderCancelled(order_uuid(_KEY), 0) == answer
        assert "confirmed" == (await stand.view(order_uuid("k"))).state
        await stand.ask("inventory", {"product_id": TEA, "quantity": 1}, "restock")
        assert (1, 0, 1) == await stand.level(TEA)


@pytest.mark.slow
async def test_both_are_cancelled_by_one_word(tmp_path: Path) -> None:
    """The order that was paid for, and its back-order that waits: what was paid goes back."""
    async with _short_stand(tmp_path, tea=2, mugs=0) as stand:
        teas = (await stand.place(SPLIT)).total_pence
        answer = await _cancelled_on(stand, order_uuid("k"))
        assert OrderCancelled(order_uuid("k"), teas) == answer
        states = [(await stand.view(each)).state for each in (order_uuid("k"), order_uuid(_KEY))]
        assert ["cancelled", "cancelled"] == states
        assert (2, 0, 2) == await stand.level(TEA)  # they left the shelf, and came back
        assert (0, 0, 0) == await stand.level(MUG)


async def _cancelled_on(stand: Stand, order_id: UUID) -> OrderCancelled:
    return await stand.client.request(
        *("order_processing", "cancel", {"order_id": order_id}),
        returns=OrderCancelled,
        timeout_s=20.0,
        idempotency_key=f"{order_id}:c",
    )


# --- the parts ------------------------------------------------------------------------------------


def test_the_first_lines_are_served_first() -> None:
    """What is missing is taken off the last lines of a product; lines keep their places."""
    lines = tuple(OrderLine(TEA, units, Decimal(1)) for units in (2, 3, 1))
    kept, rest = take_apart(lines, (StockLine(TEA, 2),))
    assert [2, 2, None] == [None if each is None else each.quantity for each in kept]
    assert [1, 1] == [each.quantity for each in rest]


async def test_a_part_is_held_once_and_says_what_is_missing(open_shop: OpenShop) -> None:
    """The same request gets the same answer, though more is there by now."""
    stock = (await open_shop()).stock
    await stock.fill({TEA: 1, MUG: 0})
    request = Reserve(an_id("o"), (StockLine(TEA, 2), StockLine(MUG, 1)), if_short="part")
    held = await stock.reserve(request)
    missing = {(each.product_id, each.quantity) for each in held.missing}
    assert (1, {(TEA, 1), (MUG, 1)}) == (held.units, missing)
    await stock.restock(Restock(TEA, 5))
    assert held == await stock.reserve(request)
    assert held == await stock.reservation(an_id("o"))


async def test_a_part_of_nothing_is_refused(open_shop: OpenShop) -> None:
    """There is no reservation that holds nothing; its name is as new."""
    stock = (await open_shop()).stock
    await stock.fill({TEA: 0})
    request = Reserve(an_id("o"), (StockLine(TEA, 2),), if_short="part")
    with pytest.raises(Failure) as caught:
        await stock.reserve(request)
    assert ("INVENTORY_ERROR", 0) == (caught.value.code, caught.value.details["available"])
    await stock.restock(Restock(TEA, 2))
    assert 2 == (await stock.reserve(request)).units
