"""Bytes that last: streams, ordered reading, and key-value buckets that can be followed.

Given:       subjects and keys with bytes to keep; a wire, or nothing for the one in memory.
Gives:       receipts, records, entries and changes; JournalError and its kinds.
May import:  errors clock ids wire; msgspec
Never:       knows what the bytes mean, opens a connection, keeps a task of its own running.
"""

from agent99.journal._grammar import matches
from agent99.journal._jetstream import JetStreamJournal
from agent99.journal._memory import MemoryJournal
from agent99.journal._port import Journal
from agent99.journal._port_buckets import Bucket, BucketConfig, Change, Entry, Snapshot
from agent99.journal._port_consumers import (
    ConsumerConfig,
    ConsumerState,
    Deliveries,
    DeliveriesStatistics,
    Delivery,
)
from agent99.journal._port_streams import (
    Backlog,
    Record,
    Replica,
    Stored,
    StreamConfig,
    StreamState,
)
from agent99.journal._port_tails import Tail

__all__ = [
    "Backlog",
    "Bucket",
    "BucketConfig",
    "Change",
    "ConsumerConfig",
    "ConsumerState",
    "Deliveries",
    "DeliveriesStatistics",
    "Delivery",
    "Entry",
    "JetStreamJournal",
    "Journal",
    "MemoryJournal",
    "Record",
    "Replica",
    "Snapshot",
    "Stored",
    "StreamConfig",
    "StreamState",
    "Tail",
    "matches",
]
