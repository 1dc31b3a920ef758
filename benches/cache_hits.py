"""How many reads a cache answers that holds a tenth of the keys: ours, and those that are kept.

    python benches/cache_hits.py        # a table, in some two minutes

The traces are made, from a seed: keys by Zipf's law with exponent 1, whose popularity stays, or
changes. A miss is followed by a write, as by whoever computes a value, and is timed with it.
"""

from __future__ import annotations

import importlib
import itertools
import random
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from agent99.systems.cache._entry import size_of
from agent99.systems.cache._item import Item
from agent99.systems.cache._store import Store

KEYS: Final = 100_000
HELD: Final = KEYS // 10
READS: Final = 1_000_000
_VALUE: Final = bytes(100)
_PARTITIONS: Final = 256


class Cache(Protocol):
    """What is measured."""

    def get(self, key: str) -> object | None:
        """Return a value; None: it is not here."""
        ...

    def set(self, key: str, value: bytes) -> object:
        """Keep a value."""
        ...


class Outcome(NamedTuple):
    """What a cache did with a trace."""

    hit_ratio: float
    read_ns: float
    """Of a read, and of the write after it if it missed."""


class Ours:
    """A node's store that owns all partitions, with a budget of so many keys of the trace."""

    def __init__(self, held: int) -> None:
        self._store = Store(held * size_of(_item(_key(0), 1)), partitions=_PARTITIONS)
        for partition in range(_PARTITIONS):
            self._store.open(partition, is_owned=True)
        self._version = 0

    def get(self, key: str) -> object | None:
        """Return an entry."""
        return self._store.get(zlib.crc32(key.encode()) % _PARTITIONS, key, 1)

    def set(self, key: str, _value: bytes) -> None:
        """Apply an item of a version of its own."""
        self._version += 1
        partition = zlib.crc32(key.encode()) % _PARTITIONS
        self._store.apply(partition, _item(key, self._version), 1)


class Lru:
    """Least recently used, in its plainest form: what the others are compared with."""

    def __init__(self, held: int) -> None:
        self._held = held
        self._values: OrderedDict[str, bytes] = OrderedDict()

    def get(self, key: str) -> object | None:
        """Return a value, and make it the youngest."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def set(self, key: str, value: bytes) -> None:
        """Keep a value; the one that was not used for longest goes."""
        self._values[key] = value
        if len(self._values) > self._held:
            self._values.popitem(last=False)


class Peer:
    """A library's cache, if it is a mapping with a size."""

    def __init__(self, cache: Any) -> None:
        self.get = cache.get
        self.set = cache.__setitem__


class Theine:
    """Theine's W-TinyLFU, whose `get` tells whether it hit."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self.set = cache.set

    def get(self, key: str) -> object | None:
        """Return a value."""
        value: object
        value, is_here = self._cache.get(key)
        return value if is_here else None


def stationary(seed: int, keys: int = KEYS, reads: int = READS) -> list[str]:
    """Return a trace in which what is popular stays so."""
    draw, names = random.Random(seed), _names(seed, keys)
    return [names[rank] for rank in _ranks(draw, keys, reads)]


def swapping(seed: int, keys: int = KEYS, reads: int = READS, every: int = 10) -> list[str]:
    """Return a trace in which keys of any popularity change places with others, at random.

    Every tenth read a rank, drawn evenly on a logarithmic scale, gets a key from anywhere. So of
    the hundred keys on top half are others after some 1,000 reads.
    """
    draw, names = random.Random(seed), _names(seed, keys)
    trace: list[str] = []
    for number, rank in enumerate(_ranks(draw, keys, reads)):
        if number % every == 0:
            one, other = int(keys ** draw.random()) - 1, draw.randrange(keys)
            names[one], names[other] = names[other], names[one]
        trace.append(names[rank])
    return trace


def rising(seed: int, keys: int = KEYS, reads: int = READS, every: int = 100) -> list[str]:
    """Return a trace in which each key rises rank by rank, and falls from the top to the end."""
    draw, names = random.Random(seed), _names(seed, keys)
    ranks = _ranks(draw, keys, reads)
    return [names[(rank + number // every) % keys] for number, rank in enumerate(ranks)]


def measure(cache: Cache, trace: Sequence[str]) -> Outcome:
    """Read a whole trace through a cache, which begins empty."""
    get, put = cache.get, cache.set
    hits = 0
    began = time.perf_counter()
    for key in trace:
        if get(key) is None:
            put(key, _VALUE)
        else:
            hits += 1
    return Outcome(hits / len(trace), (time.perf_counter() - began) / len(trace) * 1e9)


def gains(seed: int, keys: int = KEYS, reads: int = READS) -> tuple[float, float]:
    """Return our hit ratio less LRU's: on the stationary trace, and the worse of two drifting."""
    traces = [make(seed, keys, reads) for make in (stationary, swapping, rising)]
    held = keys // 10
    over = [
        measure(Ours(held), trace).hit_ratio - measure(Lru(held), trace).hit_ratio
        for trace in traces
    ]
    return over[0], min(over[1:])


def peers(held: int) -> dict[str, Callable[[], Cache]]:
    """Return how to make each cache; one that is not installed fails with ImportError."""

    def library(module: str, name: str) -> Callable[[], Cache]:
        return lambda: Peer(getattr(importlib.import_module(module), name)(held))

    return {
        "agent99": lambda: Ours(held),
        "LRU, by OrderedDict": lambda: Lru(held),
        "cachetools LRU": library("cachetools", "LRUCache"),
        "cachetools LFU": library("cachetools", "LFUCache"),
        "lru-dict": library("lru", "LRU"),
        "cachebox LFU": library("cachebox", "LFUCache"),
        "theine (W-TinyLFU)": lambda: Theine(importlib.import_module("theine").Cache(held)),
    }


def main() -> None:
    """Print the hit ratios and costs of all that are installed."""
    seed = 1
    traces = {
        "stationary": stationary(seed),
        "swapping": swapping(seed),
        "rising": rising(seed),
        "rising, ten times as fast": rising(seed, every=10),
    }
    print(f"{KEYS:,} keys, {HELD:,} held, {READS:,} reads, seed {seed}")
    for name, make in peers(HELD).items():
        for kind, trace in traces.items():
            try:
                outcome = measure(make(), trace)
            except ImportError:
                print(f"{name:22} is not installed")
                break
            print(f"{name:22} {kind:26} {outcome.hit_ratio:.4f} {outcome.read_ns:6.0f} ns")


def _key(number: int) -> str:
    return f"bench:{number:06}"


def _names(seed: int, keys: int) -> list[str]:
    names = [_key(number) for number in range(keys)]
    random.Random(seed + 1).shuffle(names)
    return names


def _ranks(draw: random.Random, keys: int, reads: int) -> list[int]:
    weights = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    return draw.choices(range(keys), cum_weights=weights, k=reads)


def _item(key: str, version: int) -> Item:
    return Item(key, version, _VALUE)


if __name__ == "__main__":
    main()
