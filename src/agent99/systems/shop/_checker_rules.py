"""What holds in the shop at every moment, and the names of what does not. Pure.

The rules are written down a second time, beside those that the agents work by, so that a mistake in
the first writing shows. What is judged was read in one snapshot of one database; only
`judge_outcomes` looks at three, and says in which order they must have been read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

ENDS: Final = ("confirmed", "rejected", "cancelled")
"""The states in which an order stays, unless its customer cancels a confirmed one."""
WAIT_S_MAX: Final = 31 * 86_400.0
"""Seconds after which an order waits for stock for too long."""
NOTHING: Final = frozenset({"rejected", "cancelled"})
"""The states in which it has neither stock nor money."""
_NEXT: Final = {
    ("", "receive"): "received",
    ("received", "reserve"): "reserved",
    ("received", "refuse"): "rejected",
    ("received", "await_stock"): "back_ordered",
    ("back_ordered", "reserve"): "reserved",
    ("back_ordered", "refuse"): "rejected",
    ("back_ordered", "cancel"): "cancelled",
    ("reserved", "authorise"): "authorised",
    ("reserved", "lose_sight_of_payment"): "pending_payment",
    ("reserved", "decline"): "rejected",
    ("pending_payment", "authorise"): "authorised",
    ("pending_payment", "decline"): "rejected",
    ("authorised", "pay"): "paid",
    ("authorised", "decline"): "rejected",
    ("paid", "confirm"): "confirmed",
    ("received", "cancel"): "cancelled",
    ("reserved", "cancel"): "cancelled",
    ("pending_payment", "cancel"): "cancelled",
    ("authorised", "cancel"): "cancelled",
    ("confirmed", "cancel"): "cancelled",
}
_STEPS: Final = frozenset(event for _, event in _NEXT)
_ONCE: Final = frozenset({"ship", "notify"})
"""What follows a confirmed order once; other notes may follow it more often."""


class Violation(msgspec.Struct, frozen=True):
    """Something that never may be, and was seen."""

    name: str
    """Stable: `stock_not_conserved` and so on."""
    subject: str
    """The id of the product, order, payment or transaction; `all`: of them all."""
    seen: str
    """In words, with the numbers."""

    @property
    def text(self) -> str:
        """Name, subject and what was seen, in one line."""
        return f"{self.name} ({self.subject}): {self.seen}"


class Entry(msgspec.Struct, frozen=True):
    """One line of an order's history."""

    step: int
    """Starts at 0."""
    event: str
    state: str
    """After it."""


class OrderSeen(msgspec.Struct, frozen=True):
    """An order and its history."""

    order_id: str
    state: str
    total_pence: int
    steps: int
    """The number of its last step."""
    updated_us: int
    """When it took its last step, microseconds since the epoch."""
    history: tuple[Entry, ...] = ()
    """In the order of the steps."""


class ShelfSeen(msgspec.Struct, frozen=True):
    """The stock of a product."""

    product_id: str
    opening: int
    on_hand: int
    reserved: int
    shipped: int
    restocked: int
    held: int
    """Units that live reservations hold, by their lines."""


class HoldSeen(msgspec.Struct, frozen=True):
    """The reservation of an order."""

    order_id: str
    state: str
    kept: int = 0
    """Units that left and did not come back."""


class PaymentSeen(msgspec.Struct, frozen=True):
    """A payment."""

    payment_id: str
    order_id: str | None
    """None: it is for no order."""
    state: str
    amount_pence: int
    """What was authorised."""
    captured_pence: int
    refunded_pence: int


class BooksSeen(msgspec.Struct, frozen=True):
    """The sums of the ledger, and of the payments beside it."""

    ledger_pence: int
    cash_pence: int
    captured_pence: int
    refunded_pence: int


