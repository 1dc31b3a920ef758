"""The mesh, as one process sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar, cast, overload

import msgspec

from agent99.agent._agent import Agent
from agent99.agent._blocking import Blocking
from agent99.agent._caller import Caller
from agent99.agent._connected import Connected
from agent99.agent._engine import Engine
from agent99.agent._gather import Survey, control, survey
from agent99.agent._hosting import Hosting
from agent99.agent._link import Link
from agent99.agent._opening import make_opening
from agent99.agent._stored import Label, append, post
from agent99.agent._targets import Peer, Target
from agent99.clock import Clock
from agent99.dispatch import DEFAULT_OPERATION
from agent99.errors import UsageError
from agent99.ids import Ids
from agent99.observe import Hooks
from agent99.registry import RegistryOptions
from agent99.settings import Settings, load_settings

T = TypeVar("T")


class Mesh(Connected):
    """A connection to the mesh: asks, tells, discovers, and hosts agents. Use it with `async with`.

    Args:
        url: A NATS server's address, or several parted by commas; None: `AGENT99_URL`, the
            project's settings, else the embedded server, which is started when there is none.
        mesh: The namespace; agents of different meshes do not see each other.
        settings: All settings at once, instead of the project's.
        engine: What to run on instead of NATS; `agent99.testing` has one in memory.
        clock: The source of time.
        ids: The source of randomness.
        registry: The registry's periods and bounds.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        mesh: str | None = None,
        settings: Settings | None = None,
        engine: Engine | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        registry: RegistryOptions | None = None,
    ) -> None:
        loaded = settings if settings is not None else load_settings()
        given = {"url": url, "mesh": mesh}
        changes: dict[str, Any] = {key: text for key, text in given.items() if text is not None}
        self._settings = loaded = msgspec.structs.replace(loaded, **changes)
        self._opening = make_opening(loaded, engine, clock, ids, registry)
        self._stack: AsyncExitStack | None = None
        self._link: Link | None = None
        self._caller: Caller | None = None
        self._hosting = Hosting()
        self._url = ""

    def __repr__(self) -> str:
        where = self._url if self._link is not None else "closed"
        return f"Mesh({self._settings.mesh!r}, {where}, agents={len(self._hosting.running)})"

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ServerUnavailableError: nobody answers.
            ServerVersionError, AuthenticationError: it is not for us.
            EmbeddedServerError: the embedded server could not be started.
            UsageError: this mesh is open already, or permissions are on and the URL has no user.
        """
        if self._stack is not None:
            raise UsageError("this mesh is open already")
        async with AsyncExitStack() as stack:
            link, self._url = await stack.enter_async_context(self._opening.open())
            self._link, self._caller = link, Caller(link, link.ids.uuid())
            self._hosting = Hosting()  # belongs to the event loop that it is opened on
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_ended: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the agents hosted here and close the connection; cancelled, at once. Idempotent."""
        stack, self._stack = self._stack, None
        if stack is None:
            return
        async with stack:
            try:
                await self._hosting.close()
            finally:
                self._link = self._caller = None

    @property
    def url(self) -> str:
        """The server's address, without a credential."""
        return self._url

    @property
    def name(self) -> str:
        """The mesh's name: its namespace."""
        return self._settings.mesh

    @property
    def hooks(self) -> Hooks:
        """Who hears of what happens here: requests, drops, the connection; open or not."""
        return self._opening.hooks

    @property
    def hosted(self) -> list[Agent]:
        """The agents that run here."""
        return [cast("Agent", running.agent) for running in self._hosting.running]

    @property
    def in_flight(self) -> int:
        """Operations and event handlers that run in the agents hosted here, or wait for a place."""
        return sum(running.in_flight for running in self._hosting.running)

    def blocking(self) -> Blocking:
        """Return the verbs in blocking form, for threads other than the event loop's.

        Raises:
            ClosedError
        """
        return Blocking(self._call(), self._open(), asyncio.get_running_loop())

    async def host(self, *agents: Agent) -> None:
        """Start agents in this process. Returned = subscribed and announced.

        An agent whose `start` has returned and that cannot be announced is stopped again.

        Raises:
            UsageError: a class cannot be an agent, or the object runs already.
            ClosedError: the mesh is closing, or the agent was stopped while it started.
            whatever an agent's `start` raises; the agents before it go on running.
        """
        await self._hosting.host(agents, self._open())

    async def stop(self, agent: Agent) -> None:
        """Stop one agent: it leaves at once, what runs finishes (20 s at most).

        One whose `start` is still running has that cancelled.
        """
        await self._hosting.stop(agent)

    def abandon(self) -> None:
        """End every operation that runs here, each with an error to its caller: to stop quickly."""
        self._hosting.abandon()

    async def wait_empty(self) -> None:
        """Wait until every agent that was hosted here has stopped."""
        await self._hosting.wait_empty()

    async def wait_for(self, *capabilities: str, timeout_s: float = 5.0) -> list[Peer]:
        """Wait until somebody offers all of the capabilities; returns who.

        Raises:
            DeadlineExceededError: nobody does, by then.
        """
        await self._open().registry.wait_for(*capabilities, timeout_s=timeout_s)
        return await self.discover(*capabilities)

    def peers(self) -> list[Peer]:
        """Return every instance, in whatever state, by name and instance: for operators.

        Raises:
            ClosedError
        """
        return [Peer(found, self._call()) for found in self.registry.table.everybody()]

    # --- verbs ------------------------------------------------------------------------------------

    async def discover(self, *capabilities: str) -> list[Peer]:
        """Return who offers all of the capabilities and takes requests now; empty when nobody does.

        Names are compared without regard to case. It is a look-up in this process's own table.
        """
        return self._call().discover(capabilities)

    @overload
    async def request(
        self,
        target: Target,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: type[T],
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> T: ...

    @overload
    async def request(
        self,
        target: Target,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any: ...

    async def request(
        self,
        target: Target,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: Any = Any,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Ask, and return the typed result.

        Args:
            target: A capability (plain text), `named("…")` for an agent's name, or a peer.
            operation: What to ask for; the agent's `process_request` by default.
            payload: An object: a Struct, a dict, or None for an empty one.
            returns: The type of the result; plain Python values by default.
            timeout_s: Seconds, above 0; never more than the request in hand has left.
            headers: The user's own, text; 32 and 8 KiB at most.
            idempotency_key: A promise that the same key means the same request.

        Delivery: exactly one of a result or an error, by the deadline; never hangs. The operation
        ran at most once, or its outcome is unknown (`DeadlineExceededError`).

        Raises:
            NoAgentError: nobody can take it, and why; it did not run.
            OverloadedError, PausedError: refused at the door; it did not run.
            DeadlineExceededError: no answer in time.
            BadRequestError, UnknownOperationError: the other side cannot read it.
            HandlerError: the operation broke.
            RemoteError: the operation said no, with a code of its own.
            BadAnswerError: the answer is not of the type `returns`.
            UsageError, PayloadTooLargeError: nothing was sent.
            TransportError, ClosedError
        """
        return await self._call().request(
            target,
            operation,
            payload,
            returns=returns,
            timeout_s=timeout_s,
            headers=headers,
            idempotency_key=idempotency_key,
        )

    async def survey(
        self,
        capability: str,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: Any = Any,
        timeout_s: float = 5.0,
        wanted: int | None = None,
    ) -> Survey:
        """Ask every instance that offers a capability.

        Args:
            wanted: Enough after so many results; None waits for all until the deadline.

        Delivery: each instance that this process's table knows is asked once; the result says who
        did not answer. Empty when nobody is there.

        Raises:
            UsageError, PayloadTooLargeError: nothing was sent.
            ClosedError
        """
        how: dict[str, Any] = {"returns": returns, "timeout_s": timeout_s, "wanted": wanted}
        return await survey(self._call(), self._open(), capability, operation, payload, **how)

    async def control(
        self,
        target: Target | None,
        action: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 5.0,
    ) -> Survey:
        """Send a control action: `status`, `pause`, … (see the reference), or the agent's own.

        Args:
            target: A peer (one instance), `named("…")` (all of a name), or None for every agent.

        Delivery: at most once, to each instance; the result says who answered what, and who was
        silent.

        Raises:
            UsageError, PayloadTooLargeError: nothing was sent.
            TransportError, ClosedError
        """
        return await control(
            self._call(), self._open(), target, action, payload, timeout_s=timeout_s
        )

    async def publish(
        self, topic: str, event: Any, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Tell whoever listens now.

        Args:
            topic: Names joined by dots: `order.placed`.
            event: An object: a Struct, a dict, or None for an empty one.

        Delivery: at most once, to every agent that listens with `@on` now; nothing is stored. In
        the order of sending, from one connection. Returned = written to the connection's buffer.

        Raises:
            UsageError, PayloadTooLargeError: nothing was sent.
            BufferFullError, ClosedError
        """
        link = self._open()
        await link.wire.wait_writable()
        self._call().publish(topic, event, headers)

    async def append(
        self,
        topic: str,
        event: Any,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        event_id: str | None = None,
    ) -> str:
        """Store an event for those who follow its topic; returns its id.

        Args:
            topic: Names joined by dots: `order.placed`.
            event: An object: a Struct, a dict, or None for an empty one.
            key: Events of one key are kept, and followed, in order: 1 to 128 bytes of any text. By
                default the event's own id: in no order.
            event_id: Names the event, for whoever may have to repeat the call: 1 to 128 characters
                of printable ASCII, no spaces. Appended again within two minutes it is stored once,
                whatever it holds; later it is stored again, and who follows can tell by the id.
                By default a new one.

        Delivery: returned = stored (and replicated, where the stream has replicas); then at least
            once to each agent that follows. From one process events of one key are stored in the
            order of the calls.

        Raises:
            UsageError, InvalidNameError, PayloadTooLargeError: nothing was sent.
            StreamFullError: the events, or the disk, have reached their bound: not stored.
            JournalError, DeadlineExceededError, TransportError: whether it is stored is unknown.
            ClosedError
        """
        label = Label(key, headers, event_id)
        return await append(self._call(), self._open(), topic, event, label)

    async def post(
        self,
        capability: str,
        operation: str,
        payload: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Store work for whoever offers a capability, now or later; returns its id.

        Args:
            operation: One that is marked with `@job`.

        Delivery: returned = stored (and replicated); then at least once, to one instance at a time,
            until it is done, or in quarantine.

        Raises:
            UsageError, InvalidNameError, PayloadTooLargeError: nothing was sent. So it is when
                somebody offers the capability, and nobody takes such jobs.
            StreamFullError: too much waits for this capability: not stored.
            JournalError, DeadlineExceededError, TransportError: whether it is stored is unknown.
            ClosedError
        """
        how: dict[str, Any] = {"headers": headers, "idempotency_key": idempotency_key}
        return await post(self._call(), self._open(), capability, operation, payload, **how)
