"""What holds at every moment: any legal history keeps it, each way of breaking it has a name."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.systems.shop._checker_rules import (
    ENDS,
    Entry,
    OrderSeen,
    Violation,
    judge_order,
    judge_outcomes,
    late_orders,
)
from agent99.systems.shop._states import ENDS as STATES_AT_REST
from agent99.systems.shop._states import INITIAL, TRANSITIONS
from tests.systems.shop._tiny_shop import PENCE, TinyShop, life

_TEA, _MUG = "tea", "mug"
_PAID, _REFUSED = "an order that was confirmed", "an order that was declined"
_lines = st.dictionaries(st.sampled_from([_TEA, _MUG]), st.integers(1, 4), min_size=1)
_orders = st.lists(_lines, min_size=1, max_size=5)
_luck = st.integers(0, 2**32).map(random.Random)


def _a_shop() -> TinyShop:
    return TinyShop({_TEA: 9, _MUG: 6})


def _history(shop: TinyShop, orders: list[dict[str, int]], luck: random.Random) -> Iterator[None]:
    """Live orders side by side, in an order that chance makes."""
    lives = [life(shop, f"order {n}", lines, luck) for n, lines in enumerate(orders)]
    while lives:
        one = luck.choice(lives)
        if next(one, one) is one:
            lives.remove(one)
        if luck.random() < 0.1:
            shop.restock(luck.choice([_TEA, _MUG]), luck.randint(1, 3))
        yield


def _lived(orders: list[dict[str, int]], luck: random.Random) -> TinyShop:
    """Return a shop after its last order; one more was confirmed, and one declined."""
    shop = _a_shop()
    for order, fate in ((_PAID, "confirmed"), (_REFUSED, "declined")):
        for _ in life(shop, order, {_TEA: 2, _MUG: 1}, luck, fate):
            pass
    for _ in _history(shop, orders, luck):
        pass
    return shop


@settings(max_examples=30)
@given(orders=_orders, luck=_luck)
def test_a_legal_history_never_violates(orders: list[dict[str, int]], luck: random.Random) -> None:
    """At no moment between the transactions of any orders, side by side, is there a finding."""
    shop = _a_shop()
    for _ in _history(shop, orders, luck):
        assert [] == shop.judged()
    assert {state for state, _, _ in shop.orders.values()} <= set(ENDS)


@settings(max_examples=30)
@given(orders=_orders, luck=_luck)
def test_what_is_read_after_the_orders_may_be_as_late_as_it_likes(
    orders: list[dict[str, int]], luck: random.Random
) -> None:
    """Orders first, then stock, then money: whatever happens between them, nobody is accused."""
    shop = _a_shop()
    steps = _history(shop, orders, luck)
    is_over = False
    while not is_over:
        seen = shop.orders_seen()
        is_over = _pass(steps, luck)
        holds = shop.holds_seen()
        is_over = _pass(steps, luck) or is_over
        assert [] == list(judge_outcomes(seen, holds, shop.payments_seen()))


def _pass(steps: Iterator[None], luck: random.Random) -> bool:
    """Let some steps happen; tell whether it was the last."""
    return any(next(steps, steps) is steps for _ in range(luck.randint(0, 12)))


def test_read_before_the_orders_a_sound_shop_is_accused() -> None:
    """Why the order of reading matters: between the looks an order was paid and confirmed."""
    shop = _a_shop()
    holds, payments = shop.holds_seen(), shop.payments_seen()
    for _ in life(shop, "order", {_TEA: 1}, random.Random(0), "confirmed"):
        pass
    found = judge_outcomes(shop.orders_seen(), holds, payments)
    assert ["confirmed_not_paid", "confirmed_not_committed"] == [each.name for each in found]


def _shelf(name: str = _TEA, **units: int) -> Callable[[TinyShop], None]:
    def plant(shop: TinyShop) -> None:
        for part, change in units.items():
            shop.shelves[name][part] += change

    return plant


def _hold(order: str, state: str) -> Callable[[TinyShop], None]:
    def plant(shop: TinyShop) -> None:
        shop.holds[order] = (state, shop.holds[order][1])

    return plant


def _pay(order: str, **changed: str | int) -> Callable[[TinyShop], None]:
    def plant(shop: TinyShop) -> None:
        shop.payments[order] = msgspec.structs.replace(shop.payments[order], **changed)

    return plant


def _order(order: str, state: str = "", **changed: object) -> Callable[[TinyShop], None]:
    """Change an order's state, or entries of its history by `step_<n>`; None: the entry is lost."""

    def plant(shop: TinyShop) -> None:
        before, total, history = shop.orders[order]
        told: list[Entry] = []
        for entry in history:
            new = changed.get(f"step_{entry.step}", entry)
            if isinstance(new, Entry):
                told.append(new)
        shop.orders[order] = (state or before, total, told)

    return plant


