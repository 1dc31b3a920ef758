"""What everything in one process shares: the wire and what is built on it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast

from agent99.agent._ask import Ask
from agent99.agent._destination import Destination
from agent99.agent._full import FullStreams
from agent99.agent._health import Health
from agent99.agent._targets import Named, Peer, Pick, Target
from agent99.clock import Deadlines
from agent99.envelope import AnswerCodec, Subjects, parse_name
from agent99.errors import ClosedError, NoAgentError, UsageError
from agent99.registry import Description, LeastLoaded, Selection, Services, Sticky, choose

if TYPE_CHECKING:
    from agent99.agent._durable import Durable
    from agent99.agent._engine import Parts
    from agent99.clock import Clock
    from agent99.dispatch import Dispatcher, Route
    from agent99.ids import Ids
    from agent99.observe import Hooks, Ring
    from agent99.registry import Registry
    from agent99.settings import Settings

_CACHE_MAX = 4096


class Local(Protocol):
    """An instance in this process, as far as a caller needs it."""

    @property
    def dispatcher(self) -> Dispatcher:
        """Takes its requests."""
        ...

    def takes(self, destination: Destination) -> Route | None:
        """Return the route by which it takes the request now, or None."""
        ...


class Kept(Protocol):
    """What a room above this one keeps while the process is connected."""

    def close(self) -> None:
        """End at once."""
        ...


KeptT = TypeVar("KeptT", bound=Kept)
Taker = tuple[Local, "Route"]
"""An instance in this process, and its route for what is asked."""


class Link:
    """The parts that a mesh's callers and instances share. Made by the mesh, on its event loop."""

    def __init__(
        self,
        *,
        parts: Parts,
        registry: Registry,
        subjects: Subjects,
        clock: Clock,
        ids: Ids,
        hooks: Hooks,
        ring: Ring | None,
        settings: Settings,
    ) -> None:
        self._parts = parts
        self.wire = wire = parts.wire
        self.journal = parts.journal
        self.registry = registry
        self.subjects = subjects
        self.services = Services(wire, subjects)
        """Answers stock tooling for the instances here (ADR-32)."""
        self.clock = clock
        self.ids = ids
        self.deadlines = Deadlines(clock)
        self.hooks = hooks
        """Who hears of what happens."""
        self.ring = ring
        """The last requests that ended in this process; None: they are not kept."""
        self.attempts_max = settings.request_attempts_max
        """How often a request is made in all, where it may be made again."""
        self.verify_senders = settings.permissions
        self.health = Health(wire, registry, clock, self._one, hooks)
        """Keeps requests from instances that hang."""
        self.full = FullStreams()
        """The streams that refuse what is stored here."""
        self._locals: dict[tuple[str, str], list[Local]] = {}
        self._takers: dict[bytes, list[Taker]] = {}
        self.loads: dict[str, int] = {}
        """Requests of this process in flight, by the instance that they are addressed to."""
        self._chosen: dict[tuple[str, Selection], str] = {}
        self._destinations: dict[tuple[object, ...], Destination] = {}
        self._codecs: dict[Any, AnswerCodec[Any]] = {}
        self._settings = settings
        self._durable: Durable | None = None
        self._kept: dict[str, Kept] = {}
        self._enders: set[Callable[[], None]] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        return f"Link(mesh={self.subjects.mesh!r}, sender={self.subjects.sender!r})"

    @property
    def durable(self) -> Durable:
        """What is stored and worked off; made, and loaded, when it is first needed."""
        if self._durable is None:
            from agent99.agent._durable import Durable  # noqa: PLC0415 - a tenth of the import

            self._durable = Durable(
                self._parts, self.subjects, self._settings, self.clock, self.ids, self.full.note
            )
            self.wire.on_state(self._durable.look_again)
            self.wire.on_state(self.full.forget)
        return self._durable

    @contextmanager
    def ended_by_close(self, end: Callable[[], None]) -> Generator[None, None, None]:
        """Have `end` called if the mesh closes meanwhile: for what waits on `deadlines`.

        Raises:
            ClosedError: it is closed already.
        """
        if self._is_closed:
            raise ClosedError("mesh")
        self._enders.add(end)
        try:
            yield
        finally:
            self._enders.discard(end)

    def keep(self, name: str, make: Callable[[], KeptT]) -> KeptT:
        """Return what this process has one of, while it is connected; made when first needed.

        Raises:
            ClosedError
        """
        if self._is_closed:
            raise ClosedError("mesh")
        found = self._kept.get(name)
        if found is None:
            found = self._kept[name] = make()
        return cast("KeptT", found)

    def close(self) -> None:
        """End what waits; nothing new may wait."""
        self._is_closed = True
        for kept in self._kept.values():
            kept.close()
        self.health.close()
        for end in tuple(self._enders):
            end()
        self.deadlines.close()

    def destination(self, target: Target, operation: str, *, without: str = "") -> Destination:
        """Return where a request goes.

        Args:
            without: An instance that a `pick` by load passes by, where another one fits.

        Raises:
            InvalidNameError, UsageError: the target or operation could not be part of a subject.
            NoAgentError: nobody fits a `pick`.
        """
        if isinstance(target, str):  # the hot path
            key = (target, operation)
            known = self._destinations.get(key)
            return known if known is not None else self._keep(key, self._any(target, operation))
        if isinstance(target, Peer):
            return self._one(target.name, target.instance, operation)
        if isinstance(target, Pick):
            chosen = self._choose(target, operation, without)
            return self._one(chosen.name, chosen.instance, operation)
        return self._any(target, operation)

    def _one(self, name: str, instance: str, operation: str) -> Destination:
        key = (instance, name, operation)
        known = self._destinations.get(key)
        if known is not None:
            return known
        verb = parse_name("operation", operation)
        agent, one = parse_name("agent name", name), parse_name("instance", instance)
        subject = self.subjects.instance(agent, one, verb)
        return self._keep(key, Destination("instance", agent, one, verb, subject))

    def _any(self, target: str | Named, operation: str) -> Destination:
        verb = parse_name("operation", operation)
        if isinstance(target, str):
            name = parse_name("capability", target)
            return Destination("capability", name, "", verb, self.subjects.capability(name, verb))
        if isinstance(target, Named):
            name = parse_name("agent name", target.name)
            return Destination("name", name, "", verb, self.subjects.named(name, verb))
        raise UsageError(
            "a target is a capability (text), named('…'), pick('…') or a peer from discover,"
            f" not {target!r}"
        )

    def _keep(self, key: tuple[object, ...], destination: Destination) -> Destination:
        if len(self._destinations) >= _CACHE_MAX:
            self._destinations.clear()
        self._destinations[key] = destination
        return destination

    def _choose(self, target: Pick, operation: str, without: str) -> Description:
        table = self.registry.table
        found = table.candidates(target.capability)
        fit = found if target.where is None else target.where.apply(found)
        if without and isinstance(target.by, LeastLoaded):
            fit = tuple(one for one in fit if one.instance != without) or fit
        remembered = (target.capability, target.by)
        chosen = choose(
            target.by,
            fit,
            draw=self.ids.fraction(),
            load=self._load_of,
            previous=self._chosen.get(remembered, ""),
        )
        if chosen is None:
            raise self._nobody_fits(target, operation, len(found))
        if isinstance(target.by, Sticky):
            if len(self._chosen) >= _CACHE_MAX:
                self._chosen.clear()
            self._chosen[remembered] = chosen.instance
        return chosen

    def begin(self, ask: Ask) -> None:
        """A request was sent: to one instance, whose load it is; one meant for any is watched."""
        if ask.destination.instance:
            self.count_load(ask.destination.instance, 1)
        if not ask.meant.instance:
            self.health.begin(ask)

    def end(self, ask: Ask) -> None:
        """It is over."""
        if ask.destination.instance:
            self.count_load(ask.destination.instance, -1)
        if not ask.meant.instance:
            self.health.end(ask.event_id)

    @contextmanager
    def loading(self, instance: str) -> Generator[None, None, None]:
        """Count what is done meanwhile as the load of an instance, if one is named."""
        if not instance:
            yield
            return
        self.count_load(instance, 1)
        try:
            yield
        finally:
            self.count_load(instance, -1)

    def count_load(self, instance: str, change: int) -> None:
        """Count a request to an instance as begun (1) or ended (-1)."""
        load = self.loads.get(instance, 0) + change
        if load:
            self.loads[instance] = load
        else:
            del self.loads[instance]

    def _load_of(self, instance: str) -> int:
        return self.loads.get(instance, 0)

    def _nobody_fits(self, target: Pick, operation: str, others: int) -> NoAgentError:
        if target.where is None or not others:
            return self.explain(self.destination(target.capability, operation))
        return NoAgentError(
            f"none of the {others} instances that offer {target.capability!r} fits"
            f" {target.where.text!r}",
            reason="nobody",
            details={"target": target.capability, "where": target.where.text},
        )

    def answer_codec(self, returns: Any) -> AnswerCodec[Any]:
        """Return the codec of a type that a caller asks for.

        Raises:
            UsageError: no answer can be of that type.
        """
        try:
            codec = self._codecs.get(returns)
        except TypeError:  # an annotation that cannot be hashed
            return AnswerCodec(returns, of="returns")
        if codec is None:
            if len(self._codecs) >= _CACHE_MAX:
                self._codecs.clear()
            codec = self._codecs[returns] = AnswerCodec(returns, of="returns")
        return codec

    def add_local(self, keys: Iterable[tuple[str, str]], instance: Local) -> None:
        """Offer an instance to the callers in this process, by `(kind, target)`."""
        for key in keys:
            self._locals.setdefault(key, []).append(instance)
        self._takers.clear()

    def remove_local(self, keys: Iterable[tuple[str, str]], instance: Local) -> None:
        """Offer an instance no longer. Idempotent."""
        for key in keys:
            found = self._locals.get(key, [])
            if instance in found:
                found.remove(instance)
                if not found:
                    del self._locals[key]
        self._takers.clear()

    def find_local(self, destination: Destination) -> Taker | None:
        """Return an instance in this process that takes the request now, and its route."""
        if not self._locals:
            return None
        takers = self._takers.get(destination.subject)
        if takers is None:
            takers = self._find_takers(destination)
        if not takers:
            return None
        if len(takers) > 1:  # they take turns
            takers.append(takers.pop(0))
        return takers[0]

    def _find_takers(self, destination: Destination) -> list[Taker]:
        kind = destination.kind
        key = (kind, destination.instance if kind == "instance" else destination.target)
        instances = self._locals.get(key, [])
        routes = [(instance, instance.takes(destination)) for instance in instances]
        takers = [(instance, route) for instance, route in routes if route is not None]
        if takers and len(takers) == len(instances):  # else somebody starts, and will take it soon
            if len(self._takers) >= _CACHE_MAX:
                self._takers.clear()
            self._takers[destination.subject] = takers
        return takers

    def is_listed(self, destination: Destination) -> bool:
        """Tell whether the table knows somebody who takes the request now."""
        if destination.instance:
            return self.registry.table.get(destination.instance) is not None
        kind: Literal["capability", "name"] = (
            "capability" if destination.kind == "capability" else "name"
        )
        table, operation = self.registry.table, destination.operation
        return table.explain(destination.target, operation, kind=kind).reason == "reachable"

    def is_idempotent(self, destination: Destination) -> bool:
        """Tell whether whoever may take the request says that it may run twice."""
        serving = self.health.serving(destination)
        found = [one.operation(destination.operation) for one in serving]
        return bool(found) and all(operation and operation.idempotent for operation in found)

    def explain(self, destination: Destination) -> NoAgentError:
        """Return the error that says why nobody takes a request, from this process's table."""
        target = destination.target
        kind: Literal["capability", "name"] = (
            "capability" if destination.kind == "capability" else "name"
        )
        found = self.registry.table.explain(target, destination.operation, kind=kind)
        reason = found.reason
        message = found.message
        if destination.kind == "instance" and self.registry.table.get(destination.instance) is None:
            reason = "nobody"
            message = f"instance {destination.instance} of agent {target!r} is gone"
        elif reason == "reachable":  # the table is ahead of the server, or behind it
            reason = "nobody"
            message = f"nobody listens for {destination.text!r} at this moment, though {message}"
        return NoAgentError(
            message,
            reason=reason,
            details={
                "target": target,
                "operation": destination.operation,
                "reason": reason,
                "near": list(found.near),
                "operations": list(found.operations),
            },
        )
