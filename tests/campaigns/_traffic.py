"""What else a server carries while it is killed: events, appends, keys; and who connects to it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from agent99.clock import SystemClock
from agent99.errors import Agent99Error
from agent99.ids import SystemIds
from agent99.journal import (
    BucketConfig,
    Change,
    JetStreamJournal,
    Journal,
    Snapshot,
    StreamConfig,
)
from agent99.wire import ConnectionState, Message, NatsWire, open_wire
from tests._wait import PATIENCE_S
from tests.campaigns._load import ends, now_s

EVENTS_PER_S = 200
APPENDS_PER_S = 500
IN_FLIGHT_S = 0.1
"""What was published so shortly before the server's end, or after, may be lost with it."""


class Connections:
    """Many plain connections to one server, and when each was back."""

    def __init__(self) -> None:
        self.wires: list[NatsWire] = []
        self.back: dict[int, float] = {}
        """When each connection was made again, by its number."""

    def __repr__(self) -> str:
        return f"Connections({len(self.wires)}, back={len(self.back)})"

    async def open(self, url: str, count: int) -> None:
        """Connect."""
        for number in range(count):
            wire = await open_wire(url, sender=b"many", clock=SystemClock(), ids=SystemIds())
            wire.on_state(lambda state, number=number: self._note(number, state))
            self.wires.append(wire)

    def _note(self, number: int, state: ConnectionState) -> None:
        if state is ConnectionState.CONNECTED:
            self.back[number] = now_s()

    async def deaf(self, subject: bytes) -> int:
        """Return how many of them do not hear a message that another one sends."""
        heard: set[int] = set()
        subscriptions = [
            wire.subscribe(subject, lambda _message, number=number: heard.add(number))
            for number, wire in enumerate(self.wires)
        ]
        for wire in self.wires:
            await wire.flush()
        self.wires[0].publish(subject, b"")
        for wire in self.wires:
            await wire.flush()
        for subscription in subscriptions:
            subscription.unsubscribe()
        return len(self.wires) - len(heard)

    async def aclose(self) -> None:
        """Close them all."""
        for wire in self.wires:
            await wire.aclose()


class Traffic:
    """Events to itself, appends and keys without a pause; use it with `async with`.

    An append that fails is made again under the same message id, until it is confirmed.
    """

    def __init__(self, wire: NatsWire) -> None:
        self.sent: list[tuple[int, float]] = []
        """The events: number, and when it was published."""
        self.heard: set[int] = set()
        self.acked: set[int] = set()
        """The appends that were confirmed."""
        self.followed: dict[str, bytes] = {}
        """The bucket, as its follower sees it."""
        self._wire = wire
        self._journal: Journal = JetStreamJournal(wire, clock=SystemClock(), ids=SystemIds())
        self._running: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"Traffic(sent={len(self.sent)}, acked={len(self.acked)})"

    async def __aenter__(self) -> Self:
        await self._journal.ensure_stream(StreamConfig(name="AUDIT", subjects=("audit",)))
        self.bucket = await self._journal.bucket(BucketConfig(name="KEYS"))
        self._wire.subscribe(b"campaign.event", self._hear)
        await self._wire.flush()
        work: list[Callable[[], Awaitable[None]]] = [
            self._publish,
            self._append,
            self._put,
            self._follow,
        ]
        self._running = [asyncio.ensure_future(one()) for one in work]
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._running:
            await ends(task)

    async def rest(self) -> None:
        """Write no more, and wait until the follower has heard of all that is stored."""
        for task in self._running[:-1]:
            await ends(task)
        async with asyncio.timeout(PATIENCE_S):
            while self.followed != {each.key: each.value for each in await self.bucket.snapshot()}:
                await asyncio.sleep(0.05)

    def lost(self, ends_s: list[tuple[float, float]]) -> tuple[int, int]:
        """Return how many events never came: of those under way at an end, and of the others.

        Args:
            ends_s: For each end of the server from when to when it took place.
        """
        missing = [at_s for number, at_s in self.sent if number not in self.heard]
        under_way = [at_s for at_s in missing if any(_is_near(at_s, end_s) for end_s in ends_s)]
        return len(under_way), len(missing) - len(under_way)

    async def stored(self) -> list[int]:
        """Return the appends that the stream holds."""
        return [int(record.payload) async for record in self._journal.read("AUDIT")]

    async def put(self, key: str, value: bytes) -> None:
        """Write a key, as often as it takes."""
        await _insist(lambda: self.bucket.put(key, value))

    def _hear(self, message: Message) -> None:
        self.heard.add(int(message.payload))

    async def _publish(self) -> None:
        number = 0
        while True:
            await self._wire.wait_writable()
            self._wire.publish(b"campaign.event", b"%d" % number)
            self.sent.append((number, now_s()))
            number += 1
            await asyncio.sleep(1 / EVENTS_PER_S)

    async def _append(self) -> None:
        number = 0
        while True:
            payload, key = b"%d" % number, f"audit-{number}"
            await _insist(
                lambda payload=payload, key=key: self._journal.append(
                    "audit", payload, message_id=key
                )
            )
            self.acked.add(number)
            number += 1
            await asyncio.sleep(1 / APPENDS_PER_S)

    async def _put(self) -> None:
        number = 0
        while True:
            await self.put(f"key-{number % 10}", b"%d" % number)
            number += 1
            await asyncio.sleep(0.01)

    async def _follow(self) -> None:
        async with self.bucket.follow() as changes:
            async for change in changes:
                self._take(change)

    def _take(self, change: Snapshot | Change) -> None:
        if isinstance(change, Snapshot):
            self.followed = {entry.key: entry.value for entry in change.entries}
        else:
            self.followed[change.key] = change.value


def _is_near(at_s: float, end_s: tuple[float, float]) -> bool:
    return end_s[0] - IN_FLIGHT_S < at_s < end_s[1] + IN_FLIGHT_S


async def _insist(work: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await work()
        except Agent99Error:
            await asyncio.sleep(0.01)
        else:
            return


async def monitored(port: int, what: str) -> Any:
    """Ask the server's monitoring."""
    return json.loads(await asyncio.to_thread(_fetch, f"http://127.0.0.1:{port}/{what}"))


def _fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


async def subscriptions(port: int) -> int:
    """Return how many subscriptions all connections have."""
    found = (await monitored(port, "connz?limit=4096"))["connections"]
    return sum(connection["subscriptions"] for connection in found)


async def consumers(port: int) -> int:
    """Return how many consumers the server has."""
    return int((await monitored(port, "jsz"))["consumers"])


def followers(meshes: int) -> int:
    """Return how many consumers a mesh of so many processes has, the keeper's own included."""
    return meshes + 1


async def surplus(wanted: int, port: int, *, timeout_s: float) -> int:
    """Return by how many consumers the server has too many, or too few, once it had its time."""
    with suppress(TimeoutError):
        await becomes(wanted, lambda: consumers(port), timeout_s=timeout_s)
    return await consumers(port) - wanted


async def becomes(
    wanted: int, count: Callable[[], Awaitable[int]], *, timeout_s: float = 20
) -> None:
    """Wait until a count that must be asked for is as wanted."""
    async with asyncio.timeout(timeout_s):
        while await count() != wanted:
            await asyncio.sleep(0.05)
