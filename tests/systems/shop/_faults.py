"""Faults to plant in a finished run: statements, and the names that the check must find."""

from __future__ import annotations

from typing import Final

_ONE_CONFIRMED = "(SELECT min(order_id) FROM orders WHERE state = 'confirmed')"
_ONE_DECLINED = "(SELECT min(order_id) FROM orders WHERE reason = 'PAYMENT_ERROR')"
_ONE_SOLD = "(SELECT min(product_id) FROM stock WHERE shipped > 1)"

FAULTS: Final[dict[str, tuple[tuple[str, ...], set[str]]]] = {
    "a quantity was flipped": (
        (f"UPDATE order_lines SET quantity = quantity + 1 WHERE order_id = {_ONE_CONFIRMED}",),
        {"order_lines_wrong"},
    ),
    "a price was changed by a penny, and the total with it": (
        (
            (
                f"UPDATE order_lines SET unit_price_pence = unit_price_pence + 1"
                f" WHERE order_id = {_ONE_CONFIRMED} AND line = 0"
            ),
            f"UPDATE orders SET total_pence = total_pence + 1 WHERE order_id = {_ONE_CONFIRMED}",
        ),
        {"order_lines_wrong", "order_total_wrong"},
    ),
    "a payment was dropped": (
        (
            (
                "DELETE FROM ledger WHERE payment_id ="
                f" (SELECT payment_id FROM payments WHERE order_id = {_ONE_CONFIRMED})"
            ),
            f"DELETE FROM payments WHERE order_id = {_ONE_CONFIRMED}",
        ),
        {"payment_missing"},
    ),
    "a payment was taken twice": (
        (
            (
                "INSERT INTO payments SELECT 'another', 'another', customer_id, state, currency,"
                " amount_pence, 0, 'txn_another', at_us FROM payments"
                f" WHERE order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"payment_without_order", "ledger_differs"},
    ),
    "a penny too much was paid": (
        (f"UPDATE payments SET amount_pence = amount_pence + 1 WHERE order_id = {_ONE_CONFIRMED}",),
        {"payment_wrong", "ledger_differs"},
    ),
    "somebody else paid": (
        (f"UPDATE payments SET customer_id = 'x' WHERE order_id = {_ONE_CONFIRMED}",),
        {"payment_wrong"},
    ),
    "a refund crept in": (
        (f"UPDATE payments SET refunded_pence = 1 WHERE order_id = {_ONE_CONFIRMED}",),
        {"refund_unexpected"},
    ),
    "an entry of the ledger was changed": (
        (
            (
                "UPDATE ledger SET pence = pence + 1 WHERE account = 'cash' AND transaction_id ="
                " (SELECT min(transaction_id) FROM ledger)"
            ),
        ),
        {"ledger_unbalanced", "ledger_differs"},
    ),
    "both entries of a transaction were lost": (
        ("DELETE FROM ledger WHERE transaction_id = (SELECT min(transaction_id) FROM ledger)",),
        {"ledger_differs"},
    ),
    "an order was invented": (
        (
            (
                "INSERT INTO orders SELECT 'invented', customer_id, state, total_pence, address,"
                f" fingerprint, reason, failure, steps, received_us, updated_us FROM orders"
                f" WHERE order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"order_invented", "order_history_broken", "reservation_wrong", "payment_missing"},
    ),
    "an order was lost": (
        (
            (
                "DELETE FROM order_history WHERE order_id = (SELECT max(order_id) FROM orders"
                " WHERE state = 'confirmed')"
            ),
            (
                "DELETE FROM order_lines WHERE order_id = (SELECT max(order_id) FROM orders"
                " WHERE state = 'confirmed')"
            ),
            (
                "DELETE FROM orders WHERE order_id = (SELECT max(order_id) FROM orders"
                " WHERE state = 'confirmed')"
            ),
        ),
        {
            "order_missing",
            "order_lines_wrong",
            "reservation_wrong",
            "payment_without_order",
            "stock_shipped_wrong",
        },
    ),
    "an order was left in the middle": (
        (f"UPDATE orders SET state = 'paid' WHERE order_id = {_ONE_CONFIRMED}",),
        {
            "order_unfinished",
            "order_history_broken",
            "reservation_wrong",
            "payment_without_order",
            "stock_shipped_wrong",
        },
    ),
    "an order belongs to somebody else": (
        (f"UPDATE orders SET customer_id = 'x' WHERE order_id = {_ONE_CONFIRMED}",),
        {"order_customer_wrong"},
    ),
    "a step of a history was lost": (
        (f"DELETE FROM order_history WHERE step = 1 AND order_id = {_ONE_CONFIRMED}",),
        {"order_history_broken"},
    ),
    "a declined order was confirmed": (
        (f"UPDATE orders SET state = 'confirmed', reason = NULL WHERE order_id = {_ONE_DECLINED}",),
        {
            "decline_missed",
            "order_history_broken",
            "reservation_wrong",
            "payment_missing",
            "decline_not_noted",
            "stock_shipped_wrong",
        },
    ),
    "an order was rejected for its payment, against the rule": (
        (
            (
                "UPDATE orders SET state = 'rejected', reason = 'PAYMENT_ERROR'"
                f" WHERE order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {
            "decline_invented",
            "order_history_broken",
            "reservation_wrong",
            "payment_without_order",
            "decline_not_noted",
            "stock_shipped_wrong",
        },
    ),
    "a rejection has no reason": (
        (f"UPDATE orders SET reason = NULL WHERE order_id = {_ONE_DECLINED}",),
        {"rejection_unexplained", "decline_not_noted"},
    ),
    "an order was short of what there is": (
        (f"UPDATE orders SET reason = 'INVENTORY_ERROR' WHERE order_id = {_ONE_DECLINED}",),
        {"shortage_without_scarcity", "decline_not_noted"},
    ),
    "a unit vanished": (
        (f"UPDATE stock SET shipped = shipped - 1 WHERE product_id = {_ONE_SOLD}",),
        {"stock_not_conserved", "stock_shipped_wrong"},
    ),
    "a unit never left": (
        (
            (
                "UPDATE stock SET shipped = shipped - 1, on_hand = on_hand + 1"
                f" WHERE product_id = {_ONE_SOLD}"
            ),
        ),
        {"stock_shipped_wrong"},
    ),
    "a unit is still held": (
        (
            (
                "UPDATE stock SET shipped = shipped - 1, reserved = reserved + 1"
                f" WHERE product_id = {_ONE_SOLD}"
            ),
        ),
        {"stock_left_reserved", "stock_shipped_wrong"},
    ),
    "more was sold than there was": (
        (
            (
                "UPDATE stock SET shipped = shipped + 1, on_hand = -1 - reserved"
                " WHERE on_hand = 0 AND shipped ="
                " (SELECT max(shipped) FROM stock WHERE on_hand = 0)"
            ),
        ),
        {"stock_negative", "stock_shipped_wrong"},
    ),
    "the opening stock was another": (
        (
            (
                "UPDATE stock SET opening = opening + 1, on_hand = on_hand + 1"
                f" WHERE product_id = {_ONE_SOLD}"
            ),
        ),
        {"stock_opening_wrong"},
    ),
    "a product was never on the shelves": (
        (
            f"DELETE FROM reservation_lines WHERE product_id = {_ONE_SOLD}",
            f"DELETE FROM stock WHERE product_id = {_ONE_SOLD}",
        ),
        {"stock_opening_wrong", "stock_shipped_wrong", "reservation_lines_wrong"},
    ),
    "a reservation was never committed": (
        (f"UPDATE reservations SET state = 'reserved' WHERE order_id = {_ONE_CONFIRMED}",),
        {"reservation_wrong"},
    ),
    "a declined order's stock was never released": (
        (f"UPDATE reservations SET state = 'committed' WHERE order_id = {_ONE_DECLINED}",),
        {"reservation_wrong"},
    ),
    "other units were held": (
        (
            (
                "UPDATE reservation_lines SET quantity = quantity + 1"
                f" WHERE order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"reservation_lines_wrong"},
    ),
    "a decline was not noted": (
        (f"DELETE FROM payments WHERE order_id = {_ONE_DECLINED}",),
        {"decline_not_noted"},
    ),
}
