"""What everything in one process shares: the wire and what is built on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from agent99.agent._targets import Named, Peer, Target
from agent99.envelope import AnswerCodec, Name, Subjects, parse_name
from agent99.errors import NoAgentError, UsageError

if TYPE_CHECKING:
    from agent99.clock import Clock, Deadlines
    from agent99.dispatch import Dispatcher, Route
    from agent99.ids import Ids
    from agent99.journal import Journal
    from agent99.registry import Registry
    from agent99.wire import Wire

_CACHE_MAX = 4096


class Destination(msgspec.Struct, frozen=True, gc=False):
    """A target and an operation, checked, and the subject that they mean."""

    kind: Literal["capability", "name", "instance"]
    target: Name
    """The capability, or the agent's name."""
    instance: str
    """Of one instance; empty for any."""
    operation: Name
    subject: bytes

    @property
    def text(self) -> str:
        """What was asked for, for messages to people."""
        return f"{self.target} {self.operation}"


class Local(Protocol):
    """An instance in this process, as far as a caller needs it."""

    @property
    def dispatcher(self) -> Dispatcher:
        """Takes its requests."""
        ...

    def takes(self, destination: Destination) -> Route | None:
        """Return the route by which it takes the request now, or None."""
        ...


class Link:
    """The parts that a mesh's callers and instances share. Made by the mesh, on its event loop."""

    def __init__(
        self,
        *,
        wire: Wire,
        journal: Journal,
        registry: Registry,
        subjects: Subjects,
        clock: Clock,
        ids: Ids,
        deadlines: Deadlines,
        verify_senders: bool,
    ) -> None:
        self.wire = wire
        self.journal = journal
        self.registry = registry
        self.subjects = subjects
        self.clock = clock
        self.ids = ids
        self.deadlines = deadlines
        self.verify_senders = verify_senders
        self.locals: dict[tuple[str, str], list[Local]] = {}
        """Instances in this process by `(kind, target)`."""
        self._destinations: dict[tuple[str | Named | str, str], Destination] = {}
        self._codecs: dict[Any, AnswerCodec[Any]] = {}

    def __repr__(self) -> str:
        return f"Link(mesh={self.subjects.mesh!r}, sender={self.subjects.sender!r})"

    def destination(self, target: Target, operation: str) -> Destination:
        """Return where a request goes.

        Raises:
            InvalidNameError, UsageError: the target or operation could not be part of a subject.
        """
        key = (f"one {target.instance}" if isinstance(target, Peer) else target, operation)
        known = self._destinations.get(key)
        if known is None:
            if len(self._destinations) >= _CACHE_MAX:
                self._destinations.clear()
            known = self._destinations[key] = self._make_destination(target, operation)
        return known

    def _make_destination(self, target: Target, operation: str) -> Destination:
        verb = parse_name("operation", operation)
        subjects = self.subjects
        if isinstance(target, str):
            name = parse_name("capability", target)
            return Destination("capability", name, "", verb, subjects.capability(name, verb))
        if isinstance(target, Named):
            name = parse_name("agent name", target.name)
            return Destination("name", name, "", verb, subjects.named(name, verb))
        if isinstance(target, Peer):
            name = parse_name("agent name", target.name)
            instance = parse_name("instance", target.instance)
            subject = subjects.instance(name, instance, verb)
            return Destination("instance", name, instance, verb, subject)
        raise UsageError(
            f"a target is a capability (text), named('…') or a peer from discover, not {target!r}"
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

    def find_local(self, destination: Destination) -> tuple[Local, Route] | None:
        """Return an instance in this process that takes the request now, and its route."""
        if destination.kind == "instance":
            key = ("instance", destination.instance)
        else:
            key = (destination.kind, destination.target)
        instances = self.locals.get(key)
        if not instances:
            return None
        for index, instance in enumerate(instances):
            route = instance.takes(destination)
            if route is not None:
                if len(instances) > 1:  # take turns
                    instances.append(instances.pop(index))
                return instance, route
        return None

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