def judge_shelf(shelf: ShelfSeen) -> Iterator[Violation]:
    """Look whether a product's units are all there, once, and held for somebody."""
    there = shelf.on_hand + shelf.reserved + shelf.shipped
    ever = shelf.opening + shelf.restocked
    if there != ever:
        seen = f"{_units(shelf)}, {shelf.opening} opening: {there} units of {ever}"
        yield Violation("stock_not_conserved", shelf.product_id, seen)
    if min(shelf.on_hand, shelf.reserved, shelf.shipped, shelf.restocked) < 0:
        yield Violation("stock_negative", shelf.product_id, _units(shelf))
    if shelf.reserved != shelf.held:
        seen = f"{shelf.reserved} reserved, and live reservations hold {shelf.held}"
        yield Violation("stock_reserved_differs", shelf.product_id, seen)


def judge_books(books: BooksSeen) -> Iterator[Violation]:
    """Look whether the ledger sums to 0, and its cash is what was taken and not given back."""
    if books.ledger_pence != 0:
        seen = f"its entries sum to {books.ledger_pence} pence"
        yield Violation("ledger_sum", "all", seen)
    kept = books.captured_pence - books.refunded_pence
    if books.cash_pence != kept:
        seen = (
            f"{books.cash_pence} pence of cash, and payments captured {books.captured_pence}"
            f" and refunded {books.refunded_pence}: {kept}"
        )
        yield Violation("cash_differs", "all", seen)


def judge_transactions(sums: Mapping[str, int]) -> Iterator[Violation]:
    """Look whether the entries of each transaction sum to 0.

    Args:
        sums: Pence by transaction; those of which it is known may be left out.
    """
    for transaction_id, pence in sums.items():
        if pence != 0:
            seen = f"its entries sum to {pence} pence"
            yield Violation("ledger_unbalanced", transaction_id, seen)


def judge_payment(payment: PaymentSeen) -> Iterator[Violation]:
    """Look whether it keeps `refunded <= captured <= authorised`, and took only what it should."""
    bounds = (0, payment.refunded_pence, payment.captured_pence, payment.amount_pence)
    is_taken = payment.state == "captured" or payment.captured_pence == 0
    if sorted(bounds) != list(bounds) or not is_taken:
        yield Violation("payment_out_of_bounds", payment.payment_id, _said(payment))


def judge_order(order: OrderSeen) -> Iterator[Violation]:
    """Look whether its history is whole and legal, and ends in its state."""
    history = order.history
    steps = [entry.step for entry in history]
    if not steps or steps != list(range(order.steps + 1)):
        seen = f"steps {_short(steps)} of 0 to {order.steps}"
        yield Violation("history_gap", order.order_id, seen)
    elif order.state != history[-1].state:
        seen = f"it is {order.state}, and its history ends {history[-1].state}"
        yield Violation("order_state_differs", order.order_id, seen)
    illegal = _first_illegal(history)
    if illegal is not None:
        yield Violation("history_illegal", order.order_id, illegal)


def judge_outcomes(
    orders: Iterable[OrderSeen],
    holds: Mapping[str, HoldSeen],
    payments: Mapping[str, Sequence[PaymentSeen]],
) -> Iterator[Violation]:
    """Look whether the stock and the money of orders are where their states say.

    The orders must have been read first. What is asked of stock and money here is settled before
    the order says so, and stays: a confirmed order's stock was committed and its money captured,
    neither of which is ever undone (what comes back is restocked, what is given back refunded); a
    rejected or cancelled order's stock and money were let go, with a note that refuses whoever
    comes late, or are back. So
    what is read after the order shows it, however much later. Read in the other order, an order
    could be reserved, paid and confirmed between the two looks, and a sound shop would be accused.

    A confirmed order may be given money back, all of it too: what it keeps is not asked.

    Args:
        orders: As they were seen; those that have not ended are asked for one payment alone.
        holds: The reservations by order, read after them.
        payments: The payments by order, read after them.
    """
    for order in orders:
        hold, paid = holds.get(order.order_id), payments.get(order.order_id, ())
        if len(paid) > 1:
            seen = "; ".join(_said(each) for each in paid)
            yield Violation("payment_repeated", order.order_id, seen)
        if order.state == "confirmed":
            yield from _judge_confirmed(order, hold, paid)
        elif order.state in NOTHING:
            yield from _judge_nothing(order, hold, paid)


