"""The sagas that one instance has in hand: begun here, or taken over."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from typing import TYPE_CHECKING, Any

import msgspec

from agent99.agent import Host
from agent99.clock import wait_done
from agent99.dispatch import Context, use_context
from agent99.envelope import Header
from agent99.errors import Agent99Error, OverloadedError, PermissionDeniedError, StreamNotFoundError
from agent99.saga._drive import Code, Drive
from agent99.saga._halt import Reason
from agent99.saga._log import LostError, Place, SagaLog, ended_us
from agent99.saga._markers import Marker, Markers, OpenSaga
from agent99.saga._patrol import Patrol
from agent99.saga._records import Finished, Started
from agent99.saga._sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Coroutine

HELD_MAX = 1_000
"""Sagas that one instance runs at a time; those that wait for a moment among them."""

_log = logging.getLogger("agent99.saga")


class Held:
    """One saga in the hands of this instance.

    Args:
        log: Its journal.
        task: What runs it; returns why it does not run it any more, None: it has ended.
    """

    def __init__(self, log: SagaLog) -> None:
        self.log = log
        self.drive: Drive | None = None
        self.task: asyncio.Task[Reason | None] | None = None
        self.begun: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        """Whether it was begun here; False: it was there already."""

        self.is_to_look = False
        """It was asked to look before there was a drive."""

    def __repr__(self) -> str:
        return f"Held({self.log!r})"

    def look(self) -> None:
        """Have it see what others wrote: now, or as soon as it runs."""
        if self.drive is None:
            self.is_to_look = True
        else:
            self.drive.look()

    @property
    def finished(self) -> Finished | None:
        """How it has ended; None: it has not, as far as is known here."""
        return self.log.history.finished


class Keeper:
    """Runs the sagas of one instance, and takes over those whose owners are gone.

    Invariant: a saga is in hand at most once; while it is, one task runs it.
    """

    def __init__(self, host: Host) -> None:
        link = host.link
        self.host = host
        self.clock = link.clock
        self.ids = link.ids
        self.codes: dict[str, Code] = {}
        """By operation."""
        self.held: dict[str, Held] = {}
        self._streams = link.durable.streams
        self._subjects = link.subjects
        self.markers = Markers(link.journal, link.subjects.mesh, replicas=self._streams.replicas)
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = False
        self.is_stopping = False
        """Nothing is run here any more that does not run yet."""
        self._patrol = Patrol(self)
        self._sweep = Sweep(
            link.journal,
            self._streams.sagas,
            link.subjects.saga_listen(host.name),
            self.clock,
            is_first=self.is_first,
        )

    def __repr__(self) -> str:
        return f"Keeper({self.host!r}, held={len(self.held)})"

    # --- a duty -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Take sagas in hand from now on. Idempotent."""
        if not self._is_open:
            self._is_open = True
            self._patrol.start()
            self._sweep.start()

    async def leave(self) -> None:
        """Take none in hand; those that are, go on. Idempotent."""
        self._is_open = False
        await asyncio.gather(self._patrol.stop(), self._sweep.stop())

    async def stop(self, timeout_s: float) -> bool:
        """Let each saga come to a place where others can go on; returns False where one did not."""
        self.is_stopping = True
        await self.leave()
        for held in self.held.values():
            if held.drive is not None:
                held.drive.leave()
        ending = asyncio.ensure_future(self._wait_idle())
        is_done = await wait_done(self.clock, ending, timeout_s)
        ending.cancel()
        for task in self._running():
            task.cancel()
        await asyncio.gather(ending, *self._running(), return_exceptions=True)
        return is_done

    def is_first(self) -> bool:
        """Tell whether no instance of the agent is listed before this one."""
        listed = self.host.link.registry.table.named(self.host.name)
        return all(self.host.instance <= each.instance for each in listed)

    # --- sagas ------------------------------------------------------------------------------------

    def log_of(self, saga_id: str) -> SagaLog:
        """Return a saga's journal, not yet read."""
        subject = self._subjects.saga(self.host.name, saga_id)
        place = Place(self._streams.sagas, subject, saga_id)
        link, instance = self.host.link, self.host.instance
        return SagaLog(link.journal, place, instance, clock=self.clock, ids=self.ids)

    def begin(self, saga_id: str, code: Code, started: Started, where: contextvars.Context) -> Held:
        """Begin a saga, or find it begun; it runs on whoever waits.

        Args:
            where: What it runs in: with the request in hand, and without its deadline.

        Raises:
            OverloadedError: too many are in hand; it was not begun.
        """
        if len(self.held) >= HELD_MAX:
            raise OverloadedError(f"{HELD_MAX} sagas are in hand already")
        held = Held(self.log_of(saga_id))
        return self._hold(saga_id, held, self._begin(held, code, started), where)

    def take_over(self, found: OpenSaga) -> None:
        """Go on with a saga whose owner is gone, unless it is in hand or there is no place."""
        code = self.codes.get(found.marker.operation)
        if (
            not self._is_open
            or code is None
            or found.saga_id in self.held
            or found.marker.version > code.version  # somebody newer is there, or will be
            or len(self.held) >= HELD_MAX
        ):
            return
        held = Held(self.log_of(found.saga_id))
        held.begun.set_result(False)
        work = self._take_over(held, code, found)
        self._hold(found.saga_id, held, work, contextvars.Context())

    async def weed(self, found: OpenSaga) -> bool:
        """Remove the marker of a saga that has ended; returns whether it has.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        subject = self._subjects.saga(self.host.name, found.saga_id)
        try:
            ended = await ended_us(self.host.link.journal, self._streams.sagas, subject)
        except (StreamNotFoundError, PermissionDeniedError):
            return False  # its owner died before it made the stream; who may not ask knows nothing
        if ended is not None:
            await self.markers.remove_unchanged(found)
        return ended is not None

    def look(self, saga_id: str) -> None:
        """Have a saga that is in hand look at what others wrote."""
        held = self.held.get(saga_id)
        if held is not None:
            held.look()

    async def forget(self, saga_id: str) -> None:
        """Remove the marker of a saga that has ended; where that fails, a patrol does it."""
        try:
            await self.markers.remove(self.host.name, saga_id)
        except Agent99Error as error:
            _log.info("the marker of saga %s stays for now: %s", saga_id, error)

    # --- inside -----------------------------------------------------------------------------------

    def _running(self) -> list[asyncio.Task[Any]]:
        held = (each.task for each in self.held.values())
        return [*(task for task in held if task is not None), *self._tasks]

    async def _wait_idle(self) -> None:
        while running := self._running():  # what a request that is in hand begins, comes on top
            await asyncio.wait(running)

    def _hold(
        self,
        saga_id: str,
        held: Held,
        work: Coroutine[None, None, Reason | None],
        where: contextvars.Context,
    ) -> Held:
        self.held[saga_id] = held
        held.task = asyncio.get_running_loop().create_task(work, context=where)
        held.task.add_done_callback(lambda task: self._let_go(saga_id, held, task))
        return held

    def _let_go(self, saga_id: str, held: Held, task: asyncio.Task[Reason | None]) -> None:
        self.held.pop(saga_id, None)
        if not held.begun.done():
            held.begun.cancel()
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            _log.warning("saga %s is let go of: %r", saga_id, error, exc_info=error)
        elif held.finished is not None:
            self._do(self.forget(saga_id))

    def _do(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, held: Held, code: Code, started: Started) -> Reason | None:
        try:
            held.begun.set_result(await self._write_beginning(held.log, code, started))
        except Agent99Error as error:
            held.begun.set_exception(error)
            held.begun.exception()  # whoever waits has it; where nobody does, it is no loss
            return "lost"
        if not held.begun.result():
            history = await held.log.read()
            if history.finished is not None or history.owner != self.host.instance:
                return None if history.finished is not None else "lost"
        return await self._drive(held, code)

    async def _write_beginning(self, log: SagaLog, code: Code, started: Started) -> bool:
        # The marker first: a journal without one would be found by nobody, should we die now. One
        # without a journal is an orphan, and removed.
        marker = Marker(
            owner=self.host.instance,
            operation=code.operation,
            version=started.version,
            started_us=started.at_us,
        )
        await self.markers.create(self.host.name, log.saga_id, marker)
        return await self._write_first(log, started)

    async def _write_first(self, log: SagaLog, started: Started) -> bool:
        try:
            return await log.begin(started)
        except StreamNotFoundError:
            await self._streams.ensure_sagas()
            return await log.begin(started)

    async def _take_over(self, held: Held, code: Code, found: OpenSaga) -> Reason | None:
        history = await held.log.read()
        name, saga_id, marker = self.host.name, found.saga_id, found.marker
        if history.finished is not None or self.is_stopping:
            # Who stops has done nothing with it so far: the next one finds it as this one did.
            return None if history.finished is not None else "lost"
        if history.started is None:  # its marker was written, and then its process died
            if self.clock.wall_us() - marker.started_us > ORPHAN_US:
                await self.markers.remove_unchanged(found)
            return "lost"
        if history.stuck is not None:
            await self.markers.put(name, saga_id, _flagged(marker, history.owner, "stuck"))
            await self._look_again(held.log)
            return "stuck"
        if history.owner not in (marker.owner, self.host.instance):  # the marker is behind
            # With a look: this may take off the flag of who wrote after the journal was read.
            await self.markers.put(name, saga_id, _flagged(marker, history.owner, "look"))
            return "lost"
        try:
            if history.owner != self.host.instance:
                await held.log.take()
                _log.warning("saga %s goes on here: %s is gone", saga_id, marker.owner)
            await self.markers.put(name, saga_id, _flagged(marker, self.host.instance))
            # That has taken off the flag of who wrote after the journal was read.
            await held.log.catch_up()
        except LostError:
            return "lost"
        use_context(self._context_of(history.started))
        return await self._drive(held, code)

    async def _drive(self, held: Held, code: Code) -> Reason | None:
        if self.is_stopping:  # it came too late to be told so
            await self._hand_over(held)
            return "left"
        held.drive = Drive(held.log, code, self.clock, self.ids, self.host.link.deadlines)
        if held.is_to_look:
            held.drive.look()
        reason = await held.drive.run()
        if reason == "left":
            await self._hand_over(held)
        if reason == "stuck":
            error = held.log.history.stuck
            _log.error("saga %s is stuck: %s", held.log.saga_id, error and error.error.message)
            await self.markers.flag(self.host.name, held.log.saga_id, "stuck")
            await self._look_again(held.log)
        return reason

    async def _look_again(self, log: SagaLog) -> None:
        """See what somebody asked for before the marker said that it is stuck."""
        history = await log.read()
        if history.stuck is None:
            await self.markers.flag(self.host.name, log.saga_id, "look")

    async def _hand_over(self, held: Held) -> None:
        """Say that a saga is left, so that nobody waits for this instance to be gone."""
        started = held.log.history.started
        assert started is not None, "it was begun"
        marker = Marker(
            owner=self.host.instance,
            operation=started.operation,
            version=started.version,
            started_us=started.at_us,
            flag="left",
        )
        try:
            await self.markers.put(self.host.name, held.log.saga_id, marker)
        except Agent99Error as error:
            _log.info("saga %s is found by who owned it: %s", held.log.saga_id, error)

    def _context_of(self, started: Started) -> Context:
        """Return the request in hand of a saga that goes on here: the one that began it."""
        header = Header(
            type="request",
            from_uuid=started.sender,
            to_uuid=self.host.instance,
            event_uuid=started.event_id,
            timestamp=started.at_us,
            operation=started.operation,
            traceparent=started.traceparent,
            idempotency_key=started.key or None,
        )
        about = (started.operation, started.sender, self.host.instance, math.inf)
        return Context(*about, self.clock, b"{}", header, None, None, None)


ORPHAN_US = 60_000_000
"""A marker without a journal is let be for so long: its saga may be about to be begun."""


def _flagged(marker: Marker, owner: str, flag: str = "") -> Marker:
    return msgspec.structs.replace(marker, owner=owner, flag=flag)
