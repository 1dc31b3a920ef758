"""The subscriptions of a mesh: kept in a bucket, and worked off by every instance of the bus."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from hashlib import sha256
from typing import Any, Final

import msgspec

from agent99 import Agent
from agent99.agent import link_of
from agent99.clock import Clock
from agent99.envelope import Topic, parse_name, parse_pattern
from agent99.errors import Agent99Error, JournalError, UsageError, WrongSequenceError
from agent99.groups import EventGroup, EventOptions, delete_group, parse_start
from agent99.journal import Bucket, BucketConfig, Change, Entry, Snapshot, matches
from agent99.systems.events._delivery import Delivery
from agent99.systems.events._patience import Patience
from agent99.systems.events._words import Subscribe, Subscription
from agent99.work import Curve

SUBSCRIPTIONS_MAX: Final = 256
BUCKET_BYTES_MAX: Final = 4 * 1024**2
REVISIONS_MAX: Final = 2 * SUBSCRIPTIONS_MAX
"""Of keys, the gone ones with them, of which the newest revision is remembered."""
TRIES_MAX: Final = 16
"""At an entry that others write at the same time."""
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
    or is about to end. What contradicts it is no news: the bucket is asked.
    """

    def __init__(self, bus: Agent, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._patience = Patience(bus, clock)
        self.known: dict[str, Subscription] = {}
        """By their keys in the bucket. It may be behind the bucket: it spares work, no more."""
        self._revisions: dict[str, int] = {}
        """The newest that was heard of each key; of one that is gone, too."""
        self._doubted: set[str] = set()
        """Keys of which the bucket must be asked."""
        self._groups: dict[str, EventGroup] = {}
        self._troubles: dict[str, str] = {}
        """Why a group cannot be worked off: each reason is told once."""
        self._bucket: Bucket | None = None
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    def __repr__(self) -> str:
        return f"Board({len(self.known)} subscriptions)"

    async def start(self) -> None:
        """Read the subscriptions, and work them off from now on.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        self._bucket = await self._open()
        self._hear(Snapshot(await self._bucket.snapshot()))
        self._go_on(self._follow)
        self._go_on(self._work)

    async def stop(self) -> None:
        """Hand over what is in hand: other instances go on."""
        self._is_stopping = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        groups, self._groups = tuple(self._groups.values()), {}
        await asyncio.gather(*(group.__aexit__(None, None, None) for group in groups))

    async def add(self, request: Subscribe) -> Subscription:
        """Keep a subscription, and have its group begin; the same one again is no other.

        Raises:
            UsageError, InvalidNameError: it is none; or there are too many.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError:
                whether it is kept is unknown; do it again.
        """
        wanted = self._wanted(request)
        group = self._group(wanted)  # checks the start
        key = key_of(wanted)
        for _ in range(TRIES_MAX):
            kept = await self._kept(key)
            if kept is not None:
                await self._group(kept).create()  # who kept it may have been ended half-way
                return kept
            if len(self.known) >= SUBSCRIPTIONS_MAX:
                raise UsageError(f"there are {SUBSCRIPTIONS_MAX} subscriptions: no more may be")
            await group.create()
            if await self._keep(key, wanted):
                return wanted
        raise JournalError(f"subscription {key!r} changes all the time")

    async def remove(self, group: str) -> bool:
        """Take a subscription back; returns whether it was there.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError:
                whether it is there is unknown; do it again.
        """
        bucket = self._opened()
        for _ in range(TRIES_MAX):
            entries = [each for each in await bucket.snapshot() if _is_of(each, group)]
            if not entries:
                return False
            entry = entries[0]
            try:
                await bucket.delete(entry.key, revision=entry.revision)
            except WrongSequenceError:  # what stands there by now may be another one
                continue
            if self._revisions.get(entry.key, 0) <= entry.revision:
                self._drop(entry.key, entry.revision)
            return True
        raise JournalError(f"subscription {group!r} changes all the time")

    def count(self, topic: Topic) -> int:
        """Return how many subscriptions match a topic."""
        return sum(matches(each.event_type, topic) for each in self.known.values())

    # --- the bucket -------------------------------------------------------------------------------

    async def _open(self) -> Bucket:
        link = link_of(self._bus)
        config = BucketConfig(
            name=f"a99_{link.subjects.mesh}_subscriptions",
            bytes_max=BUCKET_BYTES_MAX,
            replicas=link.durable.streams.replicas,
        )
        return await link.journal.bucket(config)

    def _opened(self) -> Bucket:
        assert self._bucket is not None
        return self._bucket

    def _wanted(self, request: Subscribe) -> Subscription:
        subscriber = parse_name("capability", request.subscriber)
        token = link_of(self._bus).ids.token().decode()[:8].lower()
        return Subscription(
            group=f"bus-{subscriber[:40]}-{token}",
            event_type=parse_pattern(request.event_type),
            subscriber=subscriber,
            mode=request.mode,
            start=request.start,
        )

    async def _kept(self, key: str) -> Subscription | None:
        """Return what the bucket itself has under a key.

        Raises:
            UsageError: it cannot be read.
        """
        entry = await self._opened().get(key)
        if entry is None:
            return None
        try:
            return _decode(entry.value)
        except msgspec.DecodeError as error:
            raise UsageError(
                f"the entry {key!r} of the subscriptions cannot be read: {error}"
            ) from error

    async def _keep(self, key: str, wanted: Subscription) -> bool:
        """Keep a subscription whose group is there; returns False when somebody was quicker."""
        value = _encode(wanted)
        try:
            revision = await self._opened().create(key, value)
        except WrongSequenceError:  # where the other one began, it began
            await delete_group(self._bus, wanted.group)
            return False
        except Agent99Error:
            await self._clean_up(key, wanted)
            raise
        self._note(Entry(key, value, revision))
        self._news.set()
        return True

    async def _clean_up(self, key: str, wanted: Subscription) -> None:
        """Delete the group of a subscription that was not kept, as far as can be told."""
        with contextlib.suppress(Agent99Error):
            kept = await self._kept(key)
            if kept is None or kept.group != wanted.group:
                await delete_group(self._bus, wanted.group)

    # --- what is heard of it ----------------------------------------------------------------------

    def _note(self, entry: Entry) -> None:
        """Take in what stands under a key, if it is newer than what is known."""
        seen = self._revisions.get(entry.key, 0)
        if entry.revision < seen or (entry.revision == seen and entry.key not in self.known):
            self._doubted.add(entry.key)
        elif entry.revision > seen:
            try:
                self.known[entry.key] = _decode(entry.value)
            except msgspec.DecodeError as error:
                _log.warning("subscription %r cannot be read: %s", entry.key, error)
            else:
                self._revisions[entry.key] = entry.revision

    def _drop(self, key: str, revision: int) -> None:
        """Take in that a key is gone: of what came before it, nothing is heeded."""
        self.known.pop(key, None)
        self._revisions.pop(key, None)
        self._revisions[key] = revision
        if len(self._revisions) > REVISIONS_MAX:
            gone = next(each for each in self._revisions if each not in self.known)
            del self._revisions[gone]
        self._news.set()

    def _hear(self, news: Snapshot | Change) -> None:
        if isinstance(news, Snapshot):  # it may be older than what was added meanwhile
            self._doubted |= self.known.keys() - {entry.key for entry in news.entries}
            for entry in news.entries:
                self._note(entry)
        elif news.kind == "put":
            self._note(Entry(news.key, news.value, news.revision))
        elif news.revision > self._revisions.get(news.key, 0):
            self._drop(news.key, news.revision)
        elif news.key in self.known:
            self._doubted.add(news.key)
        self._news.set()

    async def _settle(self) -> None:
        """Ask the bucket for whatever is doubted."""
        while self._doubted:
            key = next(iter(self._doubted))
            seen = self._revisions.get(key, 0)
            entry = await self._opened().get(key)
            if self._revisions.get(key, 0) != seen:  # it was heard of meanwhile
                continue
            self._doubted.discard(key)
            if entry is None:
                self._drop(key, seen)
            elif entry.revision != seen or key not in self.known:
                self._revisions.pop(key, None)  # of a bucket that was made anew, they begin anew
                self._note(entry)

    # --- at work ----------------------------------------------------------------------------------

    def _go_on(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = asyncio.get_running_loop().create_task(work())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, work))

    def _ended(
        self, work: Callable[[], Coroutine[Any, Any, None]], task: asyncio.Task[None]
    ) -> None:
        """Begin anew what ended, which is a bug of ours."""
        self._tasks.discard(task)
        if task.cancelled() or self._is_stopping:
            return
        _log.critical("%r broke, and begins anew", self, exc_info=task.exception())
        self._clock.call_later(FOLLOW_AGAIN_S, partial(self._begin_anew, work))

    def _begin_anew(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if not self._is_stopping:
            self._go_on(work)
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
            try:
                await self._settle()
            except Agent99Error as error:
                _log.warning("subscriptions cannot be looked up: %s", error)
                self._clock.call_later(FOLLOW_AGAIN_S, self._news.set)
            wanted = {each.group: each for each in self.known.values()}
            for name in self._groups.keys() - wanted.keys():
                await self._end(name)
            for name in wanted.keys() - self._groups.keys():
                await self._begin(wanted[name])

    async def _begin(self, subscription: Subscription) -> None:
        name = subscription.group
        try:
            group = self._group(subscription)
            await group.__aenter__()
        except Agent99Error as error:
            if self._troubles.get(name) != str(error):
                self._troubles[name] = str(error)
                _log.error("subscription %r cannot be worked off: %s", name, error)
            self._clock.call_later(FOLLOW_AGAIN_S, self._news.set)
        else:
            self._troubles.pop(name, None)
            self._groups[name] = group

    async def _end(self, name: str) -> None:
        """Leave the group of a subscription that was taken back; the last one deletes it."""
        try:
            await self._groups.pop(name).__aexit__(None, None, None)
            await delete_group(self._bus, name)
        except Agent99Error as error:  # others are still in it, or it is deleted already
            _log.info("%r stays: %s", name, error)

    def _group(self, subscription: Subscription) -> EventGroup:
        """Return the group of a subscription, not entered.

        Raises:
            UsageError, InvalidNameError: it is none: its start, a name, or its pattern.
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


def key_of(subscription: Subscription) -> str:
    """Return the key of a subscription: the same for the same words, whoever asks."""
    words = (subscription.event_type, subscription.subscriber, subscription.mode)
    return sha256(_encode(words)).hexdigest()[:32]


def _is_of(entry: Entry, group: str) -> bool:
    try:
        return _decode(entry.value).group == group
    except msgspec.DecodeError:  # it is told of where it is heard
        return False
