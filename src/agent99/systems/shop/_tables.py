"""The tables of the shop: three sets, each of an agent of its own, that may share a database.

Ids are texts, money is pence, times are microseconds since the epoch. The check at the end reads
these tables by plain SQL.
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
)