def late_orders(
    orders: Iterable[OrderSeen], *, now_us: int, late_s: float, orders_max: int
) -> tuple[str, ...]:
    """Return the orders to which nothing has happened for too long, and that have not ended.

    The oldest first. Those that wait for stock have more time.
    """
    until_us = now_us - int(late_s * 1e6)
    waits_us = now_us - int(WAIT_S_MAX * 1e6)
    late = [
        each
        for each in orders
        if each.state not in ENDS
        and each.updated_us < (waits_us if each.state == "back_ordered" else until_us)
    ]
    late.sort(key=lambda each: each.updated_us)
    return tuple(each.order_id for each in late[:orders_max])


# --- inside ---------------------------------------------------------------------------------------


def _judge_confirmed(
    order: OrderSeen, hold: HoldSeen | None, paid: Sequence[PaymentSeen]
) -> Iterator[Violation]:
    total = order.total_pence
    if not any(
        (each.state, each.amount_pence, each.captured_pence) == ("captured", total, total)
        for each in paid
    ):
        seen = f"{total} pence are confirmed; {_all_said(paid)}"
        yield Violation("confirmed_not_paid", order.order_id, seen)
    if hold is None or hold.state != "committed":
        seen = "it has no reservation" if hold is None else f"its reservation is {hold.state}"
        yield Violation("confirmed_not_committed", order.order_id, seen)


def _judge_nothing(
    order: OrderSeen, hold: HoldSeen | None, paid: Sequence[PaymentSeen]
) -> Iterator[Violation]:
    if hold is not None and (hold.state == "reserved" or hold.kept != 0):
        seen = f"its reservation is {hold.state}, and {hold.kept} units of it are with the customer"
        yield Violation(f"{order.state}_keeps_stock", order.order_id, seen)
    kept = sum(each.captured_pence - each.refunded_pence for each in paid)
    if kept != 0 or any(each.state == "authorised" for each in paid):
        yield Violation(f"{order.state}_keeps_money", order.order_id, _all_said(paid))


def _first_illegal(history: Sequence[Entry]) -> str | None:
    """Return the first entry that the table does not have; None: there is none."""
    state, noted = "", set[str]()
    for entry in history:
        expected = _NEXT.get((state, entry.event))
        is_told_late = state == "cancelled" and entry.event == "notify"  # of its confirmation
        if (state == "confirmed" or is_told_late) and entry.event not in _STEPS | noted:
            expected = state  # a note of what followed leaves it as it is
            noted |= _ONCE & {entry.event}
        if entry.state != expected:
            return f"step {entry.step}: {state or 'nothing'} ─{entry.event}→ {entry.state}"
        state = entry.state
    return None


def _units(shelf: ShelfSeen) -> str:
    return (
        f"{shelf.on_hand} on hand, {shelf.reserved} reserved, {shelf.shipped} shipped,"
        f" {shelf.restocked} restocked"
    )


def _said(payment: PaymentSeen) -> str:
    return (
        f"payment {payment.payment_id} is {payment.state}: {payment.amount_pence} pence authorised,"
        f" {payment.captured_pence} captured, {payment.refunded_pence} refunded"
    )


def _all_said(paid: Sequence[PaymentSeen]) -> str:
    return "; ".join(_said(each) for each in paid) or "there is no payment"


def _short(steps: Sequence[int]) -> str:
    shown = ", ".join(map(str, steps[:20]))
    return f"{shown}, …" if len(steps) > 20 else shown or "none"
