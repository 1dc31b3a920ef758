"""The tables of what follows an order, shipments and messages, each with its own history.

As in `_tables.py`: ids are texts, times are microseconds since the epoch.
"""

from __future__ import annotations

from typing import Final

from agent99.store import Migration

SHIPMENTS_SCHEMA: Final = "shop_shipments"
SHIPMENTS_MIGRATIONS: Final = (
    Migration(
        1,
        "shipments",
        (
            """
            CREATE TABLE shipments (
                shipment_id TEXT PRIMARY KEY,
                order_id TEXT NOT NULL UNIQUE,
                carrier TEXT NOT NULL,
                state TEXT NOT NULL CHECK (state IN ('shipped')),
                at_us BIGINT NOT NULL
            )
            """,
        ),
    ),
    Migration(
        2,
        "parts, and what is held back",
        (
            # SQLite changes no constraint of a table: a new one takes the place of the old.
            """
            CREATE TABLE shipments_2 (
                shipment_id TEXT PRIMARY KEY,
                order_id TEXT NOT NULL,
                part BIGINT NOT NULL DEFAULT 1 CHECK (part >= 1),
                carrier TEXT,
                state TEXT NOT NULL CHECK (state IN ('prepared', 'shipped', 'cancelled')),
                fingerprint TEXT,
                leaves_us BIGINT,
                traceparent TEXT NOT NULL DEFAULT '',
                at_us BIGINT NOT NULL,
                UNIQUE (order_id, part),
                CHECK (state = 'cancelled' OR carrier IS NOT NULL),
                CHECK (state <> 'prepared' OR leaves_us IS NOT NULL)
            )
            """,
            """
            INSERT INTO shipments_2 (shipment_id, order_id, carrier, state, at_us)
                SELECT shipment_id, order_id, carrier, state, at_us FROM shipments
            """,
            "DROP TABLE shipments",
            "ALTER TABLE shipments_2 RENAME TO shipments",
            "CREATE INDEX shipments_held ON shipments (leaves_us) WHERE state = 'prepared'",
            """
            CREATE TABLE shipment_items (
                shipment_id TEXT NOT NULL REFERENCES shipments (shipment_id),
                line BIGINT NOT NULL,
                product_id TEXT NOT NULL,
                quantity BIGINT NOT NULL CHECK (quantity > 0),
                PRIMARY KEY (shipment_id, line)
            )
            """,
        ),
    ),
)

MESSAGES_SCHEMA: Final = "shop_messages"
MESSAGES_MIGRATIONS: Final = (
    Migration(
        1,
        "messages to customers",
        (
            """
            CREATE TABLE notifications (
                notification_id TEXT PRIMARY KEY,
                order_id TEXT NOT NULL,
                customer_id TEXT NOT NULL,
                type TEXT NOT NULL,
                channel TEXT NOT NULL CHECK (channel IN ('email', 'sms')),
                at_us BIGINT NOT NULL,
                UNIQUE (order_id, type)
            )
            """,
        ),
    ),
    Migration(
        2,
        "intents, and a pretend provider",
        (
            # As above. What stands here before was sent; nobody knows with which words.
            """
            CREATE TABLE notifications_2 (
                notification_id TEXT PRIMARY KEY,
                order_id TEXT NOT NULL,
                customer_id TEXT NOT NULL,
                type TEXT NOT NULL,
                number BIGINT NOT NULL DEFAULT 1 CHECK (number >= 1),
                state TEXT NOT NULL DEFAULT 'sent' CHECK (state IN ('intended', 'sent')),
                fingerprint TEXT,
                texts TEXT,
                channel TEXT CHECK (channel IN ('email', 'sms')),
                reference TEXT,
                at_us BIGINT NOT NULL,
                UNIQUE (order_id, type, number),
                CHECK ((state = 'sent') = (channel IS NOT NULL)),
                CHECK (state = 'sent' OR texts IS NOT NULL)
            )
            """,
            """
            INSERT INTO notifications_2
                (notification_id, order_id, customer_id, type, channel, at_us)
                SELECT notification_id, order_id, customer_id, type, channel, at_us
                FROM notifications
            """,
            "DROP TABLE notifications",
            "ALTER TABLE notifications_2 RENAME TO notifications",
            """
            CREATE TABLE provider_messages (
                key TEXT PRIMARY KEY,
                reference TEXT NOT NULL UNIQUE,
                channel TEXT NOT NULL,
                customer_id TEXT NOT NULL,
                text TEXT NOT NULL,
                calls BIGINT NOT NULL,
                at_us BIGINT NOT NULL
            )
            """,
            """
            CREATE TABLE provider_channels (
                channel TEXT PRIMARY KEY,
                mode TEXT NOT NULL CHECK (mode IN ('up', 'down', 'mute'))
            )
            """,
        ),
    ),
)