def _twice(shop: TinyShop) -> None:
    paid = shop.payments[_PAID]
    shop.payments["again"] = msgspec.structs.replace(paid, payment_id="again")
    shop.ledger["again"] = {"cash": paid.captured_pence, "sales": -paid.captured_pence}
    shop.refund("again", paid.refunded_pence)
    shop.payments["again"] = msgspec.structs.replace(
        paid, payment_id="again", refunded_pence=paid.refunded_pence
    )


def _penny(shop: TinyShop) -> None:
    shop.ledger[f"capture-{_PAID}"]["cash"] += 1


def _lost_transaction(shop: TinyShop) -> None:
    del shop.ledger[f"capture-{_PAID}"]


def _unpaid(shop: TinyShop) -> None:
    paid = shop.payments.pop(_PAID)
    del shop.ledger[f"capture-{_PAID}"]
    for name in [each for each in shop.ledger if each.startswith(f"refund-{_PAID}-")]:
        del shop.ledger[name]
    assert paid.state == "captured"


def _short(shop: TinyShop) -> None:
    state, total, history = shop.orders[_PAID]
    shop.orders[_PAID] = (state, total + PENCE, history)


def _kept(shop: TinyShop) -> None:
    shop.note(_REFUSED, "authorised", PENCE)
    shop.capture(_REFUSED)


def _live(shop: TinyShop) -> None:
    shop.restock(_TEA, 1)
    assert shop.hold(_REFUSED, {_TEA: 1})


def _gone(shop: TinyShop) -> None:
    shop.restock(_TEA, 1)
    assert shop.hold(_REFUSED, {_TEA: 1})
    shop.commit(_REFUSED)


def _cancelled(shop: TinyShop) -> None:
    shop.move(_PAID, "cancel", "cancelled")


