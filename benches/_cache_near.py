"""Reads of what a process holds near, and of cachetools' TTLCache: ROUNDS COUNT, in turns.

Prints one JSON object: nanoseconds for each read, round by round.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence

import msgspec

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.systems.cache import Cache, CacheNodeAgent
from agent99.testing import MemoryEngine

_KEYS = 1_000
_VALUE = bytes(range(100))
_NEAR_S = 600.0


async def measure(rounds: int, count: int) -> dict[str, list[float]]:
    """Measure each, in turns."""
    names = [f"user-{number:06}" for number in range(_KEYS)]
    peer = _peer(names)
    figures: dict[str, list[float]] = {}
    async with Mesh(engine=MemoryEngine()) as mesh:
        await mesh.host(CacheNodeAgent(memory_bytes=64 * 1024 * 1024))
        cache = await mesh.cache("near", bytes, near_s=_NEAR_S)
        await cache.set_many(dict.fromkeys(names, _VALUE))
        for name in names:
            await cache.get(name)
        if cache.get_nowait(names[0]) != _VALUE:
            raise SystemExit("what was read is not near")
        for _ in range(rounds):
            figures.setdefault("awaited", []).append(await _awaited_ns(cache, names, count))
            figures.setdefault("nowait", []).append(_cost_ns(cache.get_nowait, names, count))
            if peer is not None:
                figures.setdefault("cachetools", []).append(_cost_ns(peer, names, count))
    return figures


def _peer(names: Sequence[str]) -> Callable[[str], object] | None:
    if importlib.util.find_spec("cachetools") is None:
        return None
    cache = importlib.import_module("cachetools").TTLCache(2 * _KEYS, _NEAR_S)
    cache.update(dict.fromkeys(names, _VALUE))
    get: Callable[[str], object] = cache.get
    return get


def _cost_ns(get: Callable[[str], object], names: Sequence[str], count: int) -> float:
    # Nothing waits: the processor's time is the cost, and who else runs here does not add to it.
    began = time.process_time_ns()
    for _ in range(count):
        for name in names:
            get(name)
    return (time.process_time_ns() - began) / (count * len(names))


async def _awaited_ns(cache: Cache[bytes], names: Sequence[str], count: int) -> float:
    get = cache.get
    began = time.process_time_ns()
    for _ in range(count):
        for name in names:
            await get(name)
    return (time.process_time_ns() - began) / (count * len(names))


def main() -> None:
    """Measure."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        figures = runner.run(measure(int(sys.argv[1]), int(sys.argv[2])))
    print(msgspec.json.encode(figures).decode())


if __name__ == "__main__":
    main()
