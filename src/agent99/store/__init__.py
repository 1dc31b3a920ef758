"""An agent's own data in SQL: transactions that share commits, and keys that take effect once.

Given:       a database URL, migrations, and functions that run in a transaction.
Gives:       their results, durable; `StoreError` and its kinds; what the functions raise.
May import:  errors clock ids; msgspec sqlalchemy
Never:       knows about NATS, runs a function on the event loop, keeps a connection to itself.
"""

from agent99.store._migrations import Migration
from agent99.store._options import StoreOptions, StoreStatistics
from agent99.store._rows import Rows
from agent99.store._store import Store, open_store
from agent99.store._transaction import Transaction

__all__ = [
    "Migration",
    "Rows",
    "Store",
    "StoreOptions",
    "StoreStatistics",
    "Transaction",
    "open_store",
]
