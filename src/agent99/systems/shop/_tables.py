"""The tables of the shop: sets of them, each of an agent of its own, that may share a database.

Those of what follows an order are in `_tables_aftercare.py`. Ids are texts, money is pence, times
are microseconds since the epoch. The check at the end reads these tables by plain SQL.
"""

from __future__ import annotations

from typing import Final

from agent99.store import Migration

STOCK_SCHEMA: Final = "shop_stock"
STOCK_MIGRATIONS: Final = (
    Migration(
        1,
        "stock and reservations",
        (
            """
            CREATE TABLE stock (
                product_id TEXT PRIMARY KEY,
                opening BIGINT NOT NULL CHECK (opening >= 0),
                on_hand BIGINT NOT NULL CHECK (on_hand >= 0),
                reserved BIGINT NOT NULL DEFAULT 0 CHECK (reserved >= 0),
                shipped BIGINT NOT NULL DEFAULT 0 CHECK (shipped >= 0),
                restocked BIGINT NOT NULL DEFAULT 0 CHECK (restocked >= 0),
                CHECK (on_hand + reserved + shipped = opening + restocked)
            )
            """,
            """
            CREATE TABLE reservations (
                order_id TEXT PRIMARY KEY,
                state TEXT NOT NULL CHECK (state IN ('reserved', 'committed', 'released')),
                reserved_us BIGINT NOT NULL,
                updated_us BIGINT NOT NULL
            )
            """,
            """
            CREATE TABLE reservation_lines (
                order_id TEXT NOT NULL REFERENCES reservations (order_id),
                product_id TEXT NOT NULL REFERENCES stock (product_id),
                quantity BIGINT NOT NULL CHECK (quantity > 0),
                PRIMARY KEY (order_id, product_id)
            )
            """,
        ),
    ),
    # SQLite cannot change a CHECK: the tables are made anew, on both databases in the same way.
    # What was held before never expires; what was committed before has left as a whole.
    Migration(
        2,
        "reservations that expire, parts and returns",
        (
            "ALTER TABLE reservations RENAME TO reservations_1",
            "ALTER TABLE reservation_lines RENAME TO reservation_lines_1",
            """
            CREATE TABLE reservations (
                order_id TEXT PRIMARY KEY,
                state TEXT NOT NULL
                    CHECK (state IN ('reserved', 'committed', 'released', 'expired')),
                reserved_us BIGINT NOT NULL,
                updated_us BIGINT NOT NULL,
                expires_us BIGINT
            )
            """,
            """
            CREATE TABLE reservation_lines (
                order_id TEXT NOT NULL REFERENCES reservations (order_id),
                product_id TEXT NOT NULL REFERENCES stock (product_id),
                quantity BIGINT NOT NULL CHECK (quantity > 0),
                shipped BIGINT NOT NULL DEFAULT 0 CHECK (shipped BETWEEN 0 AND quantity),
                returned BIGINT NOT NULL DEFAULT 0 CHECK (returned BETWEEN 0 AND shipped),
                PRIMARY KEY (order_id, product_id)
            )
            """,
            """
            INSERT INTO reservations (order_id, state, reserved_us, updated_us)
            SELECT order_id, state, reserved_us, updated_us FROM reservations_1
            """,
            """
            INSERT INTO reservation_lines (order_id, product_id, quantity, shipped)
            SELECT lines.order_id, product_id, quantity,
                CASE WHEN state = 'committed' THEN quantity ELSE 0 END
            FROM reservation_lines_1 AS lines
                JOIN reservations_1 AS held ON held.order_id = lines.order_id
            """,
            "DROP TABLE reservation_lines_1",
            "DROP TABLE reservations_1",
            "CREATE INDEX reservations_due ON reservations (state, expires_us)",
            """
            CREATE TABLE stock_moves (
                kind TEXT NOT NULL CHECK (kind IN ('part', 'return')),
                move_id TEXT NOT NULL,
                order_id TEXT NOT NULL REFERENCES reservations (order_id),
                content TEXT NOT NULL,
                answer TEXT NOT NULL,
                at_us BIGINT NOT NULL,
                PRIMARY KEY (kind, move_id)
            )
            """,
        ),
    ),
    Migration(
        3,
        "reservations of what there is, and what suppliers deliver",
        (
            # What was asked for, by product, where not all of it was there to be held.
            "ALTER TABLE reservations ADD COLUMN wanted TEXT",
            """
            CREATE TABLE deliveries (
                delivery_id TEXT PRIMARY KEY,
                product_id TEXT NOT NULL REFERENCES stock (product_id),
                units BIGINT NOT NULL CHECK (units > 0),
                at_us BIGINT NOT NULL
            )
            """,
        ),
    ),
)

