"""Storing with an ack, 256 in flight over 256 keys: our journal and nats-py, in turns.

Prints one JSON object: lists of figures, one per round.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from _order import ORDER

from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal, StreamConfig
from agent99.wire import open_wire

IN_FLIGHT = 256
Store = Callable[[str], Awaitable[object]]
"""Store an order under a key; returned = stored."""


async def appends_per_s(store: Store, seconds: float) -> float:
    """Keep one append of each key in flight for so long."""
    began = time.perf_counter()
    stop = began + seconds
    done = 0

    async def keep_on(key: str) -> None:
        nonlocal done
        while time.perf_counter() < stop:
            await store(key)
            done += 1

    await asyncio.gather(*(keep_on(f"key-{number}") for number in range(IN_FLIGHT)))
    return done / (time.perf_counter() - began)


async def measure(url: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure both, in turns."""
    figures: dict[str, list[float]] = {"ours": [], "natspy": []}
    payload = msgspec.json.encode(ORDER)
    clock, ids = SystemClock(), SystemIds()
    wire = await open_wire(url, sender=b"bench", clock=clock, ids=ids)
    async with contextlib.aclosing(wire), connect_peer(url) as peer:
        journal = JetStreamJournal(wire, clock=clock, ids=ids)
        await journal.ensure_stream(StreamConfig(name="ours", subjects=("ours.>",)))
        await journal.ensure_stream(StreamConfig(name="natspy", subjects=("natspy.>",)))

        async def append(key: str) -> None:
            await journal.append(f"ours.{key}", payload)

        async def publish(key: str) -> None:
            await peer.publish(f"natspy.{key}", payload)

        stores = {"ours": append} if peer is None else {"ours": append, "natspy": publish}
        for store in stores.values():
            await appends_per_s(store, seconds / 4)
        for _ in range(rounds):
            for name, store in stores.items():
                figures[name].append(await appends_per_s(store, seconds))
    return figures


@contextlib.asynccontextmanager
async def connect_peer(url: str) -> AsyncIterator[Any]:
    """Give nats-py's JetStream, or None where it is not installed."""
    try:
        import nats  # noqa: PLC0415 - a development dependency
    except ImportError:
        yield None
        return
    connection = await nats.connect(url)
    yield connection.jetstream()
    await connection.close()


def main() -> None:
    """Measure; the arguments are the server's address, rounds, and seconds for each figure."""
    url, rounds, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(url, rounds, seconds))).decode())


if __name__ == "__main__":
    main()
