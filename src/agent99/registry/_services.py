"""The NATS services protocol (ADR-32), so that stock tooling sees our agents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from agent99.envelope import QUEUE, Subjects, parse_name
from agent99.errors import BufferFullError, ClosedError
from agent99.registry._description import Description
from agent99.wire import Message, Subscription, Wire

_ROOT = b"$SRV"
_INBOX = b"_INBOX."
_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
_SHORT = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))?")


class OperationCounts(msgspec.Struct, frozen=True):
    """What an instance has done of one operation, since it started."""

    requests: int = 0
    """Taken on."""
    errors: int = 0
    """Of these, answered with an error."""
    last_error: str = ""
    """The last one's message; empty when there was none."""
    processing_ns: int = 0
    """Time spent on them in all, in nanoseconds."""


class ServiceView(Protocol):
    """What the services protocol needs to know of a running agent."""

    @property
    def description(self) -> Description:
        """What it says of itself now."""
        ...

    def counts(self, operation: str) -> OperationCounts:
        """Return what it has done of one operation."""
        ...


class _Endpoint(msgspec.Struct, frozen=True):
    name: str
    subject: str
    queue_group: str
    metadata: dict[str, str]


class _EndpointStats(msgspec.Struct, frozen=True):
    name: str
    subject: str
    queue_group: str
    num_requests: int
    num_errors: int
    last_error: str
    processing_time: int
    average_processing_time: int
    data: dict[str, str] = {}  # stock clients read it without asking whether it is there


