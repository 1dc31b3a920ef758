"""Every stored event delivered to 64 groups, and every message to 64 core subscriptions, in turns.

Who is delivered to is in one process, on one connection; who appends, or publishes, is in it too,
on another one. `one`: each group has one active member, on one tail, in the order of the log.
`all`: each group has its 64 partitions, on a tail each. Core NATS carries the same bytes under the
same subjects: `wire` by our own wire, `natspy` by nats-py. Each delivery is counted and looked at:
the numbers of a key have to grow.

Prints one JSON object: lists of figures, one per round: deliveries per second, and the seconds that
the groups took to join.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from _bench import is_installed
from _order import ORDER, Order

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.envelope import PARTITIONS
from agent99.groups import Active, Batch, Group, GroupOptions
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal, Record
from agent99.wire import Message, NatsWire, open_wire

TOPIC = "order.placed"
SUBSCRIBERS = 64
_KEYS = 1_000
_WARM_UP = 256
"""Events, in all partitions: then each tail is there."""
_APPENDS_MAX = 64
_BEHIND_MAX = 256
"""Messages of core NATS that are under way: it drops who is too far behind."""
_STAND_S_MAX = 300.0

Send = Callable[[int], Awaitable[None]]
"""Send so many events, each to everybody."""


class Numbered(msgspec.Struct):
    """What is appended; of a key, the numbers grow."""

    order: Order
    number: int


class Deliveries:
    """Counts what all subscribers were given."""

    def __init__(self) -> None:
        self._count = 0
        self._awaited: tuple[int, asyncio.Future[None]] | None = None

    def __repr__(self) -> str:
        return f"Deliveries({self._count})"

    def add(self) -> None:
        """Count one more."""
        self._count += 1
        if self._awaited is not None and self._awaited[0] == self._count:
            self._awaited[1].set_result(None)
            self._awaited = None

    async def wait(self, count: int) -> None:
        """Return once there are so many."""
        if self._count < count:
            arrived = asyncio.get_running_loop().create_future()
            self._awaited = (count, arrived)
            await arrived


class Subscriber:
    """Is given events, and looks at their order."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._numbers: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Subscriber(keys={len(self._numbers)})"

    def take(self, subject: str, payload: bytes) -> None:
        """Count a delivery.

        Raises:
            SystemExit: it is out of the order of its key, or came twice.
        """
        key = subject.rsplit(".", 3)[1]
        number = int(payload[payload.rindex(b":") + 1 : -1])
        if number <= self._numbers.get(key, -1):
            raise SystemExit(f"{subject}: {number} came after {self._numbers[key]}")
        self._numbers[key] = number
        self._deliveries.add()

    async def handle(self, batch: Batch) -> None:
        """Take a group's batch."""
        for record in batch.records:
            self.take(record.subject, record.payload)

    def receive(self, message: Message) -> None:
        """Take a message of our wire."""
        self.take(message.subject.decode(), message.payload)

    async def receive_natspy(self, message: Any) -> None:
        """Take a message of nats-py."""
        self.take(message.subject, message.data)


Stand = Callable[[Deliveries], AbstractAsyncContextManager[Send]]
"""Have everybody who is delivered to be ready; gives how to send to them."""


class Groups:
    """Stored events, delivered to groups."""

    def __init__(self, url: str, active: Active) -> None:
        self._url = url
        self._active: Active = active
        self._mesh = f"bench-{active}"  # each form has a log of its own: nothing else is in it
        self.joined_s: list[float] = []
        self._number = 0

    def __repr__(self) -> str:
        return f"Groups(active={self._active!r})"

    @asynccontextmanager
    async def stand(self, deliveries: Deliveries) -> AsyncGenerator[Send]:
        """Have all groups be joined, each with everything in hand."""
        options = GroupOptions(active=self._active)
        wanted = PARTITIONS if self._active == "all" else 1
        async with (
            Mesh(self._url, mesh=self._mesh) as writer,
            Mesh(self._url, mesh=self._mesh) as reader,
            AsyncExitStack() as stack,
        ):
            began = time.perf_counter()
            groups = [
                Group(
                    reader,
                    f"{self._active}-{number}",
                    (TOPIC,),
                    Subscriber(deliveries).handle,
                    options=options,
                )
                for number in range(SUBSCRIBERS)
            ]
            await asyncio.gather(*(stack.enter_async_context(group) for group in groups))
            async with asyncio.timeout(_STAND_S_MAX):
                while any(len(group.statistics().partitions) < wanted for group in groups):  # noqa: ASYNC110 - a group tells nobody
                    await asyncio.sleep(0.01)
            self.joined_s.append(time.perf_counter() - began)

            async def send(count: int) -> None:
                first = self._number
                self._number += count
                left = iter(range(first, first + count))

                async def append() -> None:
                    for number in left:
                        await writer.append(
                            TOPIC, Numbered(ORDER, number), key=f"key-{number % _KEYS}"
                        )

                await asyncio.gather(*(append() for _ in range(_APPENDS_MAX)))

            yield send

    async def records(self) -> list[Record]:
        """Return what is in the log."""
        async with _wire(self._url) as wire:
            journal = JetStreamJournal(wire, clock=SystemClock(), ids=SystemIds())
            return [record async for record in journal.read(f"A99_{self._mesh}_LOG")]


