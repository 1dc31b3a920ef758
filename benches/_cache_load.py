"""The load of the cache's bench, the same for every stack: keys, values, and how it is timed."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

KEYS: Final = 10_000
MANY: Final = 1_000
"""Keys that are asked for together."""
IN_FLIGHT: Final = 64
VALUE: Final = bytes(range(100))
_WARM_UP_S: Final = 0.5
"""At most: by then every connection that a client wants is open."""

Get = Callable[[str], Awaitable[object]]
"""Ask for, or set, one key."""
GetMany = Callable[[Sequence[str]], Awaitable[int]]
"""Ask for keys at once; returns how many were there."""


def keys() -> list[str]:
    """Return all keys."""
    return [f"user-{number:06}" for number in range(KEYS)]


async def per_s(get: Get, seconds: float) -> float:
    """Keep so many in flight as `IN_FLIGHT` says; returns how many were done in a second."""
    await _many(get, min(seconds, _WARM_UP_S))
    return await _many(get, seconds)


async def p50_us(gets: Sequence[Get], seconds: float) -> list[float]:
    """Ask for one after the other, each way in turn; returns the median of each way."""
    took: list[list[float]] = [[] for _ in gets]
    turns = itertools.cycle(keys())
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop:
        for get, durations in zip(gets, took, strict=True):
            key = next(turns)
            began = time.perf_counter()
            await get(key)
            durations.append(time.perf_counter() - began)
    return [statistics.median(durations) * 1e6 for durations in took]


async def values_per_s(get_many: GetMany, seconds: float) -> float:
    """Ask for `MANY` keys, again and again; returns the values of a second.

    Raises:
        SystemExit: not all are there.
    """
    wanted = keys()
    began = time.perf_counter()
    count = 0
    for first in itertools.cycle(range(0, KEYS, MANY)):
        found = await get_many(wanted[first : first + MANY])
        if found != MANY:
            raise SystemExit(f"{MANY - found} keys are not there")
        count += found
        if time.perf_counter() - began >= seconds:
            break
    return count / (time.perf_counter() - began)


async def _many(get: Get, seconds: float) -> float:
    turns = itertools.cycle(keys())
    began = time.perf_counter()
    stop = began + seconds
    done = 0

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < stop:
            await get(next(turns))
            done += 1

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return done / (time.perf_counter() - began)
