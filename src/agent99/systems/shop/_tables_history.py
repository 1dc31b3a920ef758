"""The tables of the read model: a record for each order, in one generation or two.

As in `_tables.py`: ids are texts. One generation is live; while the model is made anew from the log
there is a second one, and what is told meanwhile goes into both.
"""

from __future__ import annotations

from typing import Final

from agent99.store import Migration

HISTORY_SCHEMA: Final = "shop_history"
HISTORY_MIGRATIONS: Final = (
    Migration(
        1,
        "records of orders",
        (
            """
            CREATE TABLE history_generations (
                generation BIGINT PRIMARY KEY,
                state TEXT NOT NULL UNIQUE CHECK (state IN ('live', 'building'))
            )
            """,
            "INSERT INTO history_generations (generation, state) VALUES (1, 'live')",
            """
            CREATE TABLE order_records (
                record_id TEXT PRIMARY KEY,
                generation BIGINT NOT NULL,
                order_id TEXT NOT NULL,
                content TEXT NOT NULL,
                UNIQUE (generation, order_id)
            )
            """,
        ),
    ),
)
