"""One instance while it runs: what it listens to, its life, its answers to operators."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agent99.agent._binding import Host
from agent99.agent._blocking import Blocking
from agent99.agent._blueprint import Blueprint, Declared, Method, blueprint_of
from agent99.agent._caller import Caller
from agent99.agent._controls import Controls
from agent99.agent._duties import Duties
from agent99.agent._gather import Survey, survey
from agent99.agent._hooks import Hooked, Hooks
from agent99.agent._interest import Interest
from agent99.agent._invoke import Pools, ends_at_once, handler_of
from agent99.agent._log import AgentLog
from agent99.agent._stored import Label, append, post
from agent99.agent._tasks import Tasks, detached
from agent99.dispatch import (
    DEFAULT_OPERATION,
    Dispatcher,
    DispatchOptions,
    Lifecycle,
    LifecycleEvent,
    Route,
    State,
    Tally,
    Witness,
    fold,
)
from agent99.envelope import ENVELOPE_BYTES, Name
from agent99.errors import Agent99Error, DeadlineExceededError, JournalError, TransportError
from agent99.observe import Load, Ring
from agent99.registry import Description, OperationCounts, TableChange
from agent99.wire import WireStatistics

if TYPE_CHECKING:
    from agent99.agent._destination import Destination
    from agent99.agent._link import Link

DRAIN_S = 20.0
"""How long a stopping instance waits for its operations; supervisors grant 30 s for all."""
EVENTS_S = 1.0
"""How long a stopping instance waits for its event handlers."""
CONTROL_S = 1.0
"""How long it waits for its control actions: one of them may have asked it to stop."""


class Hosted(Declared, Hooked, Protocol):
    """The object of a user's agent, as far as running it needs."""

    _running: Running | None


