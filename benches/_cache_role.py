"""The cache's processes: `node URL MEMORY REPLICAS`, `client URL SECONDS`, `fill URL BYTES`.

A client prints one JSON object of what it measured; `fill` sets keys until the node must evict.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Final

import msgspec
from _cache_load import IN_FLIGHT, KEYS, VALUE, keys, p50_us, per_s, values_per_s
from _role import tell_ready

from agent99 import Agent, Mesh, operation
from agent99.dispatch import new_event_loop
from agent99.systems.cache import Cache, CacheNodeAgent, NodeStats

MESH: Final = "bench"
_SERVE_S: Final = 3_600.0
_LARGER: Final = VALUE * 10
_AT_ONCE: Final = 500
_LOOK_S: Final = 0.02
_VALUES: Final = dict.fromkeys(keys(), VALUE)


class Plain(Agent):
    """What a request costs that looks up nothing."""

    capabilities = ("plain",)

    @operation
    async def read(self, key: str) -> bytes:
        """Return the bytes that a key has."""
        return _VALUES[key]


async def serve(url: str, memory_bytes: int, replicas: int) -> None:
    """Be a node."""
    node = CacheNodeAgent(memory_bytes=memory_bytes, replicas=replicas)
    async with Mesh(url, mesh=MESH) as mesh:
        await mesh.host(node, Plain())
        tell_ready()
        await asyncio.sleep(_SERVE_S)


async def measure(url: str, seconds: float) -> dict[str, float]:
    """Read and write keys, which are set here if they are not there."""
    async with Mesh(url, mesh=MESH) as mesh:
        cache = await mesh.cache("bench", bytes)
        await mesh.wait_for("plain")
        if await cache.get(keys()[-1]) is None:
            await _wait_copies(cache)
            await _set_all(cache)

        async def get(key: str) -> None:
            if await cache.get(key) != VALUE:
                raise SystemExit(f"a wrong value: {key}")

        async def get_plain(key: str) -> None:
            await mesh.request("plain", "read", {"key": key}, returns=bytes)

        async def get_many(wanted: Sequence[str]) -> int:
            return len(await cache.get_many(wanted))

        async def put(key: str) -> None:
            await cache.set(key, VALUE)

        at_once = await per_s(get, seconds)
        one, plain = await p50_us([get, get_plain], 2 * seconds)
        return {
            f"get_{IN_FLIGHT}": at_once,
            "get_1": one,
            "plain_1": plain,
            "many": await values_per_s(get_many, seconds),
            f"set_{IN_FLIGHT}": await per_s(put, seconds),
        }


async def fill(url: str, memory_bytes: int) -> dict[str, float]:
    """Set keys of twice a node's budget; returns how many keys and bytes it says it has."""
    async with Mesh(url, mesh=MESH) as mesh:
        cache = await mesh.cache("bench", bytes)
        for first in range(0, 2 * memory_bytes // len(_LARGER), _AT_ONCE):
            names = range(first, first + _AT_ONCE)
            await cache.set_many({f"user-{number:09}": _LARGER for number in names})
        held = await mesh.request("cache_node", "stats", returns=NodeStats)
        if not held.evictions:
            raise SystemExit("nothing had to make room")
        return {"keys": held.cache_size, "bytes": held.memory_usage}


async def _wait_copies(cache: Cache[bytes]) -> None:
    """Wait until every partition has its owner and its copy."""
    while not all(part.owner and part.replicas for part in cache.table.parts):  # noqa: ASYNC110 - the table is asked, it does not tell
        await asyncio.sleep(_LOOK_S)


async def _set_all(cache: Cache[bytes]) -> None:
    for first in range(0, KEYS, _AT_ONCE):
        await cache.set_many(dict.fromkeys(keys()[first : first + _AT_ONCE], VALUE))


def main() -> None:
    """Be one of the processes."""
    role, url, number, *others = sys.argv[1:]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if role == "node":
            runner.run(serve(url, int(number), int(others[0])))
            return
        work = measure(url, float(number)) if role == "client" else fill(url, int(number))
        print(msgspec.json.encode(runner.run(work)).decode())


if __name__ == "__main__":
    main()
