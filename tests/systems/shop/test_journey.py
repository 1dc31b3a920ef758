"""One order from request to answer: every defect of the sample, and every way to fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from uuid import UUID

import pytest

from agent99.errors import (
    Agent99Error,
    ConstraintError,
    DeadlineExceededError,
    DisconnectedError,
    Failure,
    HandlerError,
    NoAgentError,
    OverloadedError,
    RequestCancelledError,
    StoreUnavailableError,
)
from agent99.saga import Step
from agent99.saga._records import Cancel, Retry
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._model import ORDER_CANCELLED, Charge, Reservation
from agent99.systems.shop._payment_model import Authorisation, Authorise, CaptureReceipt
from tests.saga._programme import Crash, Deaths
from tests.systems.shop._front import CONFIRMED, PENCE, Front, rejected
from tests.systems.shop._shop import MUG, ORDER, TEA, Local, OpenShop, Shop, order_of

_STEPS = ("take", "reserve", "authorise", "commit", "capture", "order:confirm")
"""What an order asks for, in its order."""
_MOVES = ("order:reserve", "order:authorise", "order:pay")
_BEFORE_PIVOT = ("take", "reserve", "order:reserve", "authorise", "order:authorise", "commit")
_WHEN = ("", ":late")
_LATE = DeadlineExceededError("no answer in time")
_NO = Failure("what is this?", code="SOMETHING_ELSE")
_OUR_STORE = StoreUnavailableError("orders", "it is locked", outcome_unknown=True)
_THEIR_STORE = Failure("it is locked", code="STORE_UNAVAILABLE", retryable=True)
_OPEN: list[Agent99Error] = [
    _LATE,
    NoAgentError("nobody is there"),
    OverloadedError("too much work"),
    HandlerError("it broke"),
    DisconnectedError("the link went away"),
    _OUR_STORE,
    _THEIR_STORE,
]
"""What leaves it open whether a call took effect, or says that it may the next time."""
_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
_PAYS_NOTHING = DeclineRule(rate=1.0)


async def _open(
    open_shop: OpenShop, declines: DeclineRule | None = None, units: int = 500
) -> Front:
    front = Front(await open_shop(declines))
    await front.shop.stock.fill({TEA: units, MUG: units})
    return front


async def test_an_order_is_confirmed(open_shop: OpenShop) -> None:
    """Its stock has left, its money is ours, and its history has every step."""
    front = await _open(open_shop, units=5)
    answer = await front.place()
    assert (order_uuid("k"), "confirmed", PENCE) == (
        answer.order_id,
        answer.status,
        answer.total_pence,
    )
    assert CONFIRMED == await front.books()
    assert ((3, 0, 2), (4, 0, 1)) == await front.levels()
    assert PENCE == await front.cash()
    assert ["receive", "reserve", "authorise", "pay", "confirm"] == await front.events()


async def test_the_same_key_is_one_order_and_one_answer(open_shop: OpenShop) -> None:
    """Played again, by ten at once that all think it theirs, and without its journal (S4, E4)."""
    shops = [await open_shop(), await open_shop()]
    fronts = [Front(shops[number % 2]) for number in range(10)]
    await shops[0].stock.fill({TEA: 5, MUG: 5})
    answers = await asyncio.gather(*(front.place() for front in fronts))
    answers += [await front.place() for front in fronts]
    answers.append(await Front(shops[1]).place())
    assert 1 == len(set(answers))
    assert CONFIRMED == await fronts[0].books()
    assert PENCE == await fronts[0].cash()


async def test_a_short_product_leaves_nothing_held(open_shop: OpenShop) -> None:
    """The first line is not kept when the second is short, and no money is asked for (S1)."""
    front = Front(await open_shop())
    await front.shop.stock.fill({TEA: 5, MUG: 0})
    failure = await front.refused()
    assert ("INVENTORY_ERROR", str(MUG), 0) == (
        failure.code,
        failure.details["product_id"],
        failure.details["available"],
    )
    assert ((5, 0, 0), (0, 0, 0)) == await front.levels()
    assert rejected("INVENTORY_ERROR") == await front.books()
    assert 0 == front.faults.calls["authorise"]


async def test_a_decline_lets_the_stock_go(open_shop: OpenShop) -> None:
    """The order is rejected with the payment's reason, and its stock is back (S2, E2)."""
    front = await _open(open_shop, _PAYS_NOTHING, units=5)
    failure = await front.refused()
    assert "PAYMENT_ERROR" == failure.code
    assert {"reason", "payment_id"} == set(failure.details)
    assert rejected("PAYMENT_ERROR") == await front.books()
    assert ((5, 0, 0), (5, 0, 0)) == await front.levels()
    assert ["receive", "reserve", "decline"] == await front.events()