FAULTS: dict[str, tuple[Callable[[TinyShop], None], set[str]]] = {
    "a unit vanished": (_shelf(opening=1), {"stock_not_conserved"}),
    "a unit came from nowhere": (_shelf(_MUG, opening=-1), {"stock_not_conserved"}),
    "more was shipped than there was": (_shelf(on_hand=-99, shipped=99), {"stock_negative"}),
    "a unit is held for nobody": (_shelf(opening=1, reserved=1), {"stock_reserved_differs"}),
    "an entry of the ledger is a penny too much": (
        _penny,
        {"ledger_sum", "ledger_unbalanced", "cash_differs"},
    ),
    "both entries of a capture were lost": (_lost_transaction, {"cash_differs"}),
    "more was given back than was taken": (
        _pay(_PAID, refunded_pence=10_000),
        {"payment_out_of_bounds", "cash_differs"},
    ),
    "more was taken than was held": (
        _pay(_PAID, amount_pence=1),
        {"payment_out_of_bounds", "confirmed_not_paid"},
    ),
    "money was taken of what was let go": (
        _pay(_PAID, state="voided"),
        {"payment_out_of_bounds", "confirmed_not_paid"},
    ),
    "an order was paid twice": (_twice, {"payment_repeated"}),
    "a step of a history was lost": (
        _order(_PAID, step_1=None),
        {"history_gap", "history_illegal"},
    ),
    "the last step of a history was lost": (_order(_REFUSED, step_2=None), {"history_gap"}),
    "a history has a step that the table does not": (
        _order(_REFUSED, step_2=Entry(2, "refuse", "rejected")),
        {"history_illegal"},
    ),
    "an order's state is not that of its last step": (
        _order(_PAID, state="paid"),
        {"order_state_differs"},
    ),
    "an order was confirmed and is not paid": (_unpaid, {"confirmed_not_paid"}),
    "an order was confirmed and is paid in part": (_short, {"confirmed_not_paid"}),
    "a confirmed order's stock was let go": (
        _hold(_PAID, "released"),
        {"confirmed_not_committed"},
    ),
    "a rejected order's stock is still held": (_live, {"rejected_keeps_stock"}),
    "a rejected order's stock is with the customer": (_gone, {"rejected_keeps_stock"}),
    "a rejected order's money is still held": (
        _pay(_REFUSED, state="authorised"),
        {"rejected_keeps_money"},
    ),
    "a rejected order's money was kept": (_kept, {"rejected_keeps_money"}),
    "a cancelled order keeps what it had": (
        _cancelled,
        {"cancelled_keeps_stock", "cancelled_keeps_money"},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@settings(max_examples=3)
@given(orders=_orders, luck=_luck)
def test_a_planted_fault_is_found_by_its_name(
    fault: str, orders: list[dict[str, int]], luck: random.Random
) -> None:
    """Each fault, in any shop that was sound: exactly the names that it deserves."""
    shop = _lived(orders, luck)
    assert [] == shop.judged()
    plant, names = FAULTS[fault]
    plant(shop)
    assert names == {violation.name for violation in shop.judged()}


def test_the_second_writing_of_the_table_is_as_the_first() -> None:
    """Every legal step of the agents' table is legal here, every other one is not."""
    ways = {INITIAL: [Entry(0, "receive", INITIAL.value)]}
    for (before, event), after in TRANSITIONS.items():
        ways.setdefault(after, [*ways[before], Entry(len(ways[before]), event.value, after.value)])
    assert set(ENDS) == {state.value for state in STATES_AT_REST}
    for before, way in ways.items():
        for event in {event for _, event in TRANSITIONS}:
            for after in ways:
                history = (*way, Entry(len(way), event.value, after.value))
                order = OrderSeen("order", after.value, 0, len(way), 0, history)
                is_legal = TRANSITIONS.get((before, event)) is after
                assert is_legal is not bool(list(judge_order(order))), (before, event, after)


def test_what_follows_a_confirmed_order_follows_it_once() -> None:
    """It ships once and is told of once; other notes may come more often; nobody else has any."""
    way = [
        Entry(0, "receive", "received"),
        Entry(1, "reserve", "reserved"),
        Entry(2, "authorise", "authorised"),
        Entry(3, "pay", "paid"),
        Entry(4, "confirm", "confirmed"),
    ]

    def names(*events: str, upto: int = 5) -> list[str]:
        state = way[upto - 1].state
        notes = [Entry(upto + n, event, state) for n, event in enumerate(events)]
        history = (*way[:upto], *notes)
        order = OrderSeen("order", state, 0, len(history) - 1, 0, history)
        return [violation.name for violation in judge_order(order)]

    assert [] == names("ship", "refund", "notify", "refund")
    assert ["history_illegal"] == names("ship", "notify", "ship")
    assert ["history_illegal"] == names("confirm")
    assert ["history_illegal"] == names("ship", upto=4)
    way.append(Entry(5, "cancel", "cancelled"))
    assert [] == names("notify", upto=6)  # of the confirmation that came before
    assert ["history_illegal"] == names("notify", "notify", upto=6)
    assert ["history_illegal"] == names("ship", upto=6)
    assert ["history_illegal"] == names("refund", upto=6)


def test_an_order_without_a_history_is_a_gap() -> None:
    """Also one that says that it took no step yet: the first entry is there from the beginning."""
    for steps in (-1, 0):
        (found,) = judge_order(OrderSeen("order", "received", 0, steps, 0))
        assert "history_gap" == found.name


def test_late_is_who_has_not_ended_in_time() -> None:
    """The oldest first, so many at the most; who has ended is not; who waits for stock has time."""
    orders = [
        OrderSeen("young", "reserved", 0, 1, 41_000_000),
        OrderSeen("old", "paid", 0, 4, 10_000_000),
        OrderSeen("older", "pending_payment", 0, 2, 9_000_000),
        OrderSeen("done", "rejected", 0, 2, 8_000_000),
        OrderSeen("waits", "back_ordered", 0, 1, 7_000_000),
    ]
    late = late_orders(orders, now_us=100_000_000, late_s=60.0, orders_max=5)
    assert ("older", "old") == late
    assert ("older",) == late_orders(orders, now_us=100_000_000, late_s=60.0, orders_max=1)
    month_later_us = 40 * 86_400_000_000
    assert "waits" in late_orders(orders, now_us=month_later_us, late_s=60.0, orders_max=5)


def test_a_violation_is_one_line() -> None:
    """Its name, whom it is about, and what was seen."""
    assert "a_name (tea): 3 of 4" == Violation("a_name", "tea", "3 of 4").text
