"""A relay's world: a journal, the stream of events, and a store whose outbox is to be sent.

As a process of its own: `python -m tests.work._relays URL MESH DATABASE`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import msgspec

from agent99.clock import SystemClock
from agent99.envelope import Subjects, decode_header, split_message
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal, Journal
from agent99.store import Store, StoreOptions, Transaction, open_store
from agent99.wire import NatsWire, open_wire
from agent99.work import Log, Relay, StreamBounds, Streams

OPTIONS = StoreOptions(outbox_lease_s=3.0)
TOPIC = "row.made"


class Sent(msgspec.Struct, frozen=True):
    """A message of the stream."""

    id: str
    key: str
    number: int


class World:
    """What a relay needs, but for its store."""

    def __init__(self, journal: Journal, mesh: str, bounds: StreamBounds | None = None) -> None:
        self.journal = journal
        self.subjects = Subjects(mesh, "me")
        self.streams = Streams(journal, self.subjects, bounds or StreamBounds())

    def __repr__(self) -> str:
        return f"World({self.streams!r})"

    def relay(self, store: Store) -> Relay:
        """Return a relay, not yet started."""
        log = Log(self.subjects, self.streams)
        return Relay(store.outbox, log, self.journal, clock=SystemClock(), instance="me")

    async def sent(self) -> list[Sent]:
        """Return what stands in the stream of events."""
        state = await self.journal.stream_state(self.streams.log)
        found: list[Sent] = []
        for sequence in range(state.first_sequence, state.last_sequence + 1):
            record = await self.journal.get(self.streams.log, sequence)
            if record is not None:
                _, body = split_message(record.payload)
                what = msgspec.json.decode(body)
                event_id = decode_header(record.payload).event_uuid
                found.append(Sent(event_id, what["key"], what["number"]))
        return found


async def add(store: Store, key: str, numbers: Sequence[int], padding: int = 0) -> None:
    """Append events of one key, each in a transaction of its own."""
    for number in numbers:

        def work(transaction: Transaction, number: int = number) -> None:
            event = {"key": key, "number": number, "padding": "x" * padding}
            transaction.append(TOPIC, event, key=key)

        await store.transaction(work)


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[NatsWire]:
    """Give a wire of our own."""
    ids = SystemIds()
    wire = await open_wire(url, sender=ids.token(), clock=SystemClock(), ids=ids)
    try:
        yield wire
    finally:
        await wire.aclose()


async def main(url: str, mesh: str, database: str) -> None:
    """Relay until the process is ended; print a line when it owns the outbox."""
    async with connected(url) as wire, open_store(database, options=OPTIONS) as store:
        relay = World(JetStreamJournal(wire), mesh).relay(store)
        wire.on_state(lambda _: relay.look_again())
        relay.start()
        while not relay.statistics().is_owner:
            await asyncio.sleep(0.01)
        print("owner", flush=True)  # noqa: T201 - the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