async def test_a_tampered_price_is_refused(open_shop: OpenShop) -> None:
    """The total is never computed from a price that the client made up (S3, E6)."""
    front = await _open(open_shop)
    for price in ("0.01", "3.01", "1.10"):
        order = order_of((TEA, 1, "1.10"), (MUG, 1, price))
        failure = await front.refused(order, price)
        path = failure.details["path"]
        assert ("PRICE_MISMATCH", "$.items[1].unit_price") == (failure.code, path)
        assert rejected("PRICE_MISMATCH") == await front.books(price)
    assert not front.faults.keys, "nobody was asked for anything"


async def test_a_product_that_nobody_stocks_is_an_inventory_error(open_shop: OpenShop) -> None:
    """It has a price but no shelf: the order is refused by the sample's code."""
    front = Front(await open_shop())
    await front.shop.stock.fill({TEA: 5})
    failure = await front.refused()
    assert ("INVENTORY_ERROR", str(MUG)) == (failure.code, failure.details["product_id"])


@_SQLITE
async def test_a_confirmed_order_stays_confirmed(open_shop: OpenShop) -> None:
    """Asked for without its journal it asks for nothing, so that nothing of it can be undone."""
    front = await _open(open_shop)
    answer = await front.place()
    other = Front(front.shop)
    assert answer == await other.place()
    assert {"take": 1} == dict(other.faults.calls)


async def test_a_rejected_order_stays_rejected(open_shop: OpenShop) -> None:
    """The same key gets the same refusal, without its journal too, though stock has come since."""
    front = Front(await open_shop())
    await front.shop.stock.fill({TEA: 5, MUG: 0})
    first = await front.refused()
    await front.shop.store.transaction(
        lambda tx: tx.execute("UPDATE stock SET opening = 9, on_hand = 9").changed
    )
    for other in (front, Front(front.shop)):
        again = await other.refused()
        assert (first.code, first.message, first.details) == (
            again.code,
            again.message,
            again.details,
        )
    assert 1 == front.faults.calls["reserve"]


@_SQLITE
async def test_the_key_of_another_order_is_a_conflict(open_shop: OpenShop) -> None:
    """Also once its journal is gone; the order that has it stays as it is."""
    front = await _open(open_shop)
    await front.place()
    conflict = await Front(front.shop).refused(order_of((MUG, 1, "3.00")))
    assert ("IDEMPOTENCY_CONFLICT", False) == (conflict.code, conflict.retryable)
    assert CONFIRMED == await front.books()


# --- each step fails, in turn ---------------------------------------------------------------------


@_SQLITE
@pytest.mark.parametrize("step", [*_STEPS, *_MOVES])
async def test_an_unknown_outcome_becomes_known(open_shop: OpenShop, step: str) -> None:
    """A step that brought no answer, before or after its effect, is asked for again (S8, E5)."""
    front = await _open(open_shop)
    for number, error in enumerate(_OPEN):
        for when in _WHEN:
            front.faults.planned = {step + when: [error, error]}
            front.faults.keys.clear()
            key = f"{number}{when}"
            assert "confirmed" == await front.ending(key=key)
            assert CONFIRMED == await front.books(key)
            assert {1} == {len(keys) for keys in front.faults.keys.values()}
    assert 2 * len(_OPEN) * PENCE == await front.cash()


