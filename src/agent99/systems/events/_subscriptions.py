"""The subscriptions of a mesh: kept in a bucket, and worked off by every instance of the bus."""

from __future__ import annotations

import asyncio
import logging
from typing import Final
from zlib import crc32

import msgspec

from agent99 import Agent
from agent99.agent import link_of
from agent99.clock import Clock
from agent99.envelope import Topic, parse_name, parse_pattern
from agent99.errors import Agent99Error, UsageError, WrongSequenceError
from agent99.groups import EventGroup, EventOptions, delete_group, parse_start
from agent99.journal import Bucket, BucketConfig, Change, Snapshot, matches
from agent99.systems.events._delivery import Delivery
from agent99.systems.events._patience import Patience
from agent99.systems.events._words import Subscribe, Subscription
from agent99.work import Curve

SUBSCRIPTIONS_MAX: Final = 256
BUCKET_BYTES_MAX: Final = 4 * 1024**2
FOLLOW_AGAIN_S: Final = 1.0
"""Before the subscriptions are followed again that could not be followed, or worked off."""
CURVE: Final = Curve(attempts_max=5, delay_s=1.0, delay_s_max=60.0, timeout_s=86_400.0)
"""Of the attempts at one event; an attempt waits until somebody is there to take it."""

_log = logging.getLogger("agent99.events")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Subscription).decode


class Board:
    """Keeps the subscriptions, and works them off while it is entered.

    Invariant: `known` is what was last heard of the bucket; each group that runs is of one of them,
    or is about to end.
    """

    def __init__(self, bus: Agent, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._patience = Patience(bus, clock)
        self.known: dict[str, Subscription] = {}
        """By their keys in the bucket."""
        self._groups: dict[str, EventGroup] = {}
        self._bucket: Bucket | None = None
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        return f"Board({len(self.known)} subscriptions)"

    async def start(self) -> None:
        """Read the subscriptions, and work them off from now on.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        self._bucket = await self._open()
        for entry in await self._bucket.snapshot():
            self._note(entry.key, entry.value)
        self._news.set()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._follow()), loop.create_task(self._work())]

    async def stop(self) -> None:
        """Hand over what is in hand: other instances go on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        groups, self._groups = tuple(self._groups.values()), {}
        await asyncio.gather(*(group.__aexit__(None, None, None) for group in groups))

    async def add(self, request: Subscribe) -> Subscription:
        """Keep a subscription, and have its group begin; the same one again is no other.

        Raises:
            UsageError, InvalidNameError: it is none; or there are too many.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        subscriber = parse_name("capability", request.subscriber)
        event_type = parse_pattern(request.event_type)
        key = f"{crc32(f'{event_type} {subscriber} {request.mode}'.encode()):08x}"
        token = link_of(self._bus).ids.token().decode()[:8].lower()
        wanted = Subscription(
            group=f"bus-{subscriber[:40]}-{token}",
            event_type=event_type,
            subscriber=subscriber,
            mode=request.mode,
            start=request.start,
        )
        group = self._group(wanted)  # checks the start
        if key in self.known:
            return self.known[key]
        if len(self.known) >= SUBSCRIPTIONS_MAX:
            raise UsageError(f"there are {SUBSCRIPTIONS_MAX} subscriptions, and no more may be")
        assert self._bucket is not None
        await group.create()
        try:
            await self._bucket.create(key, _encode(wanted))
        except WrongSequenceError:  # somebody was quicker: where it began, it began
            await delete_group(self._bus, wanted.group)
            entry = await self._bucket.get(key)
            return _decode(entry.value) if entry is not None else await self.add(request)
        self._note(key, _encode(wanted))
        self._news.set()
        return wanted

    async def remove(self, group: str) -> bool:
        """Take a subscription back; returns whether it was there.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        assert self._bucket is not None
        for entry in await self._bucket.snapshot():
            if _decode(entry.value).group == group:
                await self._bucket.delete(entry.key)
                self.known.pop(entry.key, None)
                self._news.set()
                return True
        return False

    def count(self, topic: Topic) -> int:
        """Return how many subscriptions match a topic."""
        return sum(matches(each.event_type, topic) for each in self.known.values())

    # --- inside -----------------------------------------------------------------------------------

    async def _open(self) -> Bucket:
        link = link_of(self._bus)
        config = BucketConfig(
            name=f"a99_{link.subjects.mesh}_subscriptions",
            bytes_max=BUCKET_BYTES_MAX,
            replicas=link.durable.streams.replicas,
        )
        return await link.journal.bucket(config)

    def _note(self, key: str, value: bytes) -> None:
        try:
            self.known[key] = _decode(value)
        except msgspec.DecodeError as error:
            _log.warning("subscription %r cannot be read: %s", key, error)

    def _hear(self, news: Snapshot | Change) -> None:
        if isinstance(news, Snapshot):
            self.known.clear()
            for entry in news.entries:
                self._note(entry.key, entry.value)
        elif news.kind == "put":
            self._note(news.key, news.value)
        else:
            self.known.pop(news.key, None)
        self._news.set()

    async def _follow(self) -> None:
        """Hear of every change, for ever."""
        while True:
            try:
                await self._hear_all()
            except Agent99Error as error:
                _log.warning("the subscriptions cannot be followed: %s", error)
            await self._clock.sleep(FOLLOW_AGAIN_S)

    async def _hear_all(self) -> None:
        bucket = self._bucket = await self._open()  # it may have been deleted
        async with bucket.follow() as news:
            async for each in news:
                self._hear(each)

    async def _work(self) -> None:
        """Be in the group of each subscription, for ever."""
        while True:
            await self._news.wait()
            self._news.clear()
            wanted = {each.group: each for each in self.known.values()}
            for name in self._groups.keys() - wanted.keys():
                await self._end(name)
            for name in wanted.keys() - self._groups.keys():
                await self._begin(wanted[name])

    async def _begin(self, subscription: Subscription) -> None:
        group = self._group(subscription)
        try:
            await group.__aenter__()
        except Agent99Error as error:
            _log.error("subscription %r cannot be worked off: %s", group.name, error)
            self._clock.call_later(FOLLOW_AGAIN_S, self._news.set)
        else:
            self._groups[group.name] = group

    async def _end(self, name: str) -> None:
        """Leave the group of a subscription that was taken back; the last one deletes it."""
        await self._groups.pop(name).__aexit__(None, None, None)
        try:
            await delete_group(self._bus, name)
        except Agent99Error as error:  # others are still in it, or it is deleted already
            _log.info("%r stays: %s", name, error)

    def _group(self, subscription: Subscription) -> EventGroup:
        """Return the group of a subscription, not entered.

        Raises:
            UsageError: its start is none.
        """
        delivery = Delivery(self._bus, subscription, self._clock, self._patience)
        options = EventOptions(
            curve=CURVE,
            start=parse_start(subscription.start, self._clock),
            active="one" if subscription.mode == "one" else "all",
        )
        return EventGroup(
            self._bus,
            subscription.group,
            (subscription.event_type,),
            delivery.deliver,
            options=options,
        )
