"""A cache in memory: nodes and clients, each in a mesh of its own, on one clock that tests move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, TypeVar, cast

from agent99 import Mesh, Settings, operation
from agent99.agent import Parts
from agent99.errors import DeadlineExceededError, DisconnectedError
from agent99.journal import Bucket, BucketConfig, Change, Entry, Journal, Snapshot
from agent99.systems.cache import Cache, CacheNodeAgent
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._stay import Stay
from agent99.systems.cache._sweep import Sweep, Swept
from agent99.systems.cache._table import Table
from agent99.systems.cache._words import Copied, Copy, Found, Read, Write, Written
from agent99.testing import ManualClock, MemoryEngine
from agent99.wire import MemoryWire

T = TypeVar("T")

TICK_S = 0.01
"""Between two looks at what the passing of time has done."""
PATIENCE_S = 60.0
"""So long a world is given, by its own clock, to do what it is to do."""


class GateClock:
    """The world's clock, as one process sees it: while it is asleep its timers do not run."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.is_asleep = False
        self._late: list[Callable[[], object]] = []

    def monotonic_s(self) -> float:
        """Return the world's time."""
        return self._clock.monotonic_s()

    def wall_us(self) -> int:
        """Return the world's time."""
        return self._clock.wall_us()

    async def sleep(self, delay_s: float) -> None:
        """Wait, and for as long as the process is asleep then."""
        if delay_s <= 0:
            await self._clock.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay_s, lambda: woken.done() or woken.set_result(None))
        try:
            await woken
        finally:
            timer.cancel()

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> Any:
        """Call it then, or when the process awakes."""
        timer: Any = None

        def call() -> None:
            if self.is_asleep:
                self._late.append(lambda: timer.callback is None or callback())
                timer.callback = callback  # it can still be cancelled
            else:
                callback()

        timer = self._clock.call_later(delay_s, call)
        return timer

    def wake(self) -> None:
        """Go on: first with what is late."""
        self.is_asleep = False
        late, self._late = self._late, []
        for call in late:
            call()


class Doors:
    """How a process reaches what lasts: tests close them, and lose what comes through."""

    def __init__(self) -> None:
        self.are_open = True
        self.loses_answers = 0
        """Of so many writes to come the answer is lost, though they are made."""
        self.loses_writes = 0
        """So many writes to come are lost themselves."""
        self.lag: Callable[[], Awaitable[None]] | None = None
        """Waited for on every way."""
        self._opened = asyncio.Event()

    def shut(self) -> None:
        """Let nothing through, and say so at once."""
        self.are_open = False

    def open(self) -> None:
        """Let everything through; followers are told anew what stands there."""
        self.are_open = True
        self._opened.set()
        self._opened = asyncio.Event()

    async def pass_by(self) -> None:
        """Go through, or fail."""
        if self.lag is not None:
            await self.lag()
        if not self.are_open:
            raise DisconnectedError("the door is shut")

    async def wait_open(self) -> None:
        """Wait until they are open."""
        while not self.are_open:
            await self._opened.wait()

    async def write(self, wanted: Callable[[], Awaitable[T]]) -> T:
        """Write, or lose it."""
        await self.pass_by()
        if self.loses_writes:
            self.loses_writes -= 1
            raise DeadlineExceededError("the write was lost")
        done = await wanted()
        await self.pass_by()
        if self.loses_answers:
            self.loses_answers -= 1
            raise DeadlineExceededError("the answer was lost")
        return done


class DoorBucket:
    """A bucket behind doors."""

    def __init__(self, bucket: Bucket, doors: Doors) -> None:
        self._bucket = bucket
        self._doors = doors

    @property
    def name(self) -> str:
        """The bucket's name."""
        return self._bucket.name

    async def get(self, key: str) -> Entry | None:
        """Return the entry."""
        await self._doors.pass_by()
        return await self._bucket.get(key)

    async def put(self, key: str, value: bytes) -> int:
        """Write."""
        return await self._doors.write(lambda: self._bucket.put(key, value))

    async def create(self, key: str, value: bytes, *, ttl_s: float | None = None) -> int:
        """Write, if there is none."""
        return await self._doors.write(lambda: self._bucket.create(key, value, ttl_s=ttl_s))

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """Write, if it is still that."""
        return await self._doors.write(lambda: self._bucket.update(key, value, revision=revision))

    async def delete(self, key: str, *, revision: int | None = None) -> None:
        """Remove."""
        await self._doors.write(lambda: self._bucket.delete(key, revision=revision))

    async def snapshot(self, pattern: str = ">") -> tuple[Entry, ...]:
        """Return all."""
        await self._doors.pass_by()
        return await self._bucket.snapshot(pattern)

    @asynccontextmanager
    async def follow(self, pattern: str = ">") -> AsyncGenerator[AsyncIterator[Snapshot | Change]]:
        """Follow what is written, as far as it comes through; after a pause, all of it anew."""
        await self._doors.pass_by()
        yield self._changes(pattern)

    async def _changes(self, pattern: str) -> AsyncIterator[Snapshot | Change]:
        while True:
            await self._doors.wait_open()
            async with self._bucket.follow(pattern) as changes:
                async for each in changes:
                    if self._doors.lag is not None:
                        await self._doors.lag()
                    if not self._doors.are_open:
                        break
                    yield each


