"""Steady loads on a cache, of a process of their own: of keys that are written once, and of reads.

Whoever fills a cache, and looks at the end whether all is there, is in the campaign's own process.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from agent99.errors import Agent99Error
from agent99.systems.cache import Cache
from tests.systems.cache._history import Histories, Session
from tests.systems.cache._register import Operation

PAUSE_S: Final = 0.01
"""Between two operations of a lane, on the average."""
WINDOW_S: Final = 0.25
"""Reads are counted by such spans."""
CHUNK: Final = 1_000
DELETED_ONE_IN: Final = 5
_now_ns: Final = time.monotonic_ns


class WriteLane:
    """Sets one new key after the other, and deletes some of them again."""

    def __init__(self, session: Session, luck: random.Random) -> None:
        self._session = session
        self._luck = luck
        self._there: list[str] = []

    def __repr__(self) -> str:
        return f"WriteLane({self._session.client!r}, there={len(self._there)})"

    async def work(self, stop: asyncio.Event) -> None:
        """Write until it is told to stop; an error is an answer, too."""
        number = 0
        while not stop.is_set():
            await asyncio.sleep(self._luck.uniform(0, 2 * PAUSE_S))
            number += 1
            try:
                await self._once(number)
            except Agent99Error:
                continue

    async def _once(self, number: int) -> None:
        if self._there and self._luck.randrange(DELETED_ONE_IN) == 0:
            at = self._luck.randrange(len(self._there))
            await self._session.delete(self._there.pop(at))
            return
        key = f"w{self._session.client}.{number}"
        await self._session.set(key, f"value of {key}")
        self._there.append(key)


class Window(msgspec.Struct):
    """What became of the reads of a short time, in one process."""

    until_ns: int
    hits: int = 0
    misses: int = 0
    errors: int = 0


class Reads:
    """Reads of keys that are all there, counted by windows, in a process's own file."""

    def __init__(self, cache: Cache[Any], folder: Path, keys: int) -> None:
        self._cache = cache
        self._keys = keys
        self._path = folder / f"{os.getpid()}.reads"
        self._windows: list[Window] = []

    def __repr__(self) -> str:
        return f"Reads(windows={len(self._windows)})"

    async def work(self, luck: random.Random, stop: asyncio.Event) -> None:
        """Be one lane of it, until it is told to stop."""
        while not stop.is_set():
            await asyncio.sleep(luck.uniform(0, 2 * PAUSE_S))
            try:
                value = await self._cache.get(f"bulk{luck.randrange(self._keys)}")
            except Agent99Error:
                self._window().errors += 1
            else:
                self._window().hits += value is not None
                self._window().misses += value is None

    def keep(self) -> None:
        """Write down what was counted."""
        self._path.write_bytes(msgspec.json.encode(self._windows))

    def _window(self) -> Window:
        now_ns = _now_ns()
        if not self._windows or self._windows[-1].until_ns <= now_ns:
            self._windows.append(Window(now_ns + int(WINDOW_S * 1e9)))
        return self._windows[-1]


def read_windows(folder: Path) -> list[Window]:
    """Return what the readers have written into a folder."""
    return [
        window
        for path in sorted(folder.glob("*.reads"))
        for window in msgspec.json.decode(path.read_bytes(), type=list[Window])
    ]


# --- of the campaign's own process ----------------------------------------------------------------


async def fill(cache: Cache[Any], keys: int) -> None:
    """Set so many keys."""
    for numbers in _chunks(keys):
        await cache.set_many({f"bulk{number}": number for number in numbers})


async def count_missing(cache: Cache[Any], keys: int) -> int:
    """Return how many of those that `fill` set are not there as they were."""
    missing = 0
    for numbers in _chunks(keys):
        found = await cache.get_many(f"bulk{number}" for number in numbers)
        missing += sum(found.get(f"bulk{number}") != number for number in numbers)
    return missing


async def look_at_all(cache: Cache[Any], histories: Histories) -> None:
    """Add to each history a last look at its key."""
    keys = list(histories)
    for at in range(0, len(keys), CHUNK):
        chunk = keys[at : at + CHUNK]
        began_ns = _now_ns()
        found = await cache.get_many(chunk)
        ended_ns = _now_ns()
        for key in chunk:
            look = Operation("the last look", "get", began_ns, ended_ns, result=found.get(key))
            histories[key].append(look)


def _chunks(keys: int) -> Iterator[range]:
    for start in range(0, keys, CHUNK):
        yield range(start, min(start + CHUNK, keys))
