"""Fill a store far beyond its budget, in a process of its own; print by how much that grew."""

from __future__ import annotations

import random
import sys
import zlib
from pathlib import Path

import msgspec

from agent99.systems.cache._item import Item
from agent99.systems.cache._store import Store

NOW_US = 1_800_000_000_000_000
SEED = 7
SHAPES = {"small": (130 << 20, 400_000, 100), "mixed": (64 << 20, 300_000, 1_000)}
SHAPES |= {"large": (128 << 20, 60_000, 20_000)}
"""Budget in bytes, items, and the largest value: 200,000 small ones fit."""


def resident_bytes() -> int:
    """Return what the process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    """Apply items as they come off the wire: nothing of one is shared with another."""
    bytes_max, count, length = SHAPES[sys.argv[1]]
    draw = random.Random(SEED)
    store = Store(bytes_max)
    for partition in range(256):
        store.open(partition, is_owned=partition % 2 == 0)
        store.filled(partition)
    decoder = msgspec.json.Decoder(Item)
    before = resident_bytes()
    for number in range(count):
        key, end_us = f"ns:key-{number:09}", NOW_US + 10**9 + number * 1_000
        value = bytes(length if length == 100 else draw.randrange(length))
        item = Item(key, (7 << 40) + number, value, 2, end_us, end_us - 10**6, 12_345)
        store.apply(
            zlib.crc32(key.encode()) & 255, decoder.decode(msgspec.json.encode(item)), NOW_US
        )
    sys.stdout.write(f"{resident_bytes() - before} {bytes_max}\n")


if __name__ == "__main__":
    main()
