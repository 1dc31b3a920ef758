"""Reading stored events from the first to the last: our journal and nats-py's `fetch`, in turns.

Prints one JSON object: lists of figures, one per round.
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
from agent99.journal import JetStreamJournal
from agent99.wire import open_wire

MESH = "bench"
STREAM = f"A99_{MESH}_LOG"
FETCH = 500
PREFETCH = 2 * FETCH
_WRITERS = 256
Replay = Callable[[], Awaitable[int]]
"""Read everything; returns how many events there were."""


class Ours:
    """Reads by the journal."""

    def __init__(self, journal: JetStreamJournal, count: int) -> None:
        self._journal = journal
        self._count = count

    async def read(self) -> int:
        """Read what there is, then end."""
        count = 0
        async for _ in self._journal.read(STREAM):
            count += 1
        return count

    async def tail(self) -> int:
        """Read on and on, until all that there is has come."""
        count = 0
        async with self._journal.tail(STREAM, prefetch_max=PREFETCH) as tail:
            while count < self._count:
                count += len(await tail.read(FETCH))
        return count


class Theirs:
    """Reads by a pull consumer that is told of no acknowledgement, as nats-py's documents show."""

    def __init__(self, peer: Any, count: int) -> None:
        self._peer = peer
        self._count = count

    async def fetch(self) -> int:
        """Fetch batch by batch, until all that there is has come."""
        from nats.js.api import AckPolicy, ConsumerConfig  # noqa: PLC0415 - may be absent

        config = ConsumerConfig(ack_policy=AckPolicy.NONE, mem_storage=True)
        subscription = await self._peer.pull_subscribe("", stream=STREAM, config=config)
        count = 0
        while count < self._count:
            count += len(await subscription.fetch(FETCH, timeout=5))
        await subscription.unsubscribe()
        return count


async def measure(url: str, rounds: int, count: int) -> dict[str, list[float]]:
    """Measure all of them, in turns; returns events per second."""
    await _fill(url, count)
    clock, ids = SystemClock(), SystemIds()
    wire = await open_wire(url, sender=b"bench", clock=clock, ids=ids)
    async with contextlib.aclosing(wire), connect_peer(url) as peer:
        ours = Ours(JetStreamJournal(wire, clock=clock, ids=ids), count)
        replays: dict[str, Replay] = {"read": ours.read, "tail": ours.tail}
        if peer is not None:
            replays["natspy"] = Theirs(peer, count).fetch
        figures: dict[str, list[float]] = {name: [] for name in replays}
        for _ in range(rounds):
            for name, replay in replays.items():
                began = time.perf_counter()
                if await replay() != count:
                    raise SystemExit(f"{name} did not read {count} events")
                figures[name].append(count / (time.perf_counter() - began))
    return figures


async def _fill(url: str, count: int) -> None:
    """Append so many events, as agents do."""
    async with Mesh(url, mesh=MESH) as mesh:
        left = iter(range(count))

        async def write() -> None:
            for number in left:
                await mesh.append("order.placed", ORDER, key=f"key-{number % 1_000}")

        await asyncio.gather(*(write() for _ in range(_WRITERS)))


def main() -> None:
    """Measure; the arguments are the server's address, rounds, and how many events are stored."""
    url, rounds, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(url, rounds, count))).decode())


if __name__ == "__main__":
    main()