@_SQLITE
@pytest.mark.parametrize("step", _BEFORE_PIVOT)
async def test_what_never_answers_is_undone(open_shop: OpenShop, step: str) -> None:
    """When its time is up the order is rejected, whether or not the step took effect (E2)."""
    front = await _open(open_shop)
    is_ours = step == "take" or step.startswith("order:")
    for number, error in enumerate((_LATE, _OUR_STORE if is_ours else _THEIR_STORE)):
        for when in _WHEN:
            # An order is stored to be rejected: that must work in the end.
            often = [error] * 30 if step == "take" else error
            front.faults.planned = {step + when: often}
            key = f"{number}{when}"
            assert error.code == (await front.refused(key=key)).code
            assert rejected(error.code) == await front.books(key)


@_SQLITE
@pytest.mark.parametrize("step", ["take", "reserve", "authorise", "commit", "capture"])
async def test_a_refusal_undoes_what_came_before(open_shop: OpenShop, step: str) -> None:
    """Every effect is paired with its undo, and the order has the reason (E2)."""
    front = await _open(open_shop)
    front.faults.planned = {step: _NO}
    failure = await front.refused()
    assert ("SOMETHING_ELSE", "what is this?") == (failure.code, failure.message)
    undone = {each.step.name for each in (await front.saga()).steps.values() if each.undone_us}
    before = ("take", "reserve", "authorise")
    assert set(before[: _STEPS.index(step)]) == undone
    assert ((500, 0, 0), (500, 0, 0)) == await front.levels()
    if step != "take":  # of an order that was never stored there is nothing to say
        assert rejected("SOMETHING_ELSE") == await front.books()


@_SQLITE
async def test_what_breaks_is_undone(open_shop: OpenShop) -> None:
    """Nobody knows how far a broken step came: it counts as one that took effect (E2)."""
    front = await _open(open_shop)
    for where in (step + when for step in _BEFORE_PIVOT for when in _WHEN):
        front.faults.planned = {where: [ZeroDivisionError("a bug")]}
        assert "HANDLER_ERROR" == (await front.refused(key=where)).code, where
        assert rejected("HANDLER_ERROR") == await front.books(where), where
    assert ((500, 0, 0), (500, 0, 0)) == await front.levels()


@_SQLITE
@pytest.mark.parametrize("move", ["order:reserve", "order:authorise"])
async def test_an_order_that_cannot_be_moved_holds_nothing(open_shop: OpenShop, move: str) -> None:
    """What the step held by then is let go of: no answer of another's says that there is none."""
    front = await _open(open_shop)
    front.faults.planned = {move: ConstraintError("check", "the tables forbid it")}
    assert "HANDLER_ERROR" == (await front.refused()).code
    assert rejected("HANDLER_ERROR") == await front.books()


@_SQLITE
@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("capture:late", ZeroDivisionError("a bug")),
        ("order:pay", ConstraintError("check", "no")),
        ("order:pay:late", ZeroDivisionError("a bug")),
        ("order:confirm", ConstraintError("check", "no")),
    ],
)
async def test_what_breaks_once_it_is_paid_waits_for_help(
    open_shop: OpenShop, step: str, error: Exception
) -> None:
    """There is no way back: it is stuck, holds what it has, and goes on once it is mended."""
    front = await _open(open_shop)
    front.faults.planned = {step: error}
    await front.refused()
    assert "stuck" == (await front.saga()).state
    stuck = await front.books()
    assert (CONFIRMED.stock, CONFIRMED.money) == (stuck.stock, stuck.money)
    front.faults.planned = {}
    await front.say(Retry)
    assert "confirmed" == await front.ending()
    assert CONFIRMED == await front.books()
    assert PENCE == await front.cash()


