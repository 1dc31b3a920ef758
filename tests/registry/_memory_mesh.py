"""A mesh in memory: links can be cut, processes killed, and time stands still."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeVar, cast

from agent99.errors import DeadlineExceededError, DisconnectedError
from agent99.ids import SeededIds
from agent99.journal import Bucket, BucketConfig, Change, Entry, Journal, MemoryJournal, Snapshot
from agent99.registry import Registry, RegistryOptions
from agent99.testing import ManualClock
from agent99.wire import ConnectionState, MemoryBroker, MemoryWire

_Result = TypeVar("_Result")

_CALL_S = 5.0
"""How long a journal's call may last."""


class MemoryMesh:
    """Processes' worths of registries on one memory journal, each behind a link of its own."""

    def __init__(self, seed: int = 1, options: RegistryOptions | None = None) -> None:
        self.clock = ManualClock()
        self.ids = SeededIds(seed)
        self.options = options or RegistryOptions()
        self.broker = MemoryBroker(ids=self.ids, clock=self.clock)
        self.journal = MemoryJournal(clock=self.clock)
        self.wires: dict[Registry, MemoryWire] = {}
        self.server = _Server()

    def make(self, options: RegistryOptions | None = None) -> Registry:
        """Return a registry that is not started, with a wire of its own."""
        wire = self.broker.connect(self.ids.token()[:8])
        registry = Registry(
            cast("Journal", _LinkedJournal(self.journal, _Link(wire, self))),
            wire,
            mesh="m1",
            clock=self.clock,
            ids=self.ids,
            options=options or self.options,
        )
        self.wires[registry] = wire
        return registry

    async def join(self) -> Registry:
        """Return a started registry."""
        registry = self.make()
        await registry.start()
        return registry

    async def kill(self, registry: Registry) -> None:
        """Take a process away without a word, as kill -9 does."""
        self.wires[registry].cut()
        await registry._background.aclose()
        await self.wires.pop(registry).aclose()

    def cut(self, *registries: Registry) -> None:
        """Take the links of these processes away."""
        for registry in registries:
            self.wires[registry].cut()

    def restore(self, *registries: Registry) -> None:
        """Give the links back."""
        for registry in registries:
            self.wires[registry].restore()

    @property
    def removed(self) -> set[str]:
        """The processes of which a keeper removed a record, so far."""
        return self.server.removed

    def freeze(self) -> None:
        """Have the server answer nothing and tell nothing, while the links stay and leases end."""
        self.server.running.clear()

    def thaw(self) -> None:
        """Have it go on."""
        self.server.running.set()

    def keepers(self) -> list[Registry]:
        """Return who believes to be the keeper."""
        return [registry for registry in self.wires if registry.statistics().is_keeper]

    async def stored(self) -> set[str]:
        """Return the instances that the bucket holds."""
        bucket = await self.journal.bucket(BucketConfig(name="a99_m1_registry"))
        return {entry.key.split(".")[2] for entry in await bucket.snapshot()}

    async def aclose(self) -> None:
        """Close everybody, even those whose links are away."""
        for registry, wire in tuple(self.wires.items()):
            await registry.aclose()
            await wire.aclose()


class _Server:
    """What all links share: whether the server runs, and what it was told to remove."""

    def __init__(self) -> None:
        self.running = asyncio.Event()
        self.running.set()
        self.removed: set[str] = set()


class _LinkedJournal:
    """A journal that is there only while the wire is connected."""

    def __init__(self, journal: MemoryJournal, link: _Link) -> None:
        self._journal = journal
        self._link = link

    def __getattr__(self, name: str) -> object:
        return getattr(self._journal, name)

    async def bucket(self, config: BucketConfig) -> Bucket:
        return _LinkedBucket(await self._link.over(self._journal.bucket(config)), self._link)