class DoorJournal:
    """A journal of which the cache's buckets are behind doors."""

    def __init__(self, journal: Journal, doors: Doors) -> None:
        self._journal = journal
        self._doors = doors

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    async def bucket(self, config: BucketConfig) -> Bucket:
        """Return a bucket."""
        bucket = await self._journal.bucket(config)
        if not config.name.endswith("_cache"):
            return bucket
        await self._doors.pass_by()
        return cast("Bucket", DoorBucket(bucket, self._doors))


class Node(CacheNodeAgent):
    """A node that counts the messages that it gets."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.asked: Counter[str] = Counter()
        self.is_deaf = False
        """It takes nothing from owners, and does not answer them."""

    @operation(idempotent=True)
    async def read(self, read: Read) -> Found:
        """Count it."""
        self.asked["read"] += 1
        return await super().read(read)

    @operation
    async def write(self, write: Write) -> Written:
        """Count it."""
        self.asked["write"] += 1
        return await super().write(write)

    @operation(idempotent=True)
    async def copy(self, copy: Copy) -> Copied:
        """Count it."""
        self.asked["copy"] += 1
        if self.is_deaf:
            await asyncio.Event().wait()
        return await super().copy(copy)

    @operation(idempotent=True)
    async def sweep(self, sweep: Sweep) -> Swept:
        """Count it."""
        self.asked["sweep"] += 1
        return await super().sweep(sweep)


class Site:
    """One process: its mesh, its clock, its doors, and the node that it may have."""

    def __init__(self, mesh: Mesh, clock: GateClock, doors: Doors, wire: MemoryWire) -> None:
        self.mesh = mesh
        self.clock = clock
        self.doors = doors
        self.wire = wire
        self.agent = Node()

    @property
    def stay(self) -> Stay:
        """The node's stay in the cache; it must be there."""
        stay = self.agent.stay
        assert stay is not None
        return stay

    @property
    def id(self) -> str:
        """The id of the node's stay."""
        return self.stay.lease.node.id

    def freeze(self) -> None:
        """Let none of its timers run, and nothing come from what lasts: it hears requests alone."""
        self.clock.is_asleep = True
        self.doors.shut()

    def thaw(self) -> None:
        """Go on."""
        self.doors.open()
        self.clock.wake()

    def kill(self) -> None:
        """Be gone at once, as by `kill -9`."""
        self.wire.cut()
        self.freeze()


