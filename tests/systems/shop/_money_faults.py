"""Faults to plant in the money of a finished run: statements, and the names that must be found."""

from __future__ import annotations

from typing import Final

_CONFIRMED = "(SELECT min(order_id) FROM orders WHERE state = 'confirmed')"
_DECLINED = "(SELECT min(order_id) FROM orders WHERE reason = 'PAYMENT_ERROR')"
_PAYMENT = f"(SELECT payment_id FROM payments WHERE order_id = {_CONFIRMED})"


def _enter(transaction: str, pence: str, of: str = _CONFIRMED) -> str:
    """Return what enters a movement of so many pence into the cash for an order."""
    return (
        "INSERT INTO ledger (transaction_id, account, payment_id, pence, at_us)"
        f" SELECT {transaction}, account, payment_id, sign * {pence}, 0 FROM payments,"
        " (SELECT 'cash' AS account, 1 AS sign UNION SELECT 'sales', -1)"
        f" WHERE order_id = {of}"
    )


def _give_back(pence: str, of: str = _CONFIRMED) -> tuple[str, ...]:
    """Return what makes a refund of an order, whole in itself."""
    return (
        (
            "INSERT INTO refunds (refund_id, payment_id, number, amount_pence, transaction_id,"
            f" at_us) SELECT 'refund', payment_id, 1, {pence}, 'txn_refund', 0 FROM payments"
            f" WHERE order_id = {of}"
        ),
        _enter("'txn_refund'", f"-({pence})", of),
        f"UPDATE payments SET refunded_pence = {pence} WHERE order_id = {of}",
    )


_PAID_AND_REJECTED = (
    (
        "UPDATE payments SET state = 'captured', captured_pence = amount_pence,"
        f" transaction_id = 'txn_paid' WHERE order_id = {_DECLINED}"
    ),
    _enter("'txn_paid'", "amount_pence", _DECLINED),
)
_NO_STOCK = f"UPDATE orders SET reason = 'INVENTORY_ERROR' WHERE order_id = {_DECLINED}"

MONEY_FAULTS: Final[dict[str, tuple[tuple[str, ...], set[str]]]] = {
    "a penny too much was paid": (
        (
            (
                "UPDATE payments SET amount_pence = amount_pence + 1,"
                f" captured_pence = captured_pence + 1 WHERE order_id = {_CONFIRMED}"
            ),
        ),
        {"payment_wrong", "ledger_differs"},
    ),
    "a penny too much was held": (
        (f"UPDATE payments SET amount_pence = amount_pence + 1 WHERE order_id = {_CONFIRMED}",),
        {"payment_wrong"},
    ),
    "a penny too little was taken": (
        (f"UPDATE payments SET captured_pence = captured_pence - 1 WHERE order_id = {_CONFIRMED}",),
        {"payment_wrong", "ledger_differs"},
    ),
    "more was taken than held": (
        (
            (
                "UPDATE payments SET captured_pence = captured_pence + 1"
                f" WHERE order_id = {_CONFIRMED}"
            ),
            (
                "UPDATE ledger SET pence = pence + CASE account WHEN 'cash' THEN 1 ELSE -1 END"
                f" WHERE payment_id = {_PAYMENT}"
            ),
        ),
        {"payment_wrong", "payment_out_of_bounds"},
    ),
    "a declined payment took money": (
        (f"UPDATE payments SET captured_pence = amount_pence WHERE order_id = {_DECLINED}",),
        {"payment_out_of_bounds"},
    ),
    "a confirmed order's money is only held": (
        (
            (
                "UPDATE payments SET state = 'authorised', captured_pence = 0,"
                f" transaction_id = NULL WHERE order_id = {_CONFIRMED}"
            ),
            f"DELETE FROM ledger WHERE payment_id = {_PAYMENT}",
        ),
        {"payment_missing"},
    ),
    "a rejected order's money is still held": (
        (f"UPDATE payments SET state = 'authorised' WHERE order_id = {_DECLINED}",),
        {"authorisation_left_open", "decline_not_noted"},
    ),
    "money is held for an order that nobody placed": (
        (
            (
                "INSERT INTO payments (payment_id, order_id, customer_id, state, currency,"
                " amount_pence, captured_pence, at_us, updated_us)"
                " VALUES ('another', 'another', 'x', 'authorised', 'GBP', 1, 0, 0, 0)"
            ),
        ),
        {"authorisation_left_open"},
    ),
    "a refund crept in": (
        (f"UPDATE payments SET refunded_pence = 1 WHERE order_id = {_CONFIRMED}",),
        {"refund_wrong", "refunds_differ"},
    ),
    "a confirmed order was given money back": (_give_back("1"), {"refund_wrong"}),
    "more went back than was taken": (
        _give_back("captured_pence + 1"),
        {"refund_wrong", "payment_out_of_bounds"},
    ),
    "a refund never came to its payment": (_give_back("1")[:2], {"refunds_differ"}),
    "a refund never came to the ledger": (
        (_give_back("1")[0], _give_back("1")[2]),
        {"refund_wrong", "ledger_differs"},
    ),
    "money went back and nobody noted it": (
        (_enter("'txn_refund'", "-1"),),
        {"ledger_differs"},
    ),
    "a transaction was entered for another's payment": (
        (
            (
                "UPDATE ledger SET payment_id = (SELECT max(payment_id) FROM payments)"
                f" WHERE payment_id = {_PAYMENT}"
            ),
        ),
        {"ledger_differs"},
    ),
    "a rejected order was paid": (
        (*_PAID_AND_REJECTED, _NO_STOCK),
        {"shortage_without_scarcity", "payment_without_order"},
    ),
    "a rejected order was paid and given back in part": (
        (*_PAID_AND_REJECTED, *_give_back("1", _DECLINED), _NO_STOCK),
        {"shortage_without_scarcity", "payment_without_order"},
    ),
}

UNDONE: Final[dict[str, tuple[str, ...]]] = {
    "it was paid and given back": (
        *_PAID_AND_REJECTED,
        *_give_back("captured_pence", _DECLINED),
        _NO_STOCK,
    ),
    "it was held and let go": (
        f"UPDATE payments SET state = 'voided' WHERE order_id = {_DECLINED}",
        _NO_STOCK,
    ),
}
"""What a saga may do to the money of an order that it rejects: nothing of it is a fault. The order
is made one that was short of stock, and that is what is found: in this run nothing is short."""
