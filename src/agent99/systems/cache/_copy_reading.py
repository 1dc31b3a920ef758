"""What a node answers to reads that its copies may answer, too."""

from __future__ import annotations

from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._options import PORTION_BYTES
from agent99.systems.cache._stay import Stay
from agent99.systems.cache._values import NOTHING
from agent99.systems.cache._words import Found, Hit, Read


def read_copies(stay: Stay, read: Read) -> Found:
    """Return what is there for keys of which this node is the owner, or has a copy in sync.

    What is not there, is large, or is not for it to say, is told as moved: its owner knows.
    """
    now_us = stay.now_us()
    hits: list[Hit | None] = []
    moved: list[int] = []
    room = PORTION_BYTES * 2
    for index, key in enumerate(read.keys):
        hit = _copied(stay, key, now_us)
        room -= 0 if hit is None else len(hit.value)
        if hit is None or room < 0:
            moved.append(index)
            hit = None
        hits.append(hit)
    found = len(hits) - len(moved)
    stay.tally.gets += found
    stay.tally.hits += found
    return Found(tuple(hits), tuple(moved), stay.hot.seen(read.keys, now_us))


def _copied(stay: Stay, key: str, now_us: int) -> Hit | None:
    partition = partition_of(key)
    if stay.owner.serving(partition) is None and not stay.is_in_sync(partition):
        return None
    entry = stay.store.peek(partition, key, now_us)
    if entry is None or entry.kind == NOTHING:
        return None
    times = entry.expires_us, entry.fresh_us, entry.cost_us
    return Hit(entry.value, entry.kind, entry.version, *times)