class World:
    """Nodes and clients on one engine and one clock."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self.clock = ManualClock()
        self.engine = MemoryEngine(clock=self.clock)
        self.sites: list[Site] = []
        """Those with nodes, dead ones too."""
        self.watching: list[Callable[[], None]] = []
        """Called after each step of time."""
        self._stack = stack
        self._settings = Settings(project=folder, state_folder=folder, mesh="t")
        self._opened: list[Site] = []

    # --- processes --------------------------------------------------------------------------------

    async def site(self) -> Site:
        """Open one more process's worth of the mesh; it is closed with the world."""
        clock, doors, wires = GateClock(self.clock), Doors(), list[MemoryWire]()
        world = self

        class Engine:
            @asynccontextmanager
            async def open(self, sender: str, *, clock: Any, ids: Any) -> AsyncGenerator[Parts]:
                async with world.engine.open(sender, clock=clock, ids=ids) as parts:
                    wires.append(cast("MemoryWire", parts.wire))
                    journal = cast("Journal", DoorJournal(parts.journal, doors))
                    yield Parts(parts.wire, journal, parts.url)

        mesh = Mesh(settings=self._settings, engine=Engine(), clock=clock, ids=self.engine.ids)
        await mesh.__aenter__()
        site = Site(mesh, clock, doors, wires[0])
        self._opened.append(site)
        return site

    async def client(self) -> Mesh:
        """Open one more process without a node."""
        return (await self.site()).mesh

    async def cache(self, namespace: str = "s", of: Any = Any, **how: Any) -> Cache[Any]:
        """Return a namespace, at a process of its own."""
        return await (await self.client()).cache(namespace, of, **how)

    async def add(self, count: int = 1, *, quiet: bool = True, **how: Any) -> list[Site]:
        """Start nodes; returns when they have their share, unless it is not `quiet`."""
        added: list[Site] = []
        for _ in range(count):
            site = await self.site()
            site.agent = Node(**how)
            await self.do(site.mesh.host(site.agent))
            added.append(site)
            self.sites.append(site)
        if quiet:
            await self.until_quiet()
        return added

    async def close(self) -> None:
        """End all."""
        self.watching.clear()
        for site in self._opened:
            site.wire.restore()
            site.thaw()
        for site in self._opened:
            await self.do(_cancelled(site.mesh.aclose()))

    # --- time -------------------------------------------------------------------------------------

    async def do(self, work: Awaitable[T]) -> T:
        """Let time pass until something is done; returns what came of it."""
        task = asyncio.ensure_future(work)
        await self.until(task.done)
        return await task

    async def until(self, condition: Callable[[], object], *, within_s: float = PATIENCE_S) -> None:
        """Let time pass until something is so."""
        until_s = self.clock.monotonic_s() + within_s
        while not condition():
            assert self.clock.monotonic_s() < until_s, f"not within {within_s} s"
            await self.step()

    async def pass_s(self, time_s: float) -> None:
        """Let time pass."""
        until_s = self.clock.monotonic_s() + time_s
        while self.clock.monotonic_s() < until_s - TICK_S / 2:
            await self.step()

    async def step(self) -> None:
        """Let a little time pass, and look."""
        await self.clock.advance(TICK_S)
        for look in self.watching:
            look()

    async def until_quiet(self) -> None:
        """Let time pass until the table is as it is to be."""
        await self.until(self.is_quiet)

    def lag(self, luck: Random, time_s: float = 0.03) -> None:
        """Let every process hear of what lasts, and be heard, a little later: each by its luck."""

        async def wait() -> None:
            await self.clock.sleep(luck.random() * time_s)

        for site in self._opened:
            site.doors.lag = wait

    # --- what is there ----------------------------------------------------------------------------

    @property
    def alive(self) -> list[Site]:
        """The sites whose nodes are in the cache, and awake."""
        return [
            site
            for site in self.sites
            if site.agent.stay is not None and not site.clock.is_asleep and site.doors.are_open
        ]

    @property
    def table(self) -> Table:
        """The latest table that is known anywhere."""
        tables = [site.agent.stay.book.table for site in self.sites if site.agent.stay is not None]
        return max((each for each in tables if each is not None), key=lambda each: each.epoch)

    def is_quiet(self) -> bool:
        """Whether each node knows the same table, it names those who live, and nothing moves."""
        alive = self.alive
        known = [site.stay.book.table for site in alive]
        if None in known or len({table.epoch for table in known if table is not None}) > 1:
            return False
        if not alive or {node.id for node in self.table.nodes} != {site.id for site in alive}:
            return False
        return all(
            part.goal == (part.owner, *part.replicas) and part.owner for part in self.table.parts
        ) and all(site.stay.mover.is_quiet for site in alive)

    def holders(self, partition: int) -> Iterator[Site]:
        """Yield the sites that have something of a partition, by their stores."""
        for site in self.alive:
            if site.stay.store.keys(partition) or partition in site.stay.owner.holdings:
                yield site

    def of(self, node: str) -> Site:
        """Return the site of a node's id."""
        return next(site for site in self.alive if site.id == node)

    def owner(self, key: str) -> Site:
        """Return the site that owns a full key."""
        return self.of(self.table.parts[partition_of(key)].owner)

    def owned(self) -> Counter[str]:
        """Return how many partitions each node owns."""
        return Counter(part.owner for part in self.table.parts)

    def check_copies(self) -> None:
        """Find what is at one node and not at another that has the partition, or where none is."""
        for partition, part in enumerate(self.table.parts):
            members = {part.owner, *part.replicas}
            strangers = {site.id for site in self.holders(partition)} - members
            assert not strangers, f"partition {partition} is at {strangers}, not only at {members}"
            digests = {node: self.of(node).stay.store.digest(partition) for node in members}
            assert len(set(digests.values())) == 1, f"partition {partition}: {digests}"

    def check_one_owner(self) -> None:
        """Find partitions that two nodes would serve."""
        served: dict[int, Site] = {}
        for site in self.sites:
            stay = site.agent.stay
            if stay is None or not stay.lease.is_valid():
                continue
            for partition, holding in stay.owner.holdings.items():
                if holding.is_ready:
                    other = served.setdefault(partition, site)
                    assert other is site, f"partition {partition} is served by {other} and {site}"


async def _cancelled(work: Awaitable[Any]) -> None:
    """End at once, as one that is stopped for the second time: tests need no goodbye."""
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