class _Ping(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    id: str
    version: str
    metadata: dict[str, str]
    type: str = "io.nats.micro.v1.ping_response"


class _Info(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    id: str
    version: str
    metadata: dict[str, str]
    description: str
    endpoints: tuple[_Endpoint, ...]
    type: str = "io.nats.micro.v1.info_response"


class _Stats(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    id: str
    version: str
    metadata: dict[str, str]
    started: str
    endpoints: tuple[_EndpointStats, ...]
    type: str = "io.nats.micro.v1.stats_response"


_encode = msgspec.json.Encoder().encode


class Services:
    """Answers `$SRV.PING`, `INFO` and `STATS` for the agents of this process.

    The protocol has nine subjects per instance. A wildcard in the verb's place makes them three,
    and all but the instance's own are shared: one for everybody, one per name, one per instance.

    It answers only to inboxes (`_INBOX.`): a request that names another subject for the answer
    could make this process publish where the asker may not.

    Invariant: there is a subscription for an instance, and for a name, if and only if it is here.
    """

    def __init__(self, wire: Wire, subjects: Subjects) -> None:
        self.dropped: dict[str, int] = {}
        """Requests not answered, by reason: `no_inbox`, `unknown_verb`, `not_writable`."""
        self._wire = wire
        self._subjects = subjects
        self._views: dict[str, ServiceView] = {}
        self._names: dict[str, set[str]] = {}
        self._subscriptions: dict[bytes, Subscription] = {}
        self._answers: dict[str, Callable[[ServiceView], msgspec.Struct]] = {
            "PING": self._ping,
            "INFO": self._info,
            "STATS": self._stats,
        }

    def __repr__(self) -> str:
        return f"Services(instances={len(self._views)}, subscriptions={len(self._subscriptions)})"

    def add(self, view: ServiceView) -> None:
        """Answer for an instance from now on; adding it again replaces it.

        Raises:
            ClosedError: the wire is closed.
        """
        description = view.description
        self.remove(description.instance)
        self._views[description.instance] = view
        self._names.setdefault(description.name, set()).add(description.instance)
        for subject in self._subjects_of(description.name, description.instance):
            if subject not in self._subscriptions:
                self._subscriptions[subject] = self._wire.subscribe(subject, self._receive)

    def remove(self, instance: str) -> None:
        """Answer for it no more; does nothing when it is not there."""
        view = self._views.pop(instance, None)
        if view is None:
            return
        name = view.description.name
        everybody, named, one = self._subjects_of(name, instance)
        self._unsubscribe(one)
        self._names[name].discard(instance)
        if not self._names[name]:
            del self._names[name]
            self._unsubscribe(named)
        if not self._views:
            self._unsubscribe(everybody)

    def close(self) -> None:
        """Answer for nobody any more. Idempotent."""
        for instance in tuple(self._views):
            self.remove(instance)

    def _subjects_of(self, name: str, instance: str) -> tuple[bytes, bytes, bytes]:
        named = b"%b.*.%b" % (_ROOT, name.encode())
        return _ROOT + b".*", named, b"%b.%b" % (named, instance.encode())

    def _unsubscribe(self, subject: bytes) -> None:
        self._subscriptions.pop(subject).unsubscribe()

    def _receive(self, message: Message) -> None:
        _, verb, *rest = message.subject.decode("ascii", "replace").split(".")
        answer = self._answers.get(verb)
        if answer is None:
            self._drop("unknown_verb")
        elif not message.reply.startswith(_INBOX):
            self._drop("no_inbox")
        else:
            for instance in self._asked(rest):
                self._reply(message.reply, _encode(answer(self._views[instance])))

    def _asked(self, rest: list[str]) -> Iterable[str]:
        if not rest:
            return tuple(self._views)
        instances = self._names.get(rest[0], set())
        return tuple(instances) if len(rest) == 1 else tuple(instances & {rest[1]})

    def _reply(self, reply: bytes, payload: bytes) -> None:
        try:
            self._wire.publish(reply, payload)
        except (BufferFullError, ClosedError):
            self._drop("not_writable")

    def _drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    # --- the three answers ------------------------------------------------------------------------

    def _ping(self, view: ServiceView) -> msgspec.Struct:
        about = view.description
        return _Ping(
            name=about.name,
            id=about.instance,
            version=semantic_version(about.version),
            metadata=_metadata(about),
        )

    def _info(self, view: ServiceView) -> msgspec.Struct:
        about = view.description
        return _Info(
            name=about.name,
            id=about.instance,
            version=semantic_version(about.version),
            metadata=_metadata(about),
            description=about.description,
            endpoints=tuple(
                _Endpoint(
                    operation.name,
                    self._subject(about, operation.name),
                    QUEUE.decode(),
                    {"description": operation.description},
                )
                for operation in about.operations
            ),
        )

    def _stats(self, view: ServiceView) -> msgspec.Struct:
        about = view.description
        return _Stats(
            name=about.name,
            id=about.instance,
            version=semantic_version(about.version),
            metadata=_metadata(about),
            started=_rfc3339(about.started_us),
            endpoints=tuple(
                self._endpoint_stats(about, operation.name, view.counts(operation.name))
                for operation in about.operations
            ),
        )

    def _endpoint_stats(
        self, about: Description, operation: str, counts: OperationCounts
    ) -> _EndpointStats:
        return _EndpointStats(
            name=operation,
            subject=self._subject(about, operation),
            queue_group=QUEUE.decode(),
            num_requests=counts.requests,
            num_errors=counts.errors,
            last_error=counts.last_error,
            processing_time=counts.processing_ns,
            average_processing_time=counts.processing_ns // max(1, counts.requests),
        )

    def _subject(self, about: Description, operation: str) -> str:
        # By the agent's name: under several capabilities a request would count several times.
        name, token = parse_name("name", about.name), parse_name("operation", operation)
        return self._subjects.named_listen(name, token).decode()


def semantic_version(version: str) -> str:
    """Return `version` as the protocol wants it: three numbers; `0.0.0` for what cannot be one."""
    if _SEMVER.fullmatch(version):
        return version
    if _SHORT.fullmatch(version):
        return version + ".0" * (2 - version.count("."))
    return "0.0.0"


def _metadata(about: Description) -> dict[str, str]:
    return {
        **about.metadata,
        "agent99.capabilities": ",".join(about.capabilities),
        "agent99.kind": about.kind,
        "agent99.state": about.state,
        "agent99.version": about.version,
    }


def _rfc3339(moment_us: int) -> str:
    seconds, microseconds = divmod(moment_us, 1_000_000)
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z"
