"""Appending events by a mesh, one at a time and 64 at once: `Mesh.append` and nats-py, in turns.

nats-py publishes the same bytes under the same subjects, to a stream like ours; `natspy` without
message ids, `natspy_ids` with one for each, as ours has. Prints one JSON object: lists of figures,
one per round, by stack and how many are in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from _append import connect_peer
from _order import ORDER

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal, Record, StreamConfig
from agent99.wire import open_wire

MESH = "bench"
IN_FLIGHT = (1, 64)
PEER = "natspy"
Store = Callable[[str], Awaitable[object]]
"""Store an order under a key; returned = stored."""


async def appends_per_s(store: Store, in_flight: int, seconds: float) -> float:
    """Keep one append of each of so many keys in flight for so long."""
    began = time.perf_counter()
    stop = began + seconds
    done = 0

    async def keep_on(key: str) -> None:
        nonlocal done
        while time.perf_counter() < stop:
            await store(key)
            done += 1

    await asyncio.gather(*(keep_on(f"key-{number}") for number in range(in_flight)))
    return done / (time.perf_counter() - began)


async def measure(url: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure all of them, in turns."""
    figures: dict[str, list[float]] = {}
    async with Mesh(url, mesh=MESH) as mesh, connect_peer(url) as peer:

        async def append(key: str) -> None:
            await mesh.append("order.placed", ORDER, key=key)

        await append("key-0")
        stores = {"ours": append}
        if peer is not None:
            stores |= _peers(peer, await _prepare(url))
        for store in stores.values():
            await appends_per_s(store, max(IN_FLIGHT), seconds / 4)
        for _ in range(rounds):
            for in_flight in IN_FLIGHT:
                for name, store in stores.items():
                    rate = await appends_per_s(store, in_flight, seconds)
                    figures.setdefault(f"{name}_{in_flight}", []).append(rate)
    return figures


async def _prepare(url: str) -> Record:
    """Make the peer's stream; returns the event that stands in ours."""
    clock, ids = SystemClock(), SystemIds()
    wire = await open_wire(url, sender=b"bench", clock=clock, ids=ids)
    async with contextlib.aclosing(wire):
        journal = JetStreamJournal(wire, clock=clock, ids=ids)
        await journal.ensure_stream(StreamConfig(name=PEER, subjects=(f"{PEER}.>",)))
        async with contextlib.aclosing(journal.read(f"A99_{MESH}_LOG")) as records:
            return await anext(records)


def _peers(peer: Any, event: Record) -> dict[str, Store]:
    """Return what nats-py does; `event` says what it stores."""
    ids = SystemIds()
    subject = f"{PEER}.{event.subject}"

    async def publish(key: str) -> None:
        await peer.publish(subject.replace("key-0", key), event.payload)

    async def publish_with_id(key: str) -> None:
        headers = {"Nats-Msg-Id": ids.uuid()}
        await peer.publish(subject.replace("key-0", key), event.payload, headers=headers)

    return {"natspy": publish, "natspy_ids": publish_with_id}


def main() -> None:
    """Measure; the arguments are the server's address, rounds, and seconds for each figure."""
    url, rounds, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(url, rounds, seconds))).decode())


if __name__ == "__main__":
    main()