class _Link:
    def __init__(self, wire: MemoryWire, mesh: MemoryMesh) -> None:
        self.clock = mesh.clock
        self.ids = mesh.ids
        self.server = mesh.server
        self.lost = asyncio.Event()
        self.there = asyncio.Event()
        wire.on_state(self._changed)
        self._changed(wire.state)

    async def over(self, call: Awaitable[_Result]) -> _Result:
        """Await a call; when the link is away at its start or end, its outcome is an error."""
        try:
            await self._served()
        except BaseException:
            asyncio.ensure_future(call).cancel()
            raise
        result = await call
        if self.lost.is_set():
            raise DisconnectedError("the link went away; the outcome is unknown")
        return result

    async def _served(self) -> None:
        """Wait until the server takes a call, as long as a call may last."""
        waited = asyncio.Event()
        timer = self.clock.call_later(_CALL_S, waited.set)
        events = (self.lost, self.server.running, waited)
        tasks = [asyncio.ensure_future(event.wait()) for event in events if not event.is_set()]
        try:
            if len(tasks) == len(events):
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            for task in tasks:
                task.cancel()
        if self.lost.is_set():
            await self.clock.sleep(0)
            raise DisconnectedError("the link is away")
        if not self.server.running.is_set():
            raise DeadlineExceededError("the server did not answer")

    def _changed(self, state: ConnectionState) -> None:
        if state is ConnectionState.CONNECTED:
            self.lost.clear()
            self.there.set()
        else:
            self.there.clear()
            self.lost.set()


class _LinkedBucket:
    def __init__(self, bucket: Bucket, link: _Link) -> None:
        self._bucket = bucket
        self._link = link
        self.name = bucket.name

    async def get(self, key: str) -> Entry | None:
        return await self._link.over(self._bucket.get(key))

    async def put(self, key: str, value: bytes) -> int:
        return await self._link.over(self._bucket.put(key, value))

    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        return await self._link.over(self._bucket.create(key, value, ttl_s=ttl_s))

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        return await self._link.over(self._bucket.update(key, value, revision=revision))

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        await self._link.over(self._bucket.delete(key, revision=revision))
        if revision is not None and self.name.endswith("_registry"):
            self._link.server.removed.add(key.split(".")[1])

    async def snapshot(self, pattern: str = ">") -> tuple[Entry, ...]:
        return await self._link.over(self._bucket.snapshot(pattern))

    def follow(
        self, pattern: str = ">"
    ) -> AbstractAsyncContextManager[AsyncIterator[Snapshot | Change]]:
        return _LinkedFollower(self._bucket, self._link, pattern)


class _LinkedFollower:
    """Starts afresh with a snapshot, within a second, whenever the link was away."""

    def __init__(self, bucket: Bucket, link: _Link, pattern: str) -> None:
        self._bucket = bucket
        self._link = link
        self._pattern = pattern
        self._inner: AbstractAsyncContextManager[AsyncIterator[Snapshot | Change]] | None = None
        self._changes: AsyncIterator[Snapshot | Change] | None = None

    async def __aenter__(self) -> Self:
        await self._link.over(self._open())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Snapshot | Change:
        while True:
            if self._changes is None:
                await self._link.there.wait()
                await self._link.clock.sleep(self._link.ids.fraction())
                if self._link.lost.is_set():
                    continue
                await self._open()
            change = await self._next()
            if change is not None:
                return change
            await self._close()

    async def _next(self) -> Snapshot | Change | None:
        """Return the next change, or None when the link went away."""
        assert self._changes is not None
        step = asyncio.ensure_future(_read(self._changes))
        lost = asyncio.ensure_future(self._link.lost.wait())
        try:
            await asyncio.wait({step, lost}, return_when=asyncio.FIRST_COMPLETED)
            if self._link.lost.is_set():
                return None
            await self._link.server.running.wait()
            return None if self._link.lost.is_set() else step.result()
        finally:
            for task in (step, lost):
                task.cancel()
            await asyncio.gather(step, lost, return_exceptions=True)

    async def _open(self) -> None:
        self._inner = self._bucket.follow(self._pattern)
        self._changes = await self._inner.__aenter__()

    async def _close(self) -> None:
        if self._inner is not None:
            await self._inner.__aexit__(None, None, None)
        self._inner = self._changes = None


async def _read(changes: AsyncIterator[Snapshot | Change]) -> Snapshot | Change:
    return await changes.__anext__()
