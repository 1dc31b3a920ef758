"""The bounds of the cache, and of one node."""

from __future__ import annotations

LEASE_S = 2.0
"""So long after it asked for it a node may serve by a lease; then it refuses everything."""
RENEW_S = 0.4
"""Between two renewals."""
SILENCE_S = 2.4
"""A node whose lease was not renewed for so long is gone: by then it serves no more."""
REPLICAS = 1
"""Copies besides the owner's, by default."""
REPLICAS_MAX = 3
MEMORY_BYTES = 256 * 1024 * 1024
"""Of one node, by default."""
VALUE_BYTES_MAX = 64 * 1024 * 1024
PORTION_BYTES = 256 * 1024
"""Of keys and values in one message, about: larger values travel in parts."""
MOVES_MAX = 4
"""Partitions that one owner streams to others at once."""
COPY_S = 1.0
"""A copy that has not answered for so long is asked again."""
RECENT_S = 5.0
"""What a copy was told last it keeps so long: should its owner die, it tells the other copies."""
RECENT_MAX = 4096
