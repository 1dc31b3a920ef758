"""A member of a group: joins, works on its share, and leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from agent99.agent import Agent
from agent99.clock import wait_done
from agent99.envelope import Pattern, parse_name, parse_pattern
from agent99.errors import Agent99Error, JournalError, UsageError, WrongSequenceError
from agent99.groups._arranger import Arranger
from agent99.groups._lane import Handler, Lane, Tally
from agent99.groups._options import GroupOptions, GroupStatistics
from agent99.groups._parts import parts_of, reader_name
from agent99.groups._place import Charter, decode, encode
from agent99.groups._trust import Trust
from agent99.groups._view import Keys, View
from agent99.groups._watch import Watch
from agent99.journal import Bucket, BucketConfig

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.store import Store

BUCKET_BYTES_MAX = 256 * 1024**2
"""Of the entries of all groups of a mesh."""
FOLLOW_AGAIN_S = 1.0
"""Before the entries are followed again that could not be followed."""
CREATE_AGAIN_S = 0.1
"""Before a group is looked for that another member has just created: a replica may be behind."""
_CREATE_TRIES_MAX = 20

_log = logging.getLogger("agent99.groups")


class Group:
    """One member of a group that works on the stored events of some topics, in order per key.

    The keys are spread over 64 partitions. The members of a group, in as many processes as there
    are, share these evenly; each partition has one owner at a time, who hands its events to the
    handler in the order of the log, one batch at a time. Members may come, go and die at any time.

        async with Group(mesh, "billing", ("order.*",), handle):
            ...

    Args:
        of: The open mesh, or an agent that runs on it.
        name: The group's, by the grammar of names.
        topics: Patterns of the topics that it reads; they must not overlap. What a group reads is
            fixed when its first member creates it.
        handler: Is given a `Batch`; returned = done. Batches of different partitions are handed to
            it side by side. What it raises is logged, and the batch comes again, after a pause that
            grows: what lies behind it in its partition waits.
        store: Where the effects are: the position that its transactions keep (`Batch.fresh`) is
            the one that counts.
        options: The bounds.

    Delivery: at least once, in the order of the log per key. After a crash the events of the last
        `commit_s` come again. A member that stood still may, when it goes on, do once more what it
        was at, beside the new owner: an effect in the store is refused then, since it carries the
        epoch (`Batch.fresh`), and so takes place exactly once and in order; one elsewhere is not.

    Raises:
        UsageError, InvalidNameError: the name or the topics; nothing was sent.
        ClosedError: the mesh is not open.
    """

    def __init__(
        self,
        of: Mesh | Agent,
        name: str,
        topics: Iterable[str],
        handler: Handler,
        *,
        store: Store | None = None,
        options: GroupOptions | None = None,
    ) -> None:
        self.name = parse_name("group", name)
        self.topics = tuple(sorted(parse_pattern(topic) for topic in topics))
        """What it reads, sorted."""
        self.handler = handler
        """What it hands batches to."""
        self.options = options or GroupOptions()
        self.tally = Tally()
        self._parts = parts = parts_of(of)
        self.journal = parts.journal
        self.clock = parts.clock
        self.ids = parts.ids
        self.stream = parts.streams.log
        self.reader = reader_name(parts.subjects.mesh, self.name)
        if not self.topics:
            raise UsageError(f"group {self.name!r} reads no topics")
        parts.journal.tail(self.stream, self.subjects(0))  # refuses patterns that overlap
        self._store = store
        self._config = BucketConfig(
            name=f"a99_{parts.subjects.mesh}_groups",
            bytes_max=BUCKET_BYTES_MAX,
            replicas=parts.streams.replicas,
        )
        self._keys = Keys(self.name)
        self._view = View(self._keys, 0)
        self._watch: Watch | None = None
        self._arranger: Arranger | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        held = len(self._arranger.lanes) if self._arranger is not None else 0
        return f"Group({self.name!r}, topics={self.topics!r}, partitions={held})"

    async def __aenter__(self) -> Self:
        """Join. The partitions come as others hand them over, within some milliseconds.

        Raises:
            UsageError: the group was created with other topics; or this member was used before.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        if self._watch is not None:
            raise UsageError(f"{self!r} was used before: make another one")
        await self._parts.streams.ensure_log()
        bucket = await self.journal.bucket(self._config)
        charter = await self._charter(bucket)
        self._view = view = View(self._keys, charter.start)
        self._watch = watch = Watch(self._parts, bucket, view, self._keys, self.options)
        self._arranger = arranger = Arranger(self, bucket, view, watch.member, self._store)
        try:
            await watch.join()
        except BaseException:
            await watch.leave()
            raise
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
        """Return the subjects of a partition's events, wildcards in them."""
        listen = self._parts.subjects.log_listen_partition
        return tuple(listen(partition, Pattern(topic)) for topic in self.topics)

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
            claimed=tally.claimed,
            released=tally.released,
            fenced=tally.fenced,
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

    async def _charter(self, bucket: Bucket) -> Charter:
        """Return what the group is; it is created if it is not there."""
        for _ in range(_CREATE_TRIES_MAX):
            entry = await bucket.get(self._keys.charter)
            if entry is None:
                charter = Charter(self.topics, await self._first_position())
                try:
                    await bucket.create(self._keys.charter, encode(charter))
                except WrongSequenceError:  # another member was quicker
                    await self.clock.sleep(CREATE_AGAIN_S)
                    continue
                return charter
            found = decode(entry.value, Charter)
            if found is None or found.topics != self.topics:
                made = "in a form of its own" if found is None else f"with topics {found.topics}"
                raise UsageError(f"group {self.name!r} was created {made}, not {self.topics}")
            return found
        raise JournalError(f"group {self.name!r} could not be created")

    async def _first_position(self) -> int:
        options, last = self.options, (await self.journal.stream_state(self.stream)).last_sequence
        if options.from_sequence is not None:
            return max(options.from_sequence - 1, 0)
        if options.from_us is not None:
            async for record in self.journal.read(self.stream, from_us=options.from_us):
                return record.sequence - 1
            return last
        return last if options.start == "new" else 0

    async def _follow(self, arranger: Arranger) -> None:
        """Hear of every change of the group's entries, for ever."""
        while True:
            try:
                await self._hear(arranger)
            except Agent99Error as error:
                _log.warning("%r cannot be followed: %s", self, error)
            await self.clock.sleep(FOLLOW_AGAIN_S)

    async def _hear(self, arranger: Arranger) -> None:
        bucket = await self.journal.bucket(self._config)  # it may have been deleted
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
