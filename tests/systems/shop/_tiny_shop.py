"""A shop of a few dictionaries, whose orders live as they do in the real one, a transaction a step.

It knows nothing of the agents' code: what it does is what the checker's rules must let pass.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from agent99.systems.shop._checker_rules import (
    BooksSeen,
    Entry,
    HoldSeen,
    OrderSeen,
    PaymentSeen,
    ShelfSeen,
    Violation,
    judge_books,
    judge_order,
    judge_outcomes,
    judge_payment,
    judge_shelf,
    judge_transactions,
)

PENCE = 100
"""Of a unit, whatever it is."""
Row = dict[str, int]


class TinyShop:
    """Three databases: orders with their histories, shelves with holds, payments with a ledger."""

    def __init__(self, opening: Row) -> None:
        self.orders: dict[str, tuple[str, int, list[Entry]]] = {}
        self.steps: dict[str, int] = {}
        self.shelves = {
            name: {"opening": units, "on_hand": units, "reserved": 0, "shipped": 0, "restocked": 0}
            for name, units in opening.items()
        }
        self.holds: dict[str, tuple[str, dict[str, Row]]] = {}
        self.payments: dict[str, PaymentSeen] = {}
        self.ledger: dict[str, Row] = {}

    # --- orders -----------------------------------------------------------------------------------

    def move(self, order: str, event: str, state: str, pence: int = 0) -> None:
        """Write a step into an order's history; the first one makes it."""
        _, total, history = self.orders.get(order, ("", pence, []))
        entry = Entry(len(history), event, state)
        self.orders[order] = (state, total, [*history, entry])
        self.steps[order] = entry.step

    # --- stock ------------------------------------------------------------------------------------

    def hold(self, order: str, lines: Row) -> bool:
        """Hold all lines, or none."""
        if any(self.shelves[name]["on_hand"] < units for name, units in lines.items()):
            return False
        for name, units in lines.items():
            self._shift(name, on_hand=-units, reserved=units)
        rows = {
            name: {"quantity": units, "shipped": 0, "returned": 0} for name, units in lines.items()
        }
        self.holds[order] = ("reserved", rows)
        return True

    def commit(self, order: str) -> None:
        """Ship what is held."""
        _, rows = self.holds[order]
        for name, row in rows.items():
            self._shift(name, reserved=-row["quantity"], shipped=row["quantity"])
            row["shipped"] = row["quantity"]
        self.holds[order] = ("committed", rows)

    def let_go(self, order: str) -> None:
        """Put back what is held, or what has left; who comes late finds a note."""
        state, rows = self.holds.get(order, ("released", {}))
        if state == "committed":
            for name, row in rows.items():
                self.take_back(order, name, row["shipped"] - row["returned"])
            return
        for name, row in rows.items():
            self._shift(name, reserved=-row["quantity"], on_hand=row["quantity"])
        self.holds[order] = ("released", rows)

    def take_back(self, order: str, name: str, units: int) -> None:
        """Put units that have left on the shelf."""
        self._shift(name, on_hand=units, restocked=units)
        self.holds[order][1][name]["returned"] += units

    def restock(self, name: str, units: int) -> None:
        """Put new units on the shelf."""
        self._shift(name, on_hand=units, restocked=units)

    # --- money ------------------------------------------------------------------------------------

    def note(self, order: str, state: str, amount: int, captured: int = 0) -> None:
        """Write a payment down."""
        self.payments[order] = PaymentSeen(f"pay-{order}", order, state, amount, captured, 0)

    def capture(self, order: str) -> None:
        """Take what is held."""
        amount = self.payments[order].amount_pence
        self.note(order, "captured", amount, amount)
        self._enter(f"capture-{order}", amount)

    def void(self, order: str) -> None:
        """Let go what is held; who comes late finds a note."""
        held = self.payments.get(order)
        if held is None or held.state == "authorised":
            self.note(order, "voided", 0 if held is None else held.amount_pence)

    def refund(self, order: str, pence: int) -> None:
        """Give money back."""
        paid = self.payments[order]
        back = paid.refunded_pence + pence
        self.payments[order] = PaymentSeen(
            paid.payment_id, order, paid.state, paid.amount_pence, paid.captured_pence, back
        )
        self._enter(f"refund-{order}-{back}", -pence)

    # --- what is seen of it -----------------------------------------------------------------------

    def orders_seen(self) -> list[OrderSeen]:
        """Return the orders, as in one snapshot."""
        return [
            OrderSeen(name, state, total, self.steps[name], 0, tuple(history))
            for name, (state, total, history) in self.orders.items()
        ]

    def shelves_seen(self) -> list[ShelfSeen]:
        """Return the stock, as in one snapshot."""
        held = dict.fromkeys(self.shelves, 0)
        for state, rows in self.holds.values():
            for name, row in rows.items():
                held[name] += row["quantity"] - row["shipped"] if state == "reserved" else 0
        return [ShelfSeen(name, **row, held=held[name]) for name, row in self.shelves.items()]

    def holds_seen(self) -> dict[str, HoldSeen]:
        """Return the reservations, as in one snapshot."""
        return {
            name: HoldSeen(name, state, sum(r["shipped"] - r["returned"] for r in rows.values()))
            for name, (state, rows) in self.holds.items()
        }

    def payments_seen(self) -> dict[str, list[PaymentSeen]]:
        """Return the payments by order, as in one snapshot."""
        found: dict[str, list[PaymentSeen]] = {}
        for payment in self.payments.values():
            found.setdefault(payment.order_id or "", []).append(payment)
        return found

    def books_seen(self) -> BooksSeen:
        """Return the sums, as in one snapshot."""
        return BooksSeen(
            sum(sum(row.values()) for row in self.ledger.values()),
            sum(row["cash"] for row in self.ledger.values()),
            sum(each.captured_pence for each in self.payments.values()),
            sum(each.refunded_pence for each in self.payments.values()),
        )

    def judged(self) -> list[Violation]:
        """Return all that is wrong in it, in each database and between them."""
        sums = {name: sum(row.values()) for name, row in self.ledger.items()}
        found = [*judge_books(self.books_seen()), *judge_transactions(sums)]
        for shelf in self.shelves_seen():
            found += judge_shelf(shelf)
        for order in self.orders_seen():
            found += judge_order(order)
        for payment in self.payments.values():
            found += judge_payment(payment)
        found += judge_outcomes(self.orders_seen(), self.holds_seen(), self.payments_seen())
        return found

    def _shift(self, name: str, **units: int) -> None:
        for part, change in units.items():
            self.shelves[name][part] += change

    def _enter(self, transaction: str, pence: int) -> None:
        self.ledger[transaction] = {"cash": pence, "sales": -pence}


