"""The same load on redis-server by redis-py's asyncio client, as a user has it: URL SECONDS.

Its pool opens a connection for each command in flight. Prints one JSON object.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec
from _cache_load import IN_FLIGHT, VALUE, keys, p50_us, per_s, values_per_s
from redis.asyncio import Redis

from agent99.dispatch import new_event_loop


async def measure(url: str, seconds: float) -> dict[str, float]:
    """Read and write keys, which are set here."""
    client = Redis.from_url(url)
    await client.mset(dict.fromkeys(keys(), VALUE))

    async def get(key: str) -> None:
        if await client.get(key) != VALUE:
            raise SystemExit(f"a wrong value: {key}")

    async def get_many(wanted: Sequence[str]) -> int:
        return sum(value is not None for value in await client.mget(wanted))

    async def put(key: str) -> None:
        await client.set(key, VALUE)

    figures = {
        f"get_{IN_FLIGHT}": await per_s(get, seconds),
        "get_1": (await p50_us([get], seconds))[0],
        "many": await values_per_s(get_many, seconds),
        f"set_{IN_FLIGHT}": await per_s(put, seconds),
    }
    await client.aclose()
    return figures


def main() -> None:
    """Measure, on the event loop that agent99 has."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(sys.argv[1], float(sys.argv[2])))).decode())


if __name__ == "__main__":
    main()