class Core:
    """Messages that are not stored, delivered to core subscriptions."""

    def __init__(self, url: str, records: list[Record]) -> None:
        self._url = url
        self._records = records

    def __repr__(self) -> str:
        return f"Core(records={len(self._records)})"

    @asynccontextmanager
    async def wire(self, deliveries: Deliveries) -> AsyncGenerator[Send]:
        """Subscribe by our own wire."""
        async with _wire(self._url) as writer, _wire(self._url) as reader:
            for _ in range(SUBSCRIBERS):
                reader.subscribe(_subject(">").encode(), Subscriber(deliveries).receive)
            await reader.flush()

            async def publish(record: Record) -> None:
                writer.publish(_subject(record.subject).encode(), record.payload)

            yield self._sender(deliveries, publish)

    @asynccontextmanager
    async def natspy(self, deliveries: Deliveries) -> AsyncGenerator[Send]:
        """Subscribe by nats-py, with callbacks."""
        import nats  # noqa: PLC0415 - a peer, which may be absent

        writer, reader = await nats.connect(self._url), await nats.connect(self._url)
        for _ in range(SUBSCRIBERS):
            await reader.subscribe(_subject(">"), cb=Subscriber(deliveries).receive_natspy)
        for _ in range(2):  # the ping of a flush may overtake what is subscribed just now
            await reader.flush()

        async def publish(record: Record) -> None:
            await writer.publish(_subject(record.subject), record.payload)

        yield self._sender(deliveries, publish)
        await writer.close()
        await reader.close()

    def _sender(self, deliveries: Deliveries, publish: Callable[[Record], Awaitable[None]]) -> Send:
        """Return what sends, and never is too far ahead; the numbers go on as the records do."""
        records = iter(self._records)
        sent = 0

        async def send(count: int) -> None:
            nonlocal sent
            for _ in range(count):
                await deliveries.wait((sent - _BEHIND_MAX) * SUBSCRIBERS)
                await publish(next(records))
                sent += 1

        return send


async def deliveries_per_s(stand: Stand, count: int) -> float:
    """Return how many deliveries a second it makes of so many events, each to everybody."""
    deliveries = Deliveries()
    async with stand(deliveries) as send:
        await send(_WARM_UP)
        await deliveries.wait(_WARM_UP * SUBSCRIBERS)
        began = time.perf_counter()
        await send(count)
        await deliveries.wait((_WARM_UP + count) * SUBSCRIBERS)
        return count * SUBSCRIBERS / (time.perf_counter() - began)


async def measure(url: str, rounds: int, count: int) -> dict[str, list[float]]:
    """Measure all of them, in turns."""
    one, shared = Groups(url, "one"), Groups(url, "all")
    await deliveries_per_s(one.stand, count)
    core = Core(url, await one.records())
    stands: dict[str, Stand] = {"one": one.stand, "all": shared.stand, "wire": core.wire}
    if is_installed("nats"):
        stands["natspy"] = core.natspy
    figures: dict[str, list[float]] = {name: [] for name in stands}
    for _ in range(rounds):
        for name, stand in stands.items():
            figures[name].append(await deliveries_per_s(stand, count))
    return figures | {"joined_one": one.joined_s, "joined_all": shared.joined_s}


@asynccontextmanager
async def _wire(url: str) -> AsyncGenerator[NatsWire]:
    wire = await open_wire(url, sender=b"bench", clock=SystemClock(), ids=SystemIds())
    async with contextlib.aclosing(wire):
        yield wire


def _subject(of: str) -> str:
    return f"core.{of}"


def main() -> None:
    """Measure; the arguments are the server's address, rounds, and events for 64 groups."""
    url, rounds, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(url, rounds, count))).decode())


if __name__ == "__main__":
    main()
