"""An agent's own data in SQL: transactions, keys that take effect once, outbox and inbox.

Given:       a database URL, migrations, and functions that run in a transaction.
Gives:       their results, durable; the outbox's rows in order, to its one owner; `StoreError` and
             its kinds; what the functions raise.
May import:  errors clock ids envelope; msgspec sqlalchemy
Never:       knows about NATS, runs a function on the event loop, keeps a connection to itself.
"""

from agent99.store._link import make_folder
from agent99.store._migrations import Migration
from agent99.store._options import StoreOptions, StoreStatistics
from agent99.store._outbox import (
    Outbox,
    OutboxCounts,
    OutboxHeight,
    OutboxLease,
    OutboxReceipt,
    OutboxRow,
)
from agent99.store._positions import (
    advance_position,
    claim_position,
    forget_reader,
    read_positions,
)
from agent99.store._rows import Rows
from agent99.store._store import Store, open_store
from agent99.store._transaction import Transaction

__all__ = [
    "Migration",
    "Outbox",
    "OutboxCounts",
    "OutboxHeight",
    "OutboxLease",
    "OutboxReceipt",
    "OutboxRow",
    "Rows",
    "Store",
    "StoreOptions",
    "StoreStatistics",
    "Transaction",
    "advance_position",
    "claim_position",
    "forget_reader",
    "make_folder",
    "open_store",
    "read_positions",
]
