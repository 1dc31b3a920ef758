"""Deliveries with acknowledgements, 256 in hand: our consumer and nats-py's `fetch`, in turns.

Ours and `natspy_sync` wait until the server has noted each acknowledgement; `natspy` does not.
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

from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.ids import SystemIds
from agent99.journal import ConsumerConfig, Delivery, JetStreamJournal, StreamConfig
from agent99.wire import open_wire

IN_HAND = 256
STREAM = "deliveries"
Consume = Callable[[str], Awaitable[None]]
"""Consume everything by a new consumer of that name."""


class Ours:
    """Consumes as an agent does: a task for each delivery."""

    def __init__(self, journal: JetStreamJournal, count: int) -> None:
        self._journal = journal
        self._count = count

    async def consume(self, name: str) -> None:
        """Acknowledge every message of the stream."""
        left = self._count
        done = asyncio.get_running_loop().create_future()
        tasks: set[asyncio.Task[None]] = set()

        async def handle(delivery: Delivery) -> None:
            nonlocal left
            await delivery.ack()
            left -= 1
            if left == 0:
                done.set_result(None)

        async def read() -> None:
            async for delivery in deliveries:
                task = asyncio.create_task(handle(delivery))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        config = ConsumerConfig(stream=STREAM, name=name)
        async with self._journal.consume(config, prefetch_max=IN_HAND) as deliveries:
            reading = asyncio.create_task(read())
            await done
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


class Theirs:
    """Consumes as nats-py's documents show: fetch a batch, acknowledge it."""

    def __init__(self, peer: Any, count: int, *, waits: bool) -> None:
        self._peer = peer
        self._count = count
        self._waits = waits

    async def consume(self, name: str) -> None:
        """Acknowledge every message of the stream."""
        subscription = await self._peer.pull_subscribe("", durable=name, stream=STREAM)
        left = self._count
        while left > 0:
            messages = await subscription.fetch(IN_HAND, timeout=5)
            left -= len(messages)
            if self._waits:
                await asyncio.gather(*(message.ack_sync() for message in messages))
                continue
            for message in messages:
                await message.ack()
        await self._peer._nc.flush()  # noqa: SLF001 - what is not written yet is not done
        await subscription.unsubscribe()


async def measure(url: str, rounds: int, count: int) -> dict[str, list[float]]:
    """Measure all of them, in turns; returns deliveries per second."""
    clock, ids = SystemClock(), SystemIds()
    wire = await open_wire(url, sender=b"bench", clock=clock, ids=ids)
    async with contextlib.aclosing(wire), connect_peer(url) as peer:
        journal = JetStreamJournal(wire, clock=clock, ids=ids)
        await _fill(journal, count)
        consumers: dict[str, Consume] = {"ours": Ours(journal, count).consume}
        if peer is not None:
            consumers["natspy"] = Theirs(peer, count, waits=False).consume
            consumers["natspy_sync"] = Theirs(peer, count, waits=True).consume
        figures: dict[str, list[float]] = {name: [] for name in consumers}
        for number in range(rounds):
            for name, consume in consumers.items():
                began = time.perf_counter()
                await consume(f"{name}-{number}")
                figures[name].append(count / (time.perf_counter() - began))
    return figures


async def _fill(journal: JetStreamJournal, count: int) -> None:
    await journal.ensure_stream(StreamConfig(name=STREAM, subjects=(f"{STREAM}.>",)))
    payload = msgspec.json.encode(ORDER)
    for start in range(0, count, IN_HAND):
        numbers = range(start, min(start + IN_HAND, count))
        await asyncio.gather(
            *(
                journal.append(f"{STREAM}.{number % 64}", payload, message_id=str(number))
                for number in numbers
            )
        )


def main() -> None:
    """Measure; the arguments are the server's address, rounds, and deliveries for each figure."""
    url, rounds, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(url, rounds, count))).decode())


if __name__ == "__main__":
    main()
