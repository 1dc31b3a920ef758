"""The class that users write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

import msgspec

from agent99.agent._blueprint import blueprint_of
from agent99.agent._facilities import open_cache
from agent99.agent._targets import Peer, Target
from agent99.dispatch import DEFAULT_OPERATION, Context, Middleware, current_context
from agent99.errors import UsageError
from agent99.registry import Description

if TYPE_CHECKING:
    from agent99.agent._binding import Host
    from agent99.agent._blocking import Blocking
    from agent99.agent._gather import Survey
    from agent99.agent._link import Link
    from agent99.agent._log import AgentLog
    from agent99.agent._running import Running
    from agent99.store import Store
    from agent99.systems.cache import Cache, Reads

T = TypeVar("T")


class Agent:
    """Something that other agents can find by what it can do.

    Write a subclass: `capabilities` say what it offers, `process_request` or methods marked with
    `@operation` do it. Types are the schema. One instance's operations interleave only at `await`.
    """

    capabilities: ClassVar[tuple[str, ...]] = ()
    """What it offers; any other agent finds it by these words, without regard to case."""
    uses: ClassVar[tuple[str, ...]] = ()
    """The capabilities that it calls; while one is missing the agent is *degraded*, but runs."""
    name: ClassVar[str] = ""
    """By default the class name in kebab case, without a trailing `Agent`."""
    kind: ClassVar[Literal["server", "client", "hybrid"] | None] = None
    """Inferred from operations and `uses`; checked when it is stated."""
    version: ClassVar[str] = "0.1.0"
    """The agent's own version, as semantic versioning writes it."""
    metadata: ClassVar[Mapping[str, str]] = {}
    """Labels to choose by: region, zone, hardware."""
    middleware: ClassVar[tuple[Middleware, ...]] = ()
    """What every operation and follower goes through, the first outermost; folded at the start."""
    concurrency_max: ClassVar[int] = 100
    """Operations in flight in one instance."""
    waiting_max: ClassVar[int] = 200
    """Requests that wait for a place; beyond them the answer is `OVERLOADED`, at once."""

    class Config(msgspec.Struct):
        """Settings that can be changed while the agent runs; each needs a default."""

    _running: Running | None = None
    _blueprint: ClassVar[object | None] = None

    def __repr__(self) -> str:
        running = self._running
        return f"{type(self).__name__}({running.instance if running else 'not running'})"

    @classmethod
    def info(cls) -> Description:
        """Return the registry's record of this class, JSON Schemas included.

        Raises:
            UsageError: the class cannot be an agent; names the class or method and why.
        """
        return blueprint_of(cls).describe("")

    async def start(self) -> None:
        """Prepare, before anything is received. What it raises keeps the agent from starting."""

    async def stop(self) -> None:
        """Clean up; runs after the last operation has ended."""

    # --- while it runs ----------------------------------------------------------------------------

    @property
    def instance(self) -> str:
        """The UUID of this running instance."""
        return self._here().instance

    @property
    def config(self) -> Any:
        """The settings in force, an instance of `Config`."""
        return self._here().config

    @property
    def context(self) -> Context:
        """The request in hand: its header, deadline and sender. Task-local.

        Raises:
            UsageError: outside of an operation.
        """
        return current_context()

    @property
    def log(self) -> AgentLog:
        """A logger whose lines carry agent, instance and event id."""
        return self._here().log

    @property
    def blocking(self) -> Blocking:
        """The same verbs in blocking form, for operations that are plain `def`."""
        return self._here().blocking

    async def discover(self, *capabilities: str) -> list[Peer]:
        """Return who offers all of the capabilities now; see `Mesh.discover`."""
        return self._here().caller.discover(capabilities)

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
        """Ask another agent and return its result; see `Mesh.request` for promise and errors."""
        return await self._here().caller.request(
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
        """Ask every instance of a capability; see `Mesh.survey`."""
        return await self._here().survey(
            capability, operation, payload, returns=returns, timeout_s=timeout_s, wanted=wanted
        )

    async def publish(
        self, topic: str, event: Any, *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Tell whoever listens now; see `Mesh.publish`."""
        await self._here().publish(topic, event, headers=headers)

    async def append(
        self,
        topic: str,
        event: Any,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        event_id: str | None = None,
    ) -> str:
        """Store an event for those who follow its topic, and return its id; see `Mesh.append`."""
        how: dict[str, Any] = {"key": key, "headers": headers, "event_id": event_id}
        return await self._here().append(topic, event, **how)

    async def post(
        self,
        capability: str,
        operation: str,
        payload: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> str:
        """Store work for whoever offers a capability, and return its id; see `Mesh.post`."""
        how: dict[str, Any] = {"headers": headers, "idempotency_key": idempotency_key}
        return await self._here().post(capability, operation, payload, **how)

    @overload
    async def cache(
        self,
        namespace: str = "default",
        *,
        compress: bool = False,
        near_s: float | None = None,
        reads: Reads = "owner",
    ) -> Cache[Any]: ...

    @overload
    async def cache(
        self,
        namespace: str,
        of: type[T],
        *,
        compress: bool = False,
        near_s: float | None = None,
        reads: Reads = "owner",
    ) -> Cache[T]: ...

    async def cache(
        self,
        namespace: str = "default",
        of: Any = Any,
        *,
        compress: bool = False,
        near_s: float | None = None,
        reads: Reads = "owner",
    ) -> Cache[Any]:
        """Return a namespace of the mesh's distributed cache; see `Mesh.cache`."""
        return open_cache(
            self._here().host.link, namespace, of, compress=compress, near_s=near_s, reads=reads
        )

    def relay(self, store: Store) -> None:
        """Send what the transactions of a store append, from now until the agent stops.

        Call it in `start`, once the store is open, and close the store in `stop`. Of all processes
        on one database one sends at a time; when it is killed another goes on.

        Delivery: at least once, in order per key; see `Mesh.append`.
        """
        self._here().duties.relay(store)

    def _here(self) -> Running:
        running = self._running
        if running is None:
            raise UsageError(
                f"this {type(self).__name__} is not running: host it on a mesh"
                " (`await mesh.host(...)`) or start it with `agent99 run`"
            )
        return running


def link_of(agent: Agent) -> Link:
    """Return the parts that the rooms above this one build on, of the mesh that hosts an agent.

    Raises:
        UsageError: none does.
    """
    return agent._here().host.link  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - of this file's own class


def host_of(agent: Agent) -> Host:
    """Return the instance that a hosted agent is: by it the rooms above this one add duties.

    Raises:
        UsageError: no mesh hosts the agent.
    """
    return agent._here().host  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - of this file's own class