def life(
    shop: TinyShop, order: str, lines: Row, luck: random.Random, fate: str = ""
) -> Iterator[None]:
    """Live one order, a transaction a step; a `fate` of `confirmed` or `declined` is its end.

    One whose fate it is to be confirmed keeps some of what it bought.
    """
    total = PENCE * sum(lines.values())

    def happens(share: float) -> bool:
        return not fate and luck.random() < share

    shop.move(order, "receive", "received", total)
    yield
    if not shop.hold(order, lines):
        shop.move(order, "refuse", "rejected")
        return
    yield
    shop.move(order, "reserve", "reserved")
    yield
    if happens(0.3):
        shop.move(order, "lose_sight_of_payment", "pending_payment")
        yield
    if fate == "declined" or happens(0.2):
        shop.note(order, "declined", total)
        yield from undo(shop, order)
        return
    if happens(0.1):  # the bank's word never came
        yield from undo(shop, order)
        return
    shop.note(order, "authorised", total)
    yield
    shop.move(order, "authorise", "authorised")
    yield
    if happens(0.2):  # it may still be refused, before or after its stock is committed
        if happens(0.5):
            shop.commit(order)
            yield
        yield from undo(shop, order)
        return
    shop.commit(order)
    yield
    shop.capture(order)
    yield
    shop.move(order, "pay", "paid")
    yield
    shop.move(order, "confirm", "confirmed")
    yield
    yield from afterwards(shop, order, luck, kept=1 if fate else 0)


def undo(shop: TinyShop, order: str) -> Iterator[None]:
    """Let go of the money, then of the stock; that the order is rejected comes last."""
    yield
    shop.void(order)
    yield
    shop.let_go(order)
    yield
    shop.move(order, "decline", "rejected")


def afterwards(shop: TinyShop, order: str, luck: random.Random, kept: int) -> Iterator[None]:
    """Ship it and tell of it, in either order; and perhaps take back all but `kept` of a line."""
    for event in luck.sample(["ship", "notify"], 2):
        shop.move(order, event, "confirmed")
        yield
    for name, row in shop.holds[order][1].items():
        units = luck.randint(0, row["shipped"] - kept)
        if units:
            shop.take_back(order, name, units)
            yield
            shop.refund(order, PENCE * units)
            yield
            shop.move(order, "refund", "confirmed")
            yield