PAYMENTS_SCHEMA: Final = "shop_payments"
PAYMENTS_MIGRATIONS: Final = (
    Migration(
        1,
        "payments and ledger",
        (
            """
            CREATE TABLE payments (
                payment_id TEXT PRIMARY KEY,
                order_id TEXT UNIQUE,
                customer_id TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('captured', 'declined')),
                currency TEXT NOT NULL,
                amount_pence BIGINT NOT NULL CHECK (amount_pence >= 0),
                refunded_pence BIGINT NOT NULL DEFAULT 0
                    CHECK (refunded_pence BETWEEN 0 AND amount_pence),
                transaction_id TEXT UNIQUE,
                at_us BIGINT NOT NULL,
                CHECK ((state = 'captured') = (transaction_id IS NOT NULL))
            )
            """,
            """
            CREATE TABLE ledger (
                transaction_id TEXT NOT NULL,
                account TEXT NOT NULL CHECK (account IN ('cash', 'sales')),
                payment_id TEXT NOT NULL REFERENCES payments (payment_id),
                pence BIGINT NOT NULL,
                at_us BIGINT NOT NULL,
                PRIMARY KEY (transaction_id, account)
            )
            """,
        ),
    ),
    Migration(
        2,
        "authorisations and refunds",
        (
            # SQLite cannot change a CHECK: both tables are made anew. By way of copies and not by
            # renaming, so that they and their rules have the same names on either database.
            "CREATE TABLE payments_1 AS SELECT * FROM payments",
            "CREATE TABLE ledger_1 AS SELECT * FROM ledger",
            "DROP TABLE ledger",
            "DROP TABLE payments",
            """
            CREATE TABLE payments (
                payment_id TEXT PRIMARY KEY,
                order_id TEXT UNIQUE,
                customer_id TEXT,
                state TEXT NOT NULL
                    CHECK (state IN ('authorised', 'captured', 'declined', 'voided')),
                currency TEXT NOT NULL,
                amount_pence BIGINT NOT NULL CHECK (amount_pence >= 0),
                captured_pence BIGINT NOT NULL
                    CHECK (captured_pence BETWEEN 0 AND amount_pence),
                refunded_pence BIGINT NOT NULL DEFAULT 0
                    CHECK (refunded_pence BETWEEN 0 AND captured_pence),
                transaction_id TEXT UNIQUE,
                at_us BIGINT NOT NULL,
                updated_us BIGINT NOT NULL,
                CHECK (state = 'captured' OR captured_pence = 0),
                CHECK ((state = 'captured') = (transaction_id IS NOT NULL)),
                CHECK (state = 'voided' OR customer_id IS NOT NULL),
                CHECK (state IN ('captured', 'declined') OR order_id IS NOT NULL)
            )
            """,
            """
            CREATE TABLE ledger (
                transaction_id TEXT NOT NULL,
                account TEXT NOT NULL CHECK (account IN ('cash', 'sales')),
                payment_id TEXT NOT NULL REFERENCES payments (payment_id),
                pence BIGINT NOT NULL,
                at_us BIGINT NOT NULL,
                PRIMARY KEY (transaction_id, account)
            )
            """,
            """
            CREATE TABLE refunds (
                refund_id TEXT PRIMARY KEY,
                payment_id TEXT NOT NULL REFERENCES payments (payment_id),
                number BIGINT NOT NULL CHECK (number >= 1),
                amount_pence BIGINT NOT NULL CHECK (amount_pence >= 1),
                reason TEXT,
                transaction_id TEXT NOT NULL UNIQUE,
                at_us BIGINT NOT NULL,
                UNIQUE (payment_id, number)
            )
            """,
            """
            INSERT INTO payments (payment_id, order_id, customer_id, state, currency, amount_pence,
                captured_pence, refunded_pence, transaction_id, at_us, updated_us)
            SELECT payment_id, order_id, customer_id, state, currency, amount_pence,
                CASE state WHEN 'captured' THEN amount_pence ELSE 0 END, refunded_pence,
                transaction_id, at_us, at_us
            FROM payments_1
            """,
            """
            INSERT INTO ledger (transaction_id, account, payment_id, pence, at_us)
            SELECT transaction_id, account, payment_id, pence, at_us FROM ledger_1
            """,
            "DROP TABLE ledger_1",
            "DROP TABLE payments_1",
        ),
    ),
)

