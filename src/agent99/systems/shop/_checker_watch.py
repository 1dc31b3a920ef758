"""Looking at the databases of the shop again and again: what was seen, and what may not be."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from agent99.errors import Agent99Error
from agent99.systems.shop._check_links import snapshot
from agent99.systems.shop._checker_model import Verdict
from agent99.systems.shop._checker_reading import (
    MoneyRead,
    OrdersRead,
    StockRead,
    read_money,
    read_orders,
    read_stock,
)
from agent99.systems.shop._checker_rules import (
    OrderSeen,
    Violation,
    judge_books,
    judge_order,
    judge_outcomes,
    judge_payment,
    judge_shelf,
    judge_transactions,
    late_orders,
)
from agent99.systems.shop._settings import ShopSettings

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

VIOLATIONS_MAX: Final = 20
LATE_MAX: Final = 20
OVERLAP_S: Final = 10.0
"""Seconds by which a look goes back behind the one before: a row has the time at which its
transaction began, and is there when it ends. What takes longer comes with a page."""
BACK_S_MAX: Final = 60.0
"""Seconds that it goes back at most, after a database was away; the rest comes with pages."""


class _Places(msgspec.Struct, frozen=True):
    """Where the next pages begin; None: the table is through, for this round."""

    order: str | None = ""
    payment: str | None = ""
    transaction: str | None = ""


class Watch:
    """Looks at the three databases, and keeps the first violations that it sees.

    A new one knows nothing: within some looks it has seen everything again, so that what is wrong
    is found by whoever looks, however often the one before was killed.

    Invariant: `violations` only grows, up to `VIOLATIONS_MAX`; each has a name and subject of its
    own.

    Args:
        settings: Where the databases are.
        late_s: Seconds after which an order that has not ended is late.
    """

    def __init__(self, settings: ShopSettings, *, late_s: float) -> None:
        self._settings = settings
        self._late_s = late_s
        self._looking = threading.Lock()
        self._places = _Places()
        self._complete_us = 0  # when the last look began that saw all
        self._known: dict[str, tuple[str, int]] = {}
        self.violations: tuple[Violation, ...] = ()
        """The first that were seen, in that order."""
        self._late: tuple[str, ...] = ()
        self._looks = 0
        self._rounds = 0
        self._unread = ""

    def __repr__(self) -> str:
        return f"Watch(looks={self._looks}, violations={len(self.violations)})"

    def verdict(self) -> Verdict:
        """Return what came of all looks so far."""
        return Verdict(
            looks=self._looks,
            rounds=self._rounds,
            violations=tuple(each.text for each in self.violations),
            late=self._late,
            last_look_us=self._complete_us or None,
            unread=self._unread,
        )

    def look(self, now_us: int) -> None:
        """Look once; it blocks, and of several threads one looks at a time.

        What cannot be read now is judged at a later look, which begins where this one began.

        Args:
            now_us: Microseconds since the epoch.
        """
        with self._looking:
            self._look(now_us)

    def _look(self, now_us: int) -> None:
        settings, places, troubles = self._settings, self._places, list[str]()
        since_us = max(self._complete_us - int(OVERLAP_S * 1e6), now_us - int(BACK_S_MAX * 1e6))
        orders = _read(
            settings.orders_url,
            partial(read_orders, since_us=since_us, after=places.order, known=self._known),
            troubles,
        )
        seen = () if orders is None else orders.orders
        # Stock and money are read after the orders, always: `judge_outcomes` says why.
        stock = _read(settings.stock_url, partial(read_stock, orders=seen), troubles)
        money = _read(
            settings.payments_url,
            partial(
                read_money,
                orders=seen,
                since_us=since_us,
                after_payment=places.payment,
                after_transaction=places.transaction,
            ),
            troubles,
        )
        if orders is not None:
            self._late = self._late_of(orders.recent, now_us)
        self._keep(_judge(orders, stock, money))
        self._unread = "; ".join(troubles)
        if orders is not None and stock is not None and money is not None:
            self._looks += 1
            self._complete_us = now_us
            self._known = {each.order_id: (each.state, each.steps) for each in orders.recent}
            self._turn_pages(_Places(orders.after, money.after_payment, money.after_transaction))

    def _turn_pages(self, places: _Places) -> None:
        is_round = places == _Places(None, None, None)
        self._rounds += is_round
        self._places = _Places() if is_round else places

    def _keep(self, violations: Iterable[Violation]) -> None:
        found = {(each.name, each.subject): each for each in self.violations}
        for each in violations:
            if len(found) >= VIOLATIONS_MAX:
                break
            found.setdefault((each.name, each.subject), each)
        self.violations = tuple(found.values())  # at once: another thread may read them

    def _late_of(self, orders: Iterable[OrderSeen], now_us: int) -> tuple[str, ...]:
        return late_orders(orders, now_us=now_us, late_s=self._late_s, orders_max=LATE_MAX)


def _read(url: str, read: Callable[[Connection], T], troubles: list[str]) -> T | None:
    """Read something; None: it cannot be read now, and the troubles say why."""
    try:
        with snapshot(url) as link:
            return read(link)
    except Agent99Error as error:
        troubles.append(str(error))
        return None


def _judge(
    orders: OrdersRead | None, stock: StockRead | None, money: MoneyRead | None
) -> Iterable[Violation]:
    """Judge what was read, and what belongs together if all of it was."""
    if orders is not None:
        yield from chain.from_iterable(map(judge_order, orders.orders))
    if stock is not None:
        yield from chain.from_iterable(map(judge_shelf, stock.shelves))
    if money is not None:
        yield from judge_books(money.books)
        yield from judge_transactions(money.transactions)
        yield from chain.from_iterable(map(judge_payment, money.payments.values()))
    if orders is not None and stock is not None and money is not None:
        yield from judge_outcomes(orders.orders, stock.holds, money.by_order())