class Running:
    """An agent's object, hosted.

    Invariant: it is in the queue groups if and only if its state is `READY`.
    """

    def __init__(
        self, agent: Hosted, link: Link, pools: Pools, *, on_stop: Callable[[], None]
    ) -> None:
        self.agent = agent
        self.blueprint: Blueprint = blueprint_of(type(agent))
        self.instance = link.ids.uuid()
        self.caller = Caller(link, self.instance, agent=self.blueprint.name)
        self.config: Any = self.blueprint.config_class()
        self.log = AgentLog(self.blueprint.name, self.instance)
        self._hooks = Hooks(agent, self.blueprint.name, self.log)
        self.lifecycle = Lifecycle()
        self.blocking = Blocking(self.caller, link, asyncio.get_running_loop())
        self.started_s = link.clock.monotonic_s()
        self._started_us = link.clock.wall_us()
        self._link = link
        self._on_stop = on_stop
        self._missing, self._changes = tuple[str, ...](), asyncio.Lock()
        self._tasks = Tasks()
        self._stopping: asyncio.Task[None] | None = None
        self._forget: list[Callable[[], None]] = []  # ends what listens for it
        self.host = Host(agent, self.name, self.instance, link, self.log)
        options = DispatchOptions(
            concurrency_max=agent.concurrency_max,
            waiting_max=agent.waiting_max,
            verify_senders=link.verify_senders,
        )
        self.dispatcher = self._make_dispatcher(options)
        self.events = self._make_dispatcher(options, kind="event")
        self.control = self._make_dispatcher(options, kind="control")
        for method in self.blueprint.operations.values():
            self.dispatcher.routes.add(self._route(method, pools, agent.middleware))
        for route in Controls(self).routes():
            self.control.routes.add(route)
        for method in self.blueprint.controls.values():
            self.control.routes.add(self._route(method, pools, ()))
        heard = [(m.mark.pattern, self._route(m, pools, ())) for m in self.blueprint.listeners]
        followed = [self._route(m, pools, agent.middleware) for m in self.blueprint.followers]
        for route in (*(route for _, route in heard), *followed):
            self.events.routes.add(route)
        self._interest = Interest(self, link, heard)
        self.duties = Duties(self, link)

    def __repr__(self) -> str:
        return f"Running({self.name!r}, {self.instance!r}, {self.state.value})"

    @property
    def name(self) -> Name:
        """The agent's name."""
        return self.blueprint.name

    @property
    def state(self) -> State:
        """Where it stands in its life."""
        return self.lifecycle.state

    @property
    def is_stopping(self) -> bool:
        """Whether it stops, or is about to."""
        return self._stopping is not None

    @property
    def missing(self) -> tuple[str, ...]:
        """The capabilities that it uses and that nobody offers now."""
        return self._missing

    def connection(self) -> WireStatistics:
        """Return the counts of the process's connection."""
        return self._link.wire.statistics()

    @property
    def ring(self) -> Ring | None:
        """The last requests that ended in the process; None: they are not kept."""
        return self._link.ring

    @property
    def answer_bytes_max(self) -> int:
        """What an answer may be long: the server's bound, less room for its header."""
        return self._link.wire.payload_bytes_max - ENVELOPE_BYTES

    def uptime_s(self) -> float:
        """Return the seconds since it was hosted."""
        return self._link.clock.monotonic_s() - self.started_s

    @property
    def in_flight(self) -> int:
        """Operations and event handlers that run, or wait for a place."""
        counts = (self.dispatcher.statistics(), self.events.statistics())
        return sum(count.in_flight + count.waiting for count in counts)

    @property
    def description(self) -> Description:
        """What it says of itself now."""
        state: Any = "draining" if self.state is State.STOPPED else self.state.value
        full = self._link.full.names
        if self.state is State.READY and (self._missing or full):
            state = "degraded"
        return msgspec.structs.replace(
            self.blueprint.describe(self.instance),
            state=state,
            missing=self._missing,
            full=full,
            sender=self._link.subjects.sender,
            started_us=self._started_us,
            host=socket.gethostname(),
            pid=os.getpid(),
        )

    def counts(self, operation: str) -> OperationCounts:
        """Return what it has done of one operation, for the services protocol."""
        route = self.dispatcher.routes.find(operation)
        tally = Tally() if route is None else route.tally
        return OperationCounts(tally.requests, tally.errors, tally.last_error, tally.processing_ns)

    def takes(self, destination: Destination) -> Route | None:
        """Return the route by which it takes a request from this process now, or None."""
        if self.state is not State.READY or self.dispatcher.refusal:
            return None
        route = self.dispatcher.routes.find(destination.operation)
        if route is None and destination.operation == DEFAULT_OPERATION:
            return self._default
        return route

    # --- life -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Run the agent's own `start`, then listen, then tell the mesh.

        Raises:
            ClosedError: it was stopped while the agent's `start` ran.
            whatever the agent's `start` raises; then nobody hears of it.
        """
        self.agent._running = self  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - ties them
        async with self._changes:
            self.lifecycle.fire(LifecycleEvent.START)
            try:
                await self._hooks.start()
                await self._open()
            except BaseException:
                self.lifecycle.fire(LifecycleEvent.STOP)
                self._interest.end()
                self.abandon()
                await self._hooks.stop()
                self._end()
                raise

    async def _open(self) -> None:
        self._interest.listen()
        self._interest.join()
        await self._link.wire.flush()
        self.lifecycle.fire(LifecycleEvent.STARTED)
        # Before the first look, so that nobody comes between the two unseen.
        self._forget.append(self._link.registry.on_change(self._look_again))
        self._missing = self._link.registry.table.missing(self.blueprint.uses)
        self._forget.append(self._link.full.listen(self._look_at_streams))
        self._forget.append(self._link.hooks.add_load(self._load))
        self._link.services.add(self)
        await self._announce()  # the server's answer to it confirms the services too
        self.duties.start()

    async def pause(self) -> bool:
        """Leave the queue groups; returns whether that was a change. In-flight work goes on."""
        return await self._undisturbed(self._pause())

    async def resume(self) -> bool:
        """Join the queue groups again; returns whether that was a change."""
        return await self._undisturbed(self._resume())

    async def _undisturbed(self, change: Coroutine[Any, Any, bool]) -> bool:
        """See a change through to its end, though whoever asked for it gives up."""
        return await asyncio.shield(self._tasks.start(change))

    async def _pause(self) -> bool:
        async with self._changes:
            changed = self.lifecycle.fire(LifecycleEvent.PAUSE)
            await self.duties.leave()
            try:
                await self._interest.leave()  # what is under way to this instance is still taken
            except (TransportError, DeadlineExceededError) as error:
                self.log.warning("pausing without the server's word: %s", error)
            self.dispatcher.refusal = "paused"
            await self._announce()
            return changed

    async def _resume(self) -> bool:
        async with self._changes:
            changed = self.lifecycle.fire(LifecycleEvent.RESUME)
            self.dispatcher.refusal = ""
            self._interest.join()
            self.duties.start()
            try:
                await self._link.wire.flush()
            except (TransportError, DeadlineExceededError) as error:
                self.log.warning("resuming without the server's word: %s", error)
            await self._announce()
            return changed

    def begin_stop(self) -> asyncio.Task[None]:
        """Stop in the background; the task is the same however often this is called."""
        if self._stopping is None:
            self._stopping = detached(self._stop())
            self._hooks.break_off()
        return self._stopping

    async def stop(self) -> None:
        """Leave the queue groups, withdraw, let what runs finish (20 s at most), then clean up."""
        await asyncio.shield(self.begin_stop())

    def abandon(self) -> None:
        """End what runs, each operation with an error to its caller."""
        for dispatcher in (self.dispatcher, self.events):
            dispatcher.stop()

    async def _stop(self) -> None:
        async with self._changes:
            if self.state is State.STOPPED:  # it never came to run
                return
            self.lifecycle.fire(LifecycleEvent.STOP)
            try:
                await self._leave_mesh()
                waits = self.dispatcher.wait_idle(DRAIN_S), self.duties.finish(DRAIN_S)
                if not all(await asyncio.gather(*waits)):
                    self.log.warning("stopping with operations unfinished after %s s", DRAIN_S)
                await self.events.wait_idle(EVENTS_S)
                self.abandon()
                await self.duties.end_relays()
                await self._hooks.stop()
                await self.control.wait_idle(CONTROL_S)
            finally:
                self._end()

    async def _leave_mesh(self) -> None:
        await self.duties.leave()
        try:
            await self._interest.leave()
            await self._interest.leave_events()
            await self._link.registry.withdraw(self.instance)
        except Agent99Error as error:  # a server that is away must not keep it from stopping
            self.log.warning("stopping without the server's word: %s", error)
        self.dispatcher.refusal = self.events.refusal = "draining"

    def _end(self) -> None:
        """Leave nothing behind in this process, whatever came before."""
        self.control.stop()
        self._interest.end()
        for forget in self._forget:
            forget()
        self._forget.clear()
        self._link.services.remove(self.instance)
        self._link.registry.forget(self.instance)
        self._tasks.cancel()
        self.lifecycle.fire(LifecycleEvent.STOPPED)
        self._on_stop()

    # --- inside -----------------------------------------------------------------------------------

    def _make_dispatcher(self, options: DispatchOptions, kind: Any = "request") -> Dispatcher:
        link, clock = self._link, self._link.clock
        witness = Witness(self.name, self.instance, kind=kind, hooks=link.hooks, clock=clock)
        return Dispatcher(
            witness, link.wire, clock=clock, deadlines=link.deadlines, options=options
        )

    def _load(self) -> Load:
        counts = (self.dispatcher.statistics(), self.events.statistics())
        return Load(
            self.name,
            self.instance,
            in_flight=sum(count.in_flight for count in counts),
            waiting=sum(count.waiting for count in counts),
        )

    def _route(self, method: Method, pools: Pools, middleware: Any) -> Route:
        return Route(
            method.mark.name,
            body=method.signature.body,
            answer=method.signature.answer,
            handle=fold(middleware, handler_of(self.host, method, pools)),
            never_waits=not middleware and ends_at_once(self.host, method),
        )

    @property
    def _default(self) -> Route | None:
        """Any route: the payload of a request that names no operation decides."""
        return next(iter(self.dispatcher.routes), None)

    def _look_again(self, _changes: tuple[TableChange, ...]) -> None:
        """Somebody came, went or changed: is what this agent uses still there?"""
        if self.state not in (State.READY, State.PAUSED) or not self.blueprint.uses:
            return
        missing = self._link.registry.table.missing(self.blueprint.uses)
        if missing != self._missing:
            self._missing = missing
            self._tasks.start(self._announce_again())

    def _look_at_streams(self) -> None:
        self._tasks.start(self._announce_again())

    async def _announce_again(self) -> None:
        async with self._changes:
            if self.state in (State.READY, State.PAUSED):
                await self._announce()

    async def _announce(self) -> None:
        """Tell the registry; what cannot be written now it writes as soon as it can."""
        try:
            await self._link.registry.announce(self.description)
        except (TransportError, JournalError, DeadlineExceededError) as error:
            self.log.warning("the registry will hear of its state later: %s", error)

    async def survey(self, capability: str, operation: str, payload: Any, **how: Any) -> Survey:
        """See `Mesh.survey`."""
        return await survey(self.caller, self._link, capability, operation, payload, **how)

    async def append(self, topic: str, event: Any, **how: Any) -> str:
        """See `Mesh.append`."""
        return await append(self.caller, self._link, topic, event, Label(**how))

    async def post(self, capability: str, operation: str, payload: Any, **how: Any) -> str:
        """See `Mesh.post`."""
        return await post(self.caller, self._link, capability, operation, payload, **how)

    async def publish(
        self, topic: str, event: Any, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """See `Mesh.publish`."""
        await self._link.wire.wait_writable()
        self.caller.publish(topic, event, headers)


def is_running(agent: Hosted) -> bool:
    """Return whether an agent's object is hosted now; one that has stopped may be hosted again."""
    running = agent._running  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - as above
    return running is not None and running.state is not State.STOPPED
