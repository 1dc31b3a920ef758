"""Faults to plant in a finished run: statements, and the names that the check must find."""

from __future__ import annotations

from typing import Final

_ONE_CONFIRMED = "(SELECT min(order_id) FROM orders WHERE state = 'confirmed')"
_ONE_CANCELLED = "(SELECT min(order_id) FROM orders WHERE state = 'cancelled')"
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
                " amount_pence, captured_pence, 0, 'txn_another', at_us, updated_us FROM payments"
                f" WHERE order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"payment_without_order", "ledger_differs"},
    ),
    "somebody else paid": (
        (f"UPDATE payments SET customer_id = 'x' WHERE order_id = {_ONE_CONFIRMED}",),
        {"payment_wrong"},
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
                " fingerprint, reason, failure, steps, received_us, updated_us, saga_id,"
                " back_ordered FROM orders"
                f" WHERE order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {
            "order_invented",
            "order_history_broken",
            "reservation_wrong",
            "payment_missing",
            "shipment_missing",
            "message_missing",
        },
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
            "shipment_unexpected",
            "shipment_not_noted",
            "message_unexpected",
            "message_not_noted",
            "event_invented",
            "shipped_without_order",
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
            "shipment_unexpected",
            "message_unexpected",
            "shipped_without_order",
        },
    ),
    "an order belongs to somebody else": (
        (f"UPDATE orders SET customer_id = 'x' WHERE order_id = {_ONE_CONFIRMED}",),
        {"order_customer_wrong", "message_missing", "message_unexpected"},
    ),
    "a step of a history was lost": (
        (f"DELETE FROM order_history WHERE step = 1 AND order_id = {_ONE_CONFIRMED}",),
        {"order_history_broken", "order_step_illegal", "event_invented"},
    ),
    "an order was confirmed and never paid": (
        (
            (
                "UPDATE order_history SET event = 'confirm'"
                f" WHERE event = 'pay' AND order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"order_step_illegal"},
    ),
    "an order was declined once it was confirmed": (
        (
            (
                "UPDATE order_history SET event = 'decline'"
                f" WHERE event = 'ship' AND order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"order_step_illegal", "shipment_not_noted", "event_missing"},
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
            "shipment_missing",
            "message_missing",
            "message_unexpected",
            "reservation_lines_wrong",
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
            "shipment_unexpected",
            "message_unexpected",
            "message_missing",
            "shipped_without_order",
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
        {"stock_not_conserved", "stock_shipped_wrong", "stock_lines_differ"},
    ),
    "a unit never left": (
        (
            (
                "UPDATE stock SET shipped = shipped - 1, on_hand = on_hand + 1"
                f" WHERE product_id = {_ONE_SOLD}"
            ),
        ),
        {"stock_shipped_wrong", "stock_lines_differ"},
    ),
    "a unit is still held": (
        (
            (
                "UPDATE stock SET shipped = shipped - 1, reserved = reserved + 1"
                f" WHERE product_id = {_ONE_SOLD}"
            ),
        ),
        {"stock_left_reserved", "stock_shipped_wrong", "stock_lines_differ"},
    ),
    "more was sold than there was": (
        (
            (
                "UPDATE stock SET shipped = shipped + 1, on_hand = -1 - reserved"
                " WHERE on_hand = 0 AND shipped ="
                " (SELECT max(shipped) FROM stock WHERE on_hand = 0)"
            ),
        ),
        {"stock_negative", "stock_shipped_wrong", "stock_lines_differ"},
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
    "a reservation expired before its time was up": (
        (
            (
                "UPDATE reservations SET state = 'expired', expires_us = updated_us + 1"
                f" WHERE order_id = {_ONE_DECLINED}"
            ),
        ),
        {"reservation_expired_early"},
    ),
    "a confirmed order's reservation expired": (
        (
            (
                "UPDATE reservations SET state = 'expired', expires_us = updated_us"
                f" WHERE order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"reservation_wrong"},
    ),
    "a declined order's units left": (
        (f"UPDATE reservation_lines SET shipped = quantity WHERE order_id = {_ONE_DECLINED}",),
        {"shipped_without_order", "stock_lines_differ"},
    ),
    "a unit came back that nobody asked for": (
        (
            (
                "UPDATE reservation_lines SET returned = 1 WHERE rowid ="
                f" (SELECT min(rowid) FROM reservation_lines WHERE product_id = {_ONE_SOLD}"
                " AND shipped > 0)"
            ),
            (
                "UPDATE stock SET restocked = restocked + 1, on_hand = on_hand + 1"
                f" WHERE product_id = {_ONE_SOLD}"
            ),
        ),
        {"return_wrong"},
    ),
    "something was given back in the books alone": (
        (
            (
                "UPDATE order_lines SET refunded = 1 WHERE rowid ="
                " (SELECT min(l.rowid) FROM order_lines AS l JOIN orders AS o"
                " ON o.order_id = l.order_id WHERE o.state = 'confirmed')"
            ),
        ),
        {"return_not_noted"},
    ),
    "a cancelled order's units did not come back": (
        (f"UPDATE reservation_lines SET returned = 0 WHERE order_id = {_ONE_CANCELLED}",),
        {
            "reservation_wrong",
            "shipped_without_order",
            "stock_lines_differ",
            "stock_shipped_wrong",
        },
    ),
    "a cancelled order's money did not go back": (
        (f"UPDATE payments SET refunded_pence = 0 WHERE order_id = {_ONE_CANCELLED}",),
        {"payment_without_order", "refunds_differ"},
    ),
    "a decline was not noted": (
        (f"DELETE FROM payments WHERE order_id = {_ONE_DECLINED}",),
        {"decline_not_noted"},
    ),
    "a shipment was lost": (
        (f"DELETE FROM shipments WHERE order_id = {_ONE_CONFIRMED}",),
        {"shipment_missing", "shipment_not_noted", "message_unexpected", "event_invented"},
    ),
    "a rejected order was shipped": (
        (
            (
                "INSERT INTO shipments (shipment_id, order_id, carrier, state, at_us)"
                f" VALUES ('another', {_ONE_DECLINED}, 'DHL', 'shipped', 0)"
            ),
        ),
        {"shipment_unexpected", "shipment_not_noted", "message_missing", "event_missing"},
    ),
    "a shipment never came to its order's history": (
        (
            f"DELETE FROM order_history WHERE event = 'ship' AND order_id = {_ONE_CONFIRMED}",
            (
                "UPDATE order_history SET step = 5 WHERE event = 'notify'"
                f" AND order_id = {_ONE_CONFIRMED}"
            ),
            f"UPDATE orders SET steps = 5 WHERE order_id = {_ONE_CONFIRMED}",
        ),
        {"shipment_not_noted"},
    ),
    "an item was left out of a shipment": (
        (
            (
                "DELETE FROM shipment_items WHERE line = 0 AND shipment_id = (SELECT shipment_id"
                f" FROM shipments WHERE order_id = {_ONE_CONFIRMED})"
            ),
        ),
        {"shipment_lines_wrong"},
    ),
    "a shipment was cancelled and nobody was told": (
        (f"UPDATE shipments SET state = 'cancelled' WHERE order_id = {_ONE_CONFIRMED}",),
        {
            "shipment_missing",
            "shipment_not_noted",
            "message_unexpected",
            "event_invented",
            "event_missing",
        },
    ),
    "a message went to somebody else": (
        (f"UPDATE notifications SET customer_id = 'x' WHERE order_id = {_ONE_CONFIRMED}",),
        {"message_missing", "message_unexpected", "message_undelivered"},
    ),
    "a customer was told twice": (
        (
            (
                "INSERT INTO notifications (notification_id, order_id, customer_id, type, channel,"
                " at_us) SELECT 'another', order_id, customer_id, 'again', channel, at_us"
                f" FROM notifications WHERE order_id = {_ONE_CONFIRMED} AND number = 1 LIMIT 1"
            ),
        ),
        {"message_unexpected", "message_not_noted", "message_undelivered", "event_missing"},
    ),
    "a customer was never told that an order was rejected": (
        (
            f"DELETE FROM notifications WHERE order_id = {_ONE_DECLINED}",
            (f"DELETE FROM provider_messages WHERE text LIKE '%' || {_ONE_DECLINED} || '%'"),
            f"UPDATE order_messages SET told_us = NULL WHERE order_id = {_ONE_DECLINED}",
        ),
        {"message_missing", "event_invented"},
    ),
    "an order does not know that its customer was told": (
        (
            (
                "UPDATE order_messages SET told_us = NULL WHERE type = 'order_shipped'"
                f" AND order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"message_not_noted"},
    ),
    "a message was never carried": (
        (
            (
                "DELETE FROM provider_messages WHERE key = (SELECT notification_id"
                f" FROM notifications WHERE order_id = {_ONE_CONFIRMED})"
            ),
        ),
        {"message_undelivered"},
    ),
    "a message was carried twice": (
        (
            (
                "INSERT INTO provider_messages SELECT 'another', 'msg_another', channel,"
                " customer_id, text, 1, at_us FROM provider_messages WHERE key ="
                f" (SELECT notification_id FROM notifications WHERE order_id = {_ONE_CONFIRMED})"
            ),
        ),
        {"message_undelivered"},
    ),
    "a message was never known to be carried": (
        (
            (
                "UPDATE notifications SET state = 'intended', channel = NULL"
                f" WHERE order_id = {_ONE_CONFIRMED}"
            ),
        ),
        {"message_missing", "message_not_noted", "message_undelivered", "event_invented"},
    ),
    "an event never left": (
        ((f"DELETE FROM agent99_outbox WHERE topic = 'order.paid' AND key = {_ONE_CONFIRMED}"),),
        {"event_missing"},
    ),
    "the event of a shipment never left": (
        (
            (
                "DELETE FROM agent99_outbox WHERE topic = 'shipment.shipped'"
                f" AND key = {_ONE_CONFIRMED}"
            ),
        ),
        {"event_missing"},
    ),
    "an event tells of what did not happen": (
        (f"UPDATE agent99_outbox SET topic = 'order.lost' WHERE key = {_ONE_DECLINED}",),
        {"event_missing", "event_invented"},
    ),
    "an event came twice under two ids": (
        (
            (
                "INSERT INTO agent99_outbox (schema_name, id, topic, key, body, headers,"
                " traceparent, created_us) SELECT schema_name, 'another', topic, key, body,"
                " headers, traceparent, created_us FROM agent99_outbox"
                f" WHERE key = {_ONE_CONFIRMED} AND topic = 'order.confirmed'"
            ),
        ),
        {"event_invented"},
    ),
    "an order's events overtook each other": (
        (
            (
                "UPDATE agent99_outbox SET position = 1000000 WHERE topic = 'order.received'"
                f" AND key = {_ONE_CONFIRMED}"
            ),
        ),
        {"events_out_of_order"},
    ),
}
