"""The bounds of the cache, and of one node."""

from __future__ import annotations

from agent99.errors import UsageError
from agent99.systems.cache._table import REPLICAS_MAX, WEIGHT_MAX, WEIGHT_MIN

LEASE_S = 2.0
"""So long after it asked for it a node may serve by a lease; then it refuses everything."""
RENEW_S = 0.4
"""Between two renewals."""
SILENCE_S = 2.4
"""A node whose lease was not renewed for so long is gone: by then it serves no more."""
REPLICAS = 1
"""Copies besides the owner's, by default."""
MEMORY_BYTES = 256 * 1024 * 1024
"""Of one node, by default."""
MEMORY_BYTES_MIN = 1024 * 1024
PORTION_BYTES = 256 * 1024
"""Of keys and values in one message, about: larger values travel in parts."""
MOVES_MAX = 3
"""Partitions that one owner streams to others at once."""
STREAM_BYTES = 64 * 1024
"""Of keys and values in one message of a stream, about: whoever joins is sent some from every owner
at a time, and its lease is renewed by the same link."""
COPY_S = 1.0
"""A copy that has not answered for so long is asked again."""
RECENT_S = 5.0
"""What a copy was told last it keeps so long: should its owner die, it tells the other copies."""
RECENT_MAX = 4096
WHOLE_BYTES = 384 * 1024
"""A value up to this size travels in one message: as base64 that is 512 KiB, of 1 MiB at most."""
ANSWER_BYTES = 512 * 1024
"""Of values in one answer, about."""


def check_bounds(memory_bytes: int, weight: float, replicas: int) -> None:
    """Refuse what a node cannot be.

    Raises:
        UsageError: one of these is no number of its kind, or out of its bounds.
    """
    # Of the table they are read strictly: what is written there and cannot be read stops all nodes.
    for what, number, kind in (
        ("memory_bytes", memory_bytes, int),
        ("weight", weight, int | float),
        ("replicas", replicas, int),
    ):
        if isinstance(number, bool) or not isinstance(number, kind):
            a_number = "a whole number" if kind is int else "a number"
            raise UsageError(f"{what} is {a_number}, not {number!r}")
    if memory_bytes < MEMORY_BYTES_MIN:
        least = f"{MEMORY_BYTES_MIN:,}"
        raise UsageError(f"a cache node needs at least {least} bytes, not {memory_bytes:,}")
    if not WEIGHT_MIN <= weight <= WEIGHT_MAX:
        raise UsageError(f"a node's weight is {WEIGHT_MIN:g} to {WEIGHT_MAX:g}, not {weight:g}")
    if not 0 <= replicas <= REPLICAS_MAX:
        raise UsageError(f"a key has 0 to {REPLICAS_MAX} copies, not {replicas}")
