"""The reply subject of a message of a consumer's: it says which message and which delivery. Pure.

Old form: `$JS.ACK.stream.consumer.delivered.stream_seq.consumer_seq.time.pending`; the new one has
a domain and an account before the stream, and may have more after.
"""

from __future__ import annotations

import msgspec


class Place(msgspec.Struct, frozen=True, gc=False):
    """What a reply subject says."""

    consumer: bytes
    attempt: int
    """Starts at 1."""
    sequence: int
    """In the stream."""
    number: int
    """In the consumer: each delivery has the next one."""
    stored_ns: int
    pending: int
    """How many more the consumer has to deliver."""


def read_reply(reply: bytes) -> Place:
    """Return what a reply subject says.

    Raises:
        ValueError: it is no consumer's.
    """
    if not reply.startswith(b"$JS.ACK."):
        raise ValueError(reply)
    tokens = reply.split(b".")
    start = 3 if len(tokens) == 9 else 5
    consumer, attempt, sequence, number, stored, pending = tokens[start : start + 6]
    return Place(consumer, int(attempt), int(sequence), int(number), int(stored), int(pending))
