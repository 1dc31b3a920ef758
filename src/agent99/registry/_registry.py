"""One process's part in the registry: what it announces, and the table of everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import msgspec

from agent99.clock import Clock, TimerHandle
from agent99.errors import (
    Agent99Error,
    ClosedError,
    PayloadTooLargeError,
    StreamNotFoundError,
    UsageError,
)
from agent99.ids import Ids
from agent99.journal import Change, Journal, Snapshot
from agent99.registry._background import Alarm, Background
from agent99.registry._buckets import Buckets, in_batches
from agent99.registry._description import Description, encode_description
from agent99.registry._directory import Directory, record_key
from agent99.registry._keeper import Keeper
from agent99.registry._log import logger
from agent99.registry._options import RegistryOptions, RegistryStatistics
from agent99.registry._table import Table, TableChange
from agent99.registry._waiting import Waiting
from agent99.wire import ConnectionState, Wire

Changed = Callable[[tuple[TableChange, ...]], None]
"""Takes what changed in the table, at once, on the event loop."""

HEADERS_BYTES = 4_096
"""What a description leaves of a message for its headers."""

_DEFAULTS = RegistryOptions()


class Registry:
    """Announces this process's agents and knows everybody's.

    Descriptions are written once, and again when they change; what is refreshed is one lease per
    process, because a process's agents die together. Every process follows the descriptions; only
    the elected keeper follows the leases and removes what the dead have left. So the cost of
    liveness grows with the number of processes and not with its square.

    Routing does not depend on it. While the server is away the table stays as it was.

    Invariant: what is announced and not withdrawn is in the table, whatever the server holds, and
    is written again when it is found missing there.
    """

    def __init__(
        self,
        journal: Journal,
        wire: Wire,
        *,
        mesh: str,
        clock: Clock,
        ids: Ids,
        options: RegistryOptions = _DEFAULTS,
    ) -> None:
        """Make a registry that does nothing yet.

        Raises:
            InvalidNameError: `mesh` breaks the grammar.
        """
        self.options = options
        self.process = ids.token().decode()
        """This process's name in leases and descriptions: random, never used again."""
        self._wire = wire
        self._clock = clock
        self._ids = ids
        self._sender = wire.sender.decode()
        self._directory = Directory(self.process)
        self._buckets = Buckets(journal, mesh, options)
        self._keeper = Keeper(self.process, self._buckets, self._directory, clock, ids, options)
        self._background = Background(
            clock, ids, retry_s_min=options.retry_s_min, retry_s_max=options.retry_s_max
        )
        self._alarm = Alarm(clock)
        self._writing = asyncio.Lock()
        self._listeners: list[Changed] = []
        self._waiting = Waiting(clock)
        self._is_read = False
        self._suspects: TimerHandle | None = None
        self._refreshes = 0
        self._written = 0
        self._leased = False
        self._started = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "started" if self._started else "not started"
        return f"Registry({self.process!r}, {state}, instances={len(self.table)})"

    @property
    def table(self) -> Table:
        """Everybody on the mesh, as this process knows it."""
        return self._directory.table

    async def start(self) -> None:
        """Read the registry and follow it from now on. Returns when the table is complete.

        Descriptions whose process has no lease are suspects at first, until the keeper has judged.

        Raises:
            DeadlineExceededError: not read within `start_s`.
            JournalError, TransportError
        """
        if self._closed:
            raise ClosedError("registry")
        if self._started:
            return
        self._started = True
        await self._buckets.open()
        self._wire.on_state(self._state_changed)
        self._background.start("registry: follow", self._follow)
        await self._waiting.wait(
            self.options.start_s, "the registry was not read", lambda: self._is_read
        )
        await self._doubt_the_unleased()
        self._background.start("registry: lease", self._keep_lease)
        self._background.start("registry: keeper", self._keeper.run)

    async def announce(self, description: Description) -> Description:
        """Make a running agent known, or its change; returns it as it is kept.

        The registry fills in `sender` and `process`.

        Delivery: returned = stored; other processes see it some milliseconds later. On an error it
        is in this process's table all the same, and is written as soon as the server takes it.

        Raises:
            PayloadTooLargeError: it is larger than the server takes; it is not announced.
            JournalError, TransportError, DeadlineExceededError, ClosedError
        """
        self._check_open()
        mine = msgspec.structs.replace(description, sender=self._sender, process=self.process)
        self._check_size(mine)
        key = self._key(mine.instance)
        self._tell([self._directory.want(key, mine)])
        if not self._leased:
            await self._refresh()  # first, so that no record is ever without a lease
        await self._settle((key,))
        return mine

    async def withdraw(self, instance: str) -> None:
        """Make it known that an agent is gone; withdrawing one that is not there does nothing.

        Delivery: as `announce`.

        Raises:
            JournalError, TransportError, DeadlineExceededError, ClosedError
        """
        self._check_open()
        key = self._key(instance)
        self._tell([self._directory.unwant(key)])
        if key in self._directory.unsettled:
            await self._settle((key,))

    def forget(self, instance: str) -> None:
        """Withdraw without waiting, at any time: the record goes with the next refresh."""
        if not self._closed:
            self._tell([self._directory.unwant(self._key(instance))])
            if self._directory.unsettled:
                self._ring()

    def suspect(self, instance: str, for_s: float | None = None) -> None:
        """Put an instance behind the others, here only, after a request to it failed.

        Args:
            instance: Its UUID; unknown ones are ignored.
            for_s: Seconds; `suspect_s` of the options when None.
        """
        now_s = self._clock.monotonic_s()
        self.table.suspect(instance, now_s + (self.options.suspect_s if for_s is None else for_s))
        self._forgive_expired()

    def forgive(self, instance: str) -> None:
        """Trust an instance again: a request to it succeeded."""
        self.table.forgive(instance)

    async def wait_for(self, *capabilities: str, timeout_s: float) -> tuple[Description, ...]:
        """Wait until somebody offers all of these and takes requests; returns what `discover` does.

        Raises:
            DeadlineExceededError: nobody came within `timeout_s`.
            ClosedError
        """
        self._check_open()
        wanted = " and ".join(map(repr, capabilities)) or "anything"
        await self._waiting.wait(
            timeout_s,
            f"nobody came who offers {wanted}",
            lambda: bool(self.table.discover(*capabilities)),
        )
        return self.table.discover(*capabilities)

    async def wait_until(self, holds: Callable[[Table], bool], *, timeout_s: float) -> None:
        """Wait until the table is such that `holds` returns true; it is asked at each change.

        Raises:
            DeadlineExceededError: it was not so within `timeout_s`.
            ClosedError
        """
        self._check_open()
        await self._waiting.wait(
            timeout_s, "the table did not become as awaited", lambda: holds(self.table)
        )

    def on_change(self, listen: Changed) -> Callable[[], None]:
        """Call `listen` with what changed, after each change; returns how to stop that.

        A snapshot's changes come together. What `listen` raises is logged, and does no harm.
        """
        self._listeners.append(listen)
        return lambda: self._listeners.remove(listen) if listen in self._listeners else None

    def statistics(self) -> RegistryStatistics:
        """Return the counts so far."""
        return RegistryStatistics(
            instances=len(self.table),
            processes=len(self._directory.processes()),
            is_keeper=self._keeper.is_keeper,
            unreadable=self._directory.unreadable,
            refreshes=self._refreshes,
            written=self._written,
            lost=self._directory.lost,
            removed=self._keeper.removed,
            failures=self._background.failures,
        )

    async def aclose(self) -> None:
        """Withdraw everything of this process, give its lease and the keeper's place back.

        With the link away nothing is withdrawn: the lease runs out. Idempotent; never raises.
        """
        if self._closed:
            return
        self._closed = True
        self._alarm.close()
        self._keeper.close()
        if self._suspects is not None:
            self._suspects.cancel()
        self._waiting.close()
        for key in self._directory.wanted_keys():
            self._tell([self._directory.unwant(key)])
        await self._background.aclose()
        if self._started and self._wire.state is ConnectionState.CONNECTED:
            await self._leave()

    # --- the lease --------------------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        """Refresh the lease for ever, and mend what the bucket has lost."""
        if not self._leased:
            # Who is gone before that needs no lease; who stays may be the next keeper's only hope.
            await self._alarm.wait(self._period_s() / 2)
        while True:
            await self._refresh()
            await self._settle(tuple(self._directory.unsettled))
            await self._alarm.wait(self._period_s())

    async def _refresh(self) -> None:
        try:
            await self._buckets.leases.put(self.process, self._sender.encode())
        except StreamNotFoundError:
            await self._reopen()
            await self._buckets.leases.put(self.process, self._sender.encode())
        self._leased = True
        self._refreshes += 1
        self._keeper.judge.refreshed(self._clock.monotonic_s())

    async def _settle(self, keys: Iterable[str]) -> None:
        """Make records as they are wanted; what fails is tried again soon."""
        try:
            async with self._writing:
                await in_batches(keys, self.options.writes_max, self._write)
        except Agent99Error:
            self._alarm.ring(self.options.retry_s_min + self._ids.fraction())
            raise

    async def _write(self, key: str) -> None:
        try:
            await self._write_wanted(key)
        except StreamNotFoundError:
            await self._reopen()
            await self._write_wanted(key)

    async def _write_wanted(self, key: str) -> None:
        # No compare-and-set: nobody but this process writes this key, and the keeper removes it
        # only at a revision.
        wanted = self._directory.wanted(key)
        if wanted is None:
            await self._buckets.registry.delete(key)
        else:
            await self._buckets.registry.put(key, encode_description(wanted))
            self._written += 1
        self._directory.settle(key, wanted)

    async def _reopen(self) -> None:
        """Make the buckets again after one was lost, and doubt everything that was in them."""
        logger.warning("a bucket of the registry was lost; it is made again")
        self._keeper.judge.broken()
        self._directory.unsettle()
        await self._buckets.open()

    async def _leave(self) -> None:
        try:
            await self._settle(tuple(self._directory.unsettled))
            if self._leased:
                await self._buckets.leases.delete(self.process)
            await self._keeper.resign()
        except Agent99Error as error:
            logger.info("left without a word, the lease will run out: %s", error)

    def _period_s(self) -> float:
        options = self.options
        period_s = options.lease_refresh_s
        if self._keeper.is_keeper:
            # Its lease outlives its place by far: whoever succeeds it sees that lease run out.
            period_s = min(period_s, options.keeper_refresh_s)
        return period_s * (0.9 + 0.2 * self._ids.fraction())

    # --- the table --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        try:
            async with self._buckets.registry.follow() as changes:
                async for change in changes:
                    self._take(change)
        except StreamNotFoundError:
            await self._reopen()
            raise

    def _take(self, change: Snapshot | Change) -> None:
        if isinstance(change, Snapshot):
            self._tell(self._directory.snapshot(change.entries))
            self._is_read = True
            self._waiting.look()
        else:
            self._tell([self._directory.change(change)])
        if self._directory.unsettled:
            self._ring()

    async def _doubt_the_unleased(self) -> None:
        leased = {entry.key for entry in await self._buckets.leases.snapshot()}
        for description in self.table.everybody():
            if description.process not in leased:
                self.suspect(description.instance, self.options.lease_s + self.options.keeper_s)

    def _state_changed(self, state: ConnectionState) -> None:
        if self._closed:
            return
        if state is ConnectionState.CONNECTED:
            self._ring()
        else:
            self._keeper.judge.broken()

    def _ring(self) -> None:
        """Have the lease refreshed and the records mended soon, but not by everybody at once."""
        self._alarm.ring(max(0.001, self._ids.fraction() * self.options.rejoin_jitter_s))

    def _tell(self, changes: Iterable[TableChange | None]) -> None:
        real = tuple(change for change in changes if change is not None)
        if not real:
            return
        self._waiting.look()
        for listen in tuple(self._listeners):
            try:
                listen(real)
            except Exception:  # noqa: BLE001 - user code: it must not stop the table or the others
                logger.exception("a listener to the registry raised")

    def _forgive_expired(self) -> None:
        now_s = self._clock.monotonic_s()
        next_s = self.table.forgive_expired(now_s)
        if self._suspects is not None:
            self._suspects.cancel()
        self._suspects = None
        if next_s is not None and not self._closed:
            self._suspects = self._clock.call_later(next_s - now_s, self._forgive_expired)

    def _key(self, instance: str) -> str:
        return record_key(self._sender, self.process, instance)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("registry")
        if not self._started:
            raise UsageError("the registry is not started yet")

    def _check_size(self, description: Description) -> None:
        size = len(encode_description(description))
        size_max = self._wire.payload_bytes_max - HEADERS_BYTES
        if size > size_max:
            raise PayloadTooLargeError(f"description of {description.name!r}", size, size_max)