@_SQLITE
@pytest.mark.parametrize(
    ("step", "undo"),
    [
        ("reserve", "order:refuse"),
        ("authorise", "release"),
        ("authorise", "order:decline"),
        ("commit", "void"),
        ("capture", "take_back"),
    ],
)
async def test_an_undo_is_tried_until_it_is_done(open_shop: OpenShop, step: str, undo: str) -> None:
    """An order is rejected only once nothing of it is held."""
    front = await _open(open_shop)
    for when in _WHEN:
        failing = [_LATE, ZeroDivisionError("a bug"), _NO]
        front.faults.planned = {step: _NO, undo + when: failing}
        front.faults.calls.clear()
        key = f"k{when}"
        assert "SOMETHING_ELSE" == (await front.refused(key=key)).code
        # That an order is rejected is seen, and not tried again.
        assert front.faults.calls[undo] == (1 if when and undo.startswith("order:") else 4)
        assert rejected("SOMETHING_ELSE") == await front.books(key)
    assert ((500, 0, 0), (500, 0, 0)) == await front.levels()


# --- the process dies -----------------------------------------------------------------------------


@_SQLITE
@pytest.mark.parametrize(
    ("ends", "planned"),
    [
        ("confirmed", {}),
        ("PAYMENT_ERROR", {"authorise": Failure("no", code="PAYMENT_DECLINED")}),
        ("SOMETHING_ELSE", {"capture": _NO}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_wherever_its_process_dies(
    open_shop: OpenShop, ends: str, planned: dict[str, BaseException]
) -> None:
    """Before and after every write and every call: the next one comes to the same end (S5, E3)."""
    await _die_everywhere(await open_shop(), ends, planned, Front)


async def _die_everywhere(
    shop: Shop,
    ends: str,
    planned: dict[str, BaseException],
    make_front: Callable[..., Front],
    *,
    points_max: int = 1_000,
    pence: int = PENCE,
) -> None:
    """Place an order for each point at which its process may die, and look at the books."""
    await shop.stock.fill({TEA: 500, MUG: 500})
    counting = make_front(shop, deaths=Deaths())
    counting.faults.planned.update(planned)
    assert ends == await counting.ending(key="counting")
    points = min(points_max, counting.faults.deaths.points)
    wanted = CONFIRMED if ends == "confirmed" else rejected(ends)
    for point in range(1, points + 1):
        front, key = make_front(shop, deaths=Deaths(point)), f"dies at {point}"
        front.faults.planned.update(planned)
        assert (ends, 2) == await front.ending_of_mortals(key)
        assert wanted == await front.books(key)
    orders = points + 1 if ends == "confirmed" else 0
    assert orders * pence == await counting.cash()
    assert ((500 - 2 * orders, 0, 2 * orders), (500 - orders, 0, orders)) == await counting.levels()


class ForgetsAnUndo(Front):
    """Lets no stock go where its process died before."""

    def __init__(self, shop: Shop, *, deaths: Deaths) -> None:
        super().__init__(shop, deaths=deaths)
        let_go = self.services.release

        async def release(order_id: UUID, key: str) -> Reservation:
            if deaths.count:
                return await self.shop.stock.reservation(order_id)
            return await let_go(order_id, key)

        self.services.release = release  # type: ignore[method-assign]  # that is the fault


class ChargesWithoutKey(Front):
    """Takes a penny for the packing of each order, under no key."""

    def __init__(self, shop: Shop, *, deaths: Deaths) -> None:
        super().__init__(shop, deaths=deaths)
        commit = self.services.commit

        async def charge_and_commit(order_id: UUID, key: str) -> Reservation:
            await shop.payments.charge(Charge(ORDER.customer_id, Decimal("0.01")), None)
            return await commit(order_id, key)

        self.services.commit = charge_and_commit  # type: ignore[method-assign]  # that is the fault


class AnswersBeforeTheEffect(Front):
    """Says that the stock is the customer's, keeps in mind to make it so, and does that later."""

    def __init__(self, shop: Shop, *, deaths: Deaths) -> None:
        super().__init__(shop, deaths=deaths)
        commit, capture = self.services.commit, self.services.capture
        owed: set[tuple[UUID, int]] = set()  # a process that dies forgets what it had in mind

        async def promise(order_id: UUID, key: str) -> Reservation:
            owed.add((order_id, deaths.count))
            return await shop.stock.reservation(order_id)

        async def commit_and_capture(order_id: UUID, key: str) -> CaptureReceipt:
            if (order_id, deaths.count) in owed:
                await commit(order_id, key)
            return await capture(order_id, key)

        self.services.commit = promise  # type: ignore[method-assign]  # that is the fault
        self.services.capture = commit_and_capture  # type: ignore[method-assign]  # as above


_DECLINE: dict[str, BaseException] = {"authorise": Failure("no", code="PAYMENT_DECLINED")}


_PLANTED = pytest.mark.parametrize(
    ("fault", "ends", "planned", "pence"),
    [
        (ForgetsAnUndo, "PAYMENT_ERROR", _DECLINE, PENCE),
        (ChargesWithoutKey, "confirmed", {}, PENCE + 1),
        (AnswersBeforeTheEffect, "confirmed", {}, PENCE),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)


@_SQLITE
@_PLANTED
async def test_planted_faults_are_found(
    open_shop: OpenShop,
    fault: Callable[..., Front],
    ends: str,
    planned: dict[str, BaseException],
    pence: int,
) -> None:
    """Wherever its process dies: then the books of some order do not close."""
    with pytest.raises(AssertionError):
        await _die_everywhere(await open_shop(), ends, planned, fault, pence=pence)


@_SQLITE
@_PLANTED
async def test_planted_faults_show_in_no_quiet_run(
    open_shop: OpenShop,
    fault: Callable[..., Front],
    ends: str,
    planned: dict[str, BaseException],
    pence: int,
) -> None:
    """As long as nobody dies the books close, whatever is planted: it takes the kills."""
    await _die_everywhere(await open_shop(), ends, planned, fault, points_max=0, pence=pence)


@_SQLITE
async def test_a_step_that_comes_after_its_undo_takes_no_effect(open_shop: OpenShop) -> None:
    """A process that hung in any step, and finds its order rejected: nothing is held again (E3)."""
    front = await _open(open_shop)
    for count, step in enumerate(_STEPS[:-1], 1):
        front.faults.planned = {step: [_NO if step == "capture" else ZeroDivisionError("a bug")]}
        reason = (await front.refused(key=step)).code
        late, order = Step("saga", "late", "late", 1), await front.orders.find(order_uuid(step))
        journey, order_id = front.journey, order.order_id
        for attempt in (
            partial(journey.take, late, ORDER, order_id),
            partial(journey.reserve, late, order_id, ORDER.items),
            partial(journey.authorise, late, order),
            partial(journey.commit, late, order_id),
            partial(journey.capture, late, order_id),
        )[:count]:
            await asyncio.gather(attempt(), return_exceptions=True)
        assert rejected(reason) == await front.books(step)


@_SQLITE
@pytest.mark.parametrize("step", ["reserve", "authorise", "commit"])
async def test_what_a_dead_process_asked_for_may_have_been_done(
    open_shop: OpenShop, step: str
) -> None:
    """It died before the answer came, and the next one finds nobody: all is undone (E2, E3)."""
    front = await _open(open_shop)
    front.faults.planned = {f"{step}:late": [Crash()]}
    with pytest.raises(Crash):
        await front.place()
    front.faults.planned = {step: NoAgentError("nobody is there")}
    assert "NO_AGENT" == (await front.refused()).code
    assert rejected("NO_AGENT") == await front.books()


# --- the money comes late -------------------------------------------------------------------------


async def test_while_nobody_knows_of_the_money_the_order_says_so(open_shop: OpenShop) -> None:
    """PENDING_PAYMENT, then known by asking again under the same key; charged once (E5)."""
    front = await _open(open_shop)
    seen: list[str] = []

    class Slow(Local):
        async def authorise(self, request: Authorise, key: str) -> Authorisation:
            seen.append((await front.shop.orders.find(request.order_id)).state)
            return await super().authorise(request, key)

    front.journey._services = Slow(front.shop.stock, front.shop.payments, front.faults)
    front.faults.planned = {"authorise:late": [_LATE, _LATE]}
    assert "confirmed" == await front.ending()
    assert ["reserved", "pending_payment", "pending_payment"] == seen
    assert 1 == len(front.faults.keys["authorise"])
    assert ["lose_sight_of_payment", "authorise"] == (await front.events())[2:4]
    assert CONFIRMED == await front.books()


@_SQLITE
async def test_stock_that_expires_before_the_money_comes_is_not_sold_twice(
    open_shop: OpenShop,
) -> None:
    """The order is rejected, and the money let go of, that was held for nothing by then."""
    front = await _open(open_shop)

    class Slow(Local):
        async def authorise(self, request: Authorise, key: str) -> Authorisation:
            held = await super().authorise(request, key)
            await front.shop.store.transaction(
                lambda tx: tx.execute("UPDATE reservations SET expires_us = 0").changed
            )
            assert 1 == await front.shop.stock.expire()
            return held

    front.journey._services = Slow(front.shop.stock, front.shop.payments, front.faults)
    failure = await front.refused()
    assert ("RESERVATION_CLOSED", "expired") == (failure.code, failure.details["state"])
    assert rejected("RESERVATION_CLOSED") == await front.books()
    assert ((500, 0, 0), (500, 0, 0)) == await front.levels()


@_SQLITE
async def test_an_order_that_somebody_cancels_is_undone(open_shop: OpenShop) -> None:
    """As long as it is not paid: what was committed by then comes back, and it is cancelled."""
    front = await _open(open_shop)

    class Watched(Local):
        async def commit(self, order_id: UUID, key: str) -> Reservation:
            committed = await super().commit(order_id, key)
            await front.say(Cancel)
            return committed

    front.journey._services = Watched(front.shop.stock, front.shop.payments, front.faults)
    failure = await front.refused()
    assert ("cancelled", 0) == ((await front.saga()).state, front.faults.calls["capture"])
    nothing = {"held": 0, "gone": 0}, {"held": 0, "taken": 0}
    assert ("cancelled", ORDER_CANCELLED, *nothing) == await front.books()
    again = await Front(front.shop).refused()  # without its journal
    assert (RequestCancelledError.code, ORDER_CANCELLED) == (failure.code, again.code)


async def test_many_orders_want_the_last_units(open_shop: OpenShop) -> None:
    """Sixty orders on stock for ten, two instances: ten are confirmed, nothing stays held (E1)."""
    fronts = [Front(await open_shop()), Front(await open_shop())]
    await fronts[0].shop.stock.fill({TEA: 20, MUG: 99})
    ends = await asyncio.gather(*(fronts[n % 2].ending(key=str(n)) for n in range(60)))
    assert (10, 50) == (ends.count("confirmed"), ends.count("INVENTORY_ERROR"))
    assert ((0, 0, 20), (89, 0, 10)) == await fronts[0].levels()
    assert 10 * PENCE == await fronts[0].cash()


async def test_everything_with_a_state_says_what_it_is(open_shop: OpenShop) -> None:
    """The representations name the store, and are short."""
    front = Front(await open_shop())
    shop = front.shop
    for part, name in (
        (shop.stock, "Stock(Store("),
        (shop.payments, "Payments(Store("),
        (shop.orders, "Orders(Store("),
        (front.journey, "Journey(Orders(Store("),
    ):
        assert repr(part).startswith(name)
        assert len(repr(part)) < 300
