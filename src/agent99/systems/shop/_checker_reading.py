"""What the checker reads of each database, by plain SQL: aggregates, what changed lately, a page.

A page is some rows in the order of their ids, after those of the page before: so everything is
looked at again and again, what nobody changed too, at a cost that does not grow with the shop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.systems.shop._checker_rules import (
    ENDS,
    NOTHING,
    BooksSeen,
    Entry,
    HoldSeen,
    OrderSeen,
    PaymentSeen,
    ShelfSeen,
)

if TYPE_CHECKING:
    from sqlalchemy import Connection, TextClause

PAGE_ROWS: Final = 500
RECENT_ROWS_MAX: Final = 50_000
"""Of one look; what is beyond them comes with a page."""
_IDS_MAX: Final = 500  # in one statement

_ENDS = ", ".join(f"'{state}'" for state in ENDS)
_ORDER = "SELECT order_id, state, total_pence, steps, updated_us FROM orders"
_RECENT_ORDERS = f"{_ORDER} WHERE updated_us >= :since_us OR state NOT IN ({_ENDS}) LIMIT :rows_max"
_PAGE_OF_ORDERS = f"{_ORDER} WHERE order_id > :after ORDER BY order_id LIMIT :rows_max"
_HISTORY = (
    "SELECT order_id, step, event, state FROM order_history WHERE order_id IN :ids"
    " ORDER BY order_id, step"
)
_SHELVES = (
    "SELECT stock.product_id, opening, on_hand, reserved, shipped, restocked,"
    " CAST(coalesce(held, 0) AS BIGINT)"
    " FROM stock LEFT JOIN (SELECT product_id, sum(line.quantity - line.shipped) AS held"
    " FROM reservations JOIN reservation_lines AS line ON line.order_id = reservations.order_id"
    " WHERE reservations.state = 'reserved' GROUP BY product_id) AS live"
    " ON live.product_id = stock.product_id"
)
_HOLDS = "SELECT order_id, state FROM reservations WHERE order_id IN :ids"
_KEPT = (
    "SELECT order_id, CAST(sum(shipped - returned) AS BIGINT) FROM reservation_lines"
    " WHERE order_id IN :ids GROUP BY order_id"
)
_LEDGER = (
    "SELECT CAST(coalesce(sum(pence), 0) AS BIGINT),"
    " CAST(coalesce(sum(CASE WHEN account = 'cash' THEN pence ELSE 0 END), 0) AS BIGINT)"
    " FROM ledger"
)
_TAKEN = (
    "SELECT CAST(coalesce(sum(captured_pence), 0) AS BIGINT),"
    " CAST(coalesce(sum(refunded_pence), 0) AS BIGINT) FROM payments"
)
_PAYMENT = (
    "SELECT payment_id, order_id, state, amount_pence, captured_pence, refunded_pence FROM payments"
)
_RECENT_PAYMENTS = f"{_PAYMENT} WHERE updated_us >= :since_us LIMIT :rows_max"
_PAGE_OF_PAYMENTS = f"{_PAYMENT} WHERE payment_id > :after ORDER BY payment_id LIMIT :rows_max"
_PAYMENTS_OF = f"{_PAYMENT} WHERE order_id IN :ids"
# The entries of a transaction are written at one time: the window has all of them, or none.
_SUM = "SELECT transaction_id, CAST(sum(pence) AS BIGINT) FROM ledger"
_UNBALANCED = (
    f"{_SUM} WHERE at_us >= :since_us"
    " GROUP BY transaction_id HAVING sum(pence) <> 0 LIMIT :rows_max"
)
_PAGE_OF_LEDGER = (
    f"{_SUM} WHERE transaction_id > :after"
    " GROUP BY transaction_id ORDER BY transaction_id LIMIT :rows_max"
)


class OrdersRead(msgspec.Struct, frozen=True):
    """What was seen of the orders."""

    orders: tuple[OrderSeen, ...]
    """Those that moved since they were seen last, and a page; with their histories."""
    recent: tuple[OrderSeen, ...]
    """Those that changed lately or have not ended; without."""
    after: str | None
    """Where the next page begins; None: this was the last."""


class StockRead(msgspec.Struct, frozen=True):
    """What was seen of the stock."""

    shelves: tuple[ShelfSeen, ...]
    holds: Mapping[str, HoldSeen]
    """Of the orders that were asked for, by order."""


class MoneyRead(msgspec.Struct, frozen=True):
    """What was seen of the payments and the ledger."""

    books: BooksSeen
    payments: Mapping[str, PaymentSeen]
    """Those that changed lately, those of orders that were asked for, and a page; by their ids."""
    transactions: Mapping[str, int]
    """Pence of recent transactions that do not sum to 0, and of a page."""
    after_payment: str | None
    after_transaction: str | None

    def by_order(self) -> dict[str, list[PaymentSeen]]:
        """Return the payments by their orders."""
        found: dict[str, list[PaymentSeen]] = {}
        for payment in self.payments.values():
            if payment.order_id is not None:
                found.setdefault(payment.order_id, []).append(payment)
        return found


def read_orders(
    link: Connection, *, since_us: int, after: str | None, known: Mapping[str, tuple[str, int]]
) -> OrdersRead:
    """Read the orders that changed since a time, or have not ended, and a page.

    Args:
        link: A snapshot of the orders' database.
        since_us: What changed before is known, microseconds since the epoch.
        after: Where the page begins; None: no page.
        known: State and steps of orders whose history was seen, and is not read again.
    """
    recent = _recent(link, _RECENT_ORDERS, OrderSeen, since_us)
    page, after = _page(link, _PAGE_OF_ORDERS, OrderSeen, after)
    wanted = {
        each.order_id: each
        for each in recent
        if known.get(each.order_id) != (each.state, each.steps)
    }
    wanted |= {each.order_id: each for each in page}
    told: dict[str, list[Entry]] = {}
    for order_id, *entry in _of(link, _HISTORY, wanted):
        told.setdefault(order_id, []).append(Entry(*entry))
    orders = (
        msgspec.structs.replace(each, history=tuple(told.get(order_id, ())))
        for order_id, each in wanted.items()
    )
    return OrdersRead(tuple(orders), recent, after)


def read_stock(link: Connection, orders: Collection[OrderSeen]) -> StockRead:
    """Read the shelves, and what is held for those of the orders that have ended."""
    ended = [each.order_id for each in orders if each.state in ENDS]
    over = [each.order_id for each in orders if each.state in NOTHING]
    shelves = tuple(ShelfSeen(*row) for row in link.execute(_text(_SHELVES)))
    kept = dict(_of(link, _KEPT, over))
    holds = {
        order_id: HoldSeen(order_id, state, kept.get(order_id, 0))
        for order_id, state in _of(link, _HOLDS, ended)
    }
    return StockRead(shelves, holds)


def read_money(
    link: Connection,
    orders: Collection[OrderSeen],
    *,
    since_us: int,
    after_payment: str | None,
    after_transaction: str | None,
) -> MoneyRead:
    """Read the sums, what changed since a time, the payments of orders, and a page of each."""
    sums = [*link.execute(_text(_LEDGER)).one(), *link.execute(_text(_TAKEN)).one()]
    recent = _recent(link, _RECENT_PAYMENTS, PaymentSeen, since_us)
    page, after_payment = _page(link, _PAGE_OF_PAYMENTS, PaymentSeen, after_payment)
    theirs = [
        PaymentSeen(*row) for row in _of(link, _PAYMENTS_OF, [each.order_id for each in orders])
    ]
    unbalanced = _recent(link, _UNBALANCED, _Sum, since_us)
    entered, after_transaction = _page(link, _PAGE_OF_LEDGER, _Sum, after_transaction)
    return MoneyRead(
        BooksSeen(*sums),
        {each.payment_id: each for each in (*recent, *page, *theirs)},
        {each.transaction_id: each.pence for each in (*unbalanced, *entered)},
        after_payment,
        after_transaction,
    )


# --- inside ---------------------------------------------------------------------------------------


class _Sum(msgspec.Struct, frozen=True):
    transaction_id: str
    pence: int


def _recent(link: Connection, statement: str, kind: Any, since_us: int) -> tuple[Any, ...]:
    bounds = {"since_us": since_us, "rows_max": RECENT_ROWS_MAX}
    return tuple(kind(*row) for row in link.execute(_text(statement), bounds))


def _page(
    link: Connection, statement: str, kind: Any, after: str | None
) -> tuple[tuple[Any, ...], str | None]:
    """Return the rows after an id, and the last of their ids if there may be more."""
    if after is None:
        return (), None
    bounds = {"after": after, "rows_max": PAGE_ROWS}
    rows = link.execute(_text(statement), bounds).all()
    return tuple(kind(*row) for row in rows), rows[-1][0] if len(rows) == PAGE_ROWS else None


def _of(link: Connection, statement: str, ids: Collection[str]) -> Iterator[Any]:
    """Yield the rows of so many ids, some at a time."""
    every = sorted(ids)
    for start in range(0, len(every), _IDS_MAX):
        yield from link.execute(_text(statement), {"ids": every[start : start + _IDS_MAX]})


def _text(statement: str) -> TextClause:
    import sqlalchemy as sql  # noqa: PLC0415 - as late as its database

    clause = sql.text(statement)
    if ":ids" in statement:
        clause = clause.bindparams(sql.bindparam("ids", expanding=True))
    return clause
