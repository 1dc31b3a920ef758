"""A member of a group: joins, works on its share, and leaves; of either kind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from agent99.agent import Agent
from agent99.clock import wait_done
from agent99.envelope import PARTITIONS, Pattern, parse_name, parse_pattern
from agent99.errors import Agent99Error, JournalError, UsageError, WrongSequenceError
from agent99.groups._arranger import Arranger
from agent99.groups._lane import Hold, Lane, Tally
from agent99.groups._options import GroupOptions, GroupStatistics
from agent99.groups._parts import open_bucket, parts_of, reader_name
from agent99.groups._place import Charter, Place, Progress, decode, encode, reset
from agent99.groups._start import find_beginning
from agent99.groups._tenure import Tenure
from agent99.groups._trust import Trust
from agent99.groups._view import Keys, View
from agent99.groups._watch import Watch
from agent99.journal import Bucket, Entry

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.store import Store

FOLLOW_AGAIN_S = 1.0
"""Before the entries are followed again that could not be followed."""
CREATE_AGAIN_S = 0.1
"""Before a group is looked for that another member has just created: a replica may be behind."""
_CREATE_TRIES_MAX = 20

_log = logging.getLogger("agent99.groups")


class Member:
    """One member of a group, whichever way its events are handed out."""

    is_in_store: bool = False
    """Whether the positions that count are those in its store."""
    is_by_event: bool = False
    """Whether it is handed single events."""

    def __init__(
        self,
        of: Mesh | Agent,
        name: str,
        topics: Iterable[str],
        *,
        store: Store | None,
        options: GroupOptions,
    ) -> None:
        self.name = parse_name("group", name)
        self.topics = tuple(sorted(parse_pattern(topic) for topic in topics))
        """What it reads, sorted."""
        self.partitions = PARTITIONS if options.active == "all" else 1
        self.tally = Tally()
        self.alone = asyncio.Lock()
        self.parts = parts = parts_of(of)
        self.journal = parts.journal
        self.clock = parts.clock
        self.deadlines = parts.deadlines
        self.ids = parts.ids
        self.stream = parts.streams.log
        self.reader = reader_name(parts.subjects.mesh, self.name)
        self._again = parts.subjects.again_root
        if not self.topics:
            raise UsageError(f"group {self.name!r} reads no topics")
        parts.journal.tail(self.stream, self.subjects(0))  # refuses patterns that overlap
        self._options = options
        self._store = store
        self._keys = Keys(self.name)
        self._view = View(self._keys, 0, self.partitions)
        self._watch: Watch | None = None
        self._arranger: Arranger | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        held = len(self._arranger.lanes) if self._arranger is not None else 0
        return f"{type(self).__name__}({self.name!r}, topics={self.topics!r}, partitions={held})"

    @property
    def has_store(self) -> bool:
        """Whether the epochs are in a store as well."""
        return self._store is not None

    @property
    def options(self) -> GroupOptions:
        """The bounds."""
        return self._options

    async def __aenter__(self) -> Self:
        """Join. The partitions come as others hand them over, within some milliseconds.

        Raises:
            UsageError: the group was created with other topics; or this member was used before.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        if self._watch is not None:
            raise UsageError(f"{self!r} was used before: make another one")
        for _ in range(_CREATE_TRIES_MAX):
            bucket, charter = await self._ensure()
            self._view = view = View(self._keys, charter.start, self.partitions)
            self._watch = watch = Watch(self.parts, bucket, view, self._keys, self.options)
            self._arranger = arranger = Arranger(self, bucket, view, watch.member)
            try:
                await watch.join()
                if await bucket.get(self._keys.charter) is not None:
                    break
            except BaseException:
                await watch.leave()
                raise
            await watch.leave()  # it was deleted just now
        else:
            raise JournalError(f"group {self.name!r} is deleted all the time")
        for work in (arranger.run(), self._follow(arranger), watch.run(), self._commit()):
            self._start(work)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave: drain, commit and hand over; where that is cancelled, others take over."""
        watch, arranger = self._watch, self._arranger
        assert watch is not None
        assert arranger is not None
        try:
            await self._hand_over(watch, arranger)
        finally:
            await arranger.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await watch.leave()

    async def create(self) -> None:
        """Have the group be there, without being in it: it begins where the options say, now.

        Raises:
            UsageError: it was created in another way; the start is in the future.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        await self._ensure()

    @property
    def member(self) -> str:
        """The id of this member; empty before it has joined."""
        return self._watch.member if self._watch is not None else ""

    @property
    def trust(self) -> Trust:
        """Private to the room."""
        assert self._watch is not None
        return self._watch.trust

    def subjects(self, partition: int) -> tuple[str, ...]:
        """Private to the room: return what is read of a partition; see `is_for_others`."""
        where = "*" if self.partitions == 1 else str(partition)
        listen = self.parts.subjects.group_listen
        return tuple(listen(Pattern(topic), where) for topic in self.topics)

    def is_for_others(self, subject: str) -> bool:
        """Private to the room: tell whether what is read is given to another group once more."""
        return subject.startswith(self._again) and subject.split(".")[4] != self.name

    def lane(self, partition: int, tenure: Hold, progress: Progress) -> Lane:
        """Return what works off a partition, from where it is on."""
        raise NotImplementedError

    async def begin(self, partition: int, tenure: Tenure) -> Lane:
        """Private to the room: work on a partition that was just claimed, from where it is on."""
        progress = tenure.place.progress
        if self._store is not None:
            from agent99.store import claim_position  # noqa: PLC0415 - only where there is a store

            own = partial(
                claim_position,
                reader=self.reader,
                part=partition,
                epoch=tenure.epoch,
                start=progress.position,
            )
            position = await self._store.transaction(own)
            if self.is_in_store:
                progress = msgspec.structs.replace(progress, position=position)
        return self.lane(partition, tenure, progress)

    def lost(self, lane: Lane) -> None:
        """Private to the room: a partition belongs to another member."""
        if self._arranger is not None:
            self._arranger.lost(lane)

    def statistics(self) -> GroupStatistics:
        """Return the counts now."""
        tally = self.tally
        lanes = self._arranger.lanes if self._arranger is not None else {}
        return GroupStatistics(
            members=len(self._view.members),
            partitions=frozenset(lanes),
            events=tally.events,
            batches=tally.batches,
            failures=tally.failures,
            buried=tally.buried,
            claimed=tally.claimed,
            released=tally.released,
            fenced=tally.fenced,
            held_up={part: lane.held_up for part, lane in lanes.items() if lane.held_up},
        )

    # --- inside -----------------------------------------------------------------------------------

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Leave if a part of the member broke by a bug: what only seems to live stops the group."""
        if not task.cancelled() and task.exception() is not None:
            _log.critical("%r broke, and leaves the group", self, exc_info=task.exception())
            self._tasks.append(asyncio.get_running_loop().create_task(self._let_go()))

    async def _let_go(self) -> None:
        if self._arranger is not None and self._watch is not None:
            await self._arranger.close()
            await self._watch.leave()

    async def _ensure(self) -> tuple[Bucket, Charter]:
        await self.parts.streams.ensure_log()
        bucket = await open_bucket(self.parts)
        return bucket, await self._charter(bucket)

    async def _charter(self, bucket: Bucket) -> Charter:
        """Return what the group is; it is created if it is not there."""
        wanted = Charter(
            self.topics, 0, self.partitions, self.is_in_store, is_by_event=self.is_by_event
        )
        for _ in range(_CREATE_TRIES_MAX):
            entries = {one.key: one for one in await bucket.snapshot(self._keys.everything)}
            entry = entries.get(self._keys.charter)
            if entry is None:
                try:
                    return await self._create(bucket, wanted, entries)
                except WrongSequenceError:  # another member was quicker
                    await self.clock.sleep(CREATE_AGAIN_S)
                    continue
            found = decode(entry.value, Charter)
            if found is None or msgspec.structs.replace(found, start=0) != wanted:
                raise UsageError(f"group {self.name!r} was created {_made(found, wanted)}")
            return found
        raise JournalError(f"group {self.name!r} could not be created")

    async def _create(self, bucket: Bucket, wanted: Charter, left: Mapping[str, Entry]) -> Charter:
        """Create the group where nobody has.

        Args:
            left: Entries of a group of the name that is no more; its partitions begin anew.

        Raises:
            WrongSequenceError: another member was quicker.
        """
        beginning = await find_beginning(
            self.journal,
            self.stream,
            [self.parts.subjects.log_listen(Pattern(topic)) for topic in self.topics],
            self.options.start or "first",
            now_us=self.clock.wall_us(),
            partitions=self.partitions,
        )
        charter = msgspec.structs.replace(wanted, start=beginning.position)
        for partition in range(self.partitions):
            key = self._keys.place(partition)
            entry, progress = left.get(key), beginning.progress(partition)
            if entry is not None:
                place = reset(decode(entry.value, Place) or Place(), progress)
                await bucket.update(key, encode(place), revision=entry.revision)
            elif partition in beginning.open:
                await bucket.create(key, encode(reset(Place(), progress)))
        await bucket.create(self._keys.charter, encode(charter))
        return charter

    async def _follow(self, arranger: Arranger) -> None:
        """Hear of every change of the group's entries, for ever."""
        while True:
            try:
                await self._hear(arranger)
            except Agent99Error as error:
                _log.warning("%r cannot be followed: %s", self, error)
            await self.clock.sleep(FOLLOW_AGAIN_S)

    async def _hear(self, arranger: Arranger) -> None:
        bucket = await open_bucket(self.parts)  # it may have been deleted
        async with bucket.follow(self._keys.everything) as news:
            async for each in news:
                self._view.apply(each)
                arranger.wake()

    async def _commit(self) -> None:
        """Write now and then how far each partition is, and look at everything, for ever."""
        while True:
            await self.clock.sleep(self.options.commit_s)
            if self._arranger is not None:
                await self._arranger.commit()
                self._arranger.wake()

    async def _hand_over(self, watch: Watch, arranger: Arranger) -> None:
        try:
            await watch.announce_leaving()
        except Agent99Error as error:
            _log.info("%r leaves without a word: %s", self, error)
            return
        handing = asyncio.ensure_future(arranger.hand_over())
        try:
            # Twice: what is claimed just now is handed over after it.
            if not await wait_done(self.clock, handing, 2 * self.options.drain_s_max):
                _log.warning("%r could not hand over all of its partitions", self)
        finally:
            handing.cancel()


def _made(found: Charter | None, wanted: Charter) -> str:
    """Return in words how a group was created that is not what is wanted."""
    if found is None:
        return "in a form of its own"
    if found.topics != wanted.topics:
        return f"with topics {found.topics}, not {wanted.topics}"
    if found.partitions != wanted.partitions:
        return "with one active member" if found.partitions == 1 else "with all members active"
    if found.is_by_event != wanted.is_by_event:
        return "for single events" if found.is_by_event else "for batches"
    return "with its positions in a store" if found.is_in_store else "without a store"