ORDERS_SCHEMA: Final = "shop_orders"
ORDERS_MIGRATIONS: Final = (
    Migration(
        1,
        "orders and price list",
        (
            """
            CREATE TABLE orders (
                order_id TEXT PRIMARY KEY,
                customer_id TEXT NOT NULL,
                state TEXT NOT NULL,
                total_pence BIGINT NOT NULL CHECK (total_pence >= 0),
                address TEXT NOT NULL,
                fingerprint TEXT NOT NULL,
                reason TEXT,
                failure TEXT,
                steps BIGINT NOT NULL,
                received_us BIGINT NOT NULL,
                updated_us BIGINT NOT NULL
            )
            """,
            """
            CREATE TABLE order_lines (
                order_id TEXT NOT NULL REFERENCES orders (order_id),
                line BIGINT NOT NULL,
                product_id TEXT NOT NULL,
                quantity BIGINT NOT NULL CHECK (quantity > 0),
                unit_price_pence BIGINT NOT NULL CHECK (unit_price_pence >= 0),
                PRIMARY KEY (order_id, line)
            )
            """,
            """
            CREATE TABLE order_history (
                order_id TEXT NOT NULL REFERENCES orders (order_id),
                step BIGINT NOT NULL,
                event TEXT NOT NULL,
                state TEXT NOT NULL,
                reason TEXT,
                at_us BIGINT NOT NULL,
                PRIMARY KEY (order_id, step)
            )
            """,
            """
            CREATE TABLE prices (
                product_id TEXT NOT NULL,
                price_pence BIGINT NOT NULL CHECK (price_pence >= 1),
                PRIMARY KEY (product_id, price_pence)
            )
            """,
        ),
    ),
    Migration(
        2,
        "what is given back",
        (
            """
            ALTER TABLE order_lines ADD COLUMN refunded BIGINT NOT NULL DEFAULT 0
                CHECK (refunded BETWEEN 0 AND quantity)
            """,
            """
            CREATE TABLE order_returns (
                return_id TEXT NOT NULL,
                place BIGINT NOT NULL,
                order_id TEXT NOT NULL REFERENCES orders (order_id),
                line BIGINT NOT NULL,
                product_id TEXT NOT NULL,
                quantity BIGINT NOT NULL CHECK (quantity > 0),
                unit_price_pence BIGINT NOT NULL,
                at_us BIGINT NOT NULL,
                PRIMARY KEY (return_id, place)
            )
            """,
            "CREATE INDEX orders_of_customer ON orders (customer_id)",
        ),
    ),
    Migration(
        3,
        "what customers are owed to be told, and which saga an order is",
        (
            "ALTER TABLE orders ADD COLUMN saga_id TEXT NOT NULL DEFAULT ''",
            """
            CREATE TABLE order_messages (
                order_id TEXT NOT NULL REFERENCES orders (order_id),
                type TEXT NOT NULL,
                number BIGINT NOT NULL CHECK (number >= 1),
                data TEXT NOT NULL,
                at_us BIGINT NOT NULL,
                told_us BIGINT,
                PRIMARY KEY (order_id, type, number)
            )
            """,
            "CREATE INDEX order_messages_owed ON order_messages (order_id) WHERE told_us IS NULL",
            """
            INSERT INTO order_messages (order_id, type, number, data, at_us, told_us)
            SELECT order_id, 'order_confirmation', 1, '{}', updated_us,
                (SELECT min(at_us) FROM order_history AS told
                    WHERE told.order_id = orders.order_id AND told.event = 'notify')
            FROM orders WHERE state = 'confirmed'
            """,
        ),
    ),
    Migration(
        4,
        "back-orders",
        # The lines that were not there, as JSON: they are an order of their own, of a derived id.
        (
            "ALTER TABLE orders ADD COLUMN back_ordered TEXT",
            "CREATE INDEX orders_waiting ON orders (order_id) WHERE state = 'back_ordered'",
        ),
    ),
)
