"""Reads at a node: the hot path, written flat."""

from __future__ import annotations

from zlib import crc32

from agent99.systems.cache._door import ASKED_MAX
from agent99.systems.cache._keys import PARTITION_MASK
from agent99.systems.cache._options import ANSWER_BYTES, WHOLE_BYTES
from agent99.systems.cache._stay import Stay
from agent99.systems.cache._values import NOTHING
from agent99.systems.cache._words import Found, Hit, Read


def read_here(stay: Stay, read: Read) -> Found:
    """Return what is there for keys that a node owns.

    That it may serve is asked once: between two keys nothing else happens.
    """
    now_us, tally, get = stay.now_us(), stay.tally, stay.store.get
    holdings = stay.owner.holdings if stay.lease.is_valid() else {}
    hits: list[Hit | None] = []
    add = hits.append
    moved: list[int] = []
    room, misses = ANSWER_BYTES, 0
    for key in read.keys[:ASKED_MAX]:
        partition = crc32(key.encode()) & PARTITION_MASK
        holding = holdings.get(partition)
        if holding is None or not holding.is_ready:
            moved.append(len(hits))
            add(None)
            continue
        entry = get(partition, key, now_us)
        if entry is None or entry.kind == NOTHING:
            misses += 1
            add(None)
            continue
        value, size = entry.value, 0
        if len(value) > WHOLE_BYTES:  # it is read in parts
            value, size = b"", len(value)
        room -= len(value)
        if room < 0 and hits:
            break
        if read.is_near:
            entry.is_near = True
        add(
            Hit(
                value,
                entry.kind,
                entry.version,
                entry.expires_us,
                entry.fresh_us,
                entry.cost_us,
                size,
            )
        )
    served = len(hits) - len(moved)
    tally.gets += served
    tally.hits += served - misses
    hot = stay.hot.seen(read.keys, now_us)
    return Found(tuple(hits), tuple(moved), hot, now_us=now_us if read.is_near else 0)
