"""Who listens to which record.

A call site asks whether anybody listens before it builds anything:

    if (tell := hooks.finished) is not None:
        tell(RequestFinished(...))
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from agent99.errors import UsageError, text_of
from agent99.observe._records import (
    ConnectionChanged,
    HandlerBroke,
    InstanceEjected,
    Load,
    LoopBlocked,
    MessageDropped,
    Record,
    RequestFinished,
    RequestReceived,
    RequestRetried,
    RequestSent,
)
from agent99.observe._trace import TraceContext

R = TypeVar("R", bound=Record)
T = TypeVar("T")

_log = logging.getLogger("agent99.observe")

_SLOTS: dict[type[Any], str] = {
    ConnectionChanged: "connection",
    HandlerBroke: "broke",
    InstanceEjected: "ejected",
    LoopBlocked: "blocked",
    MessageDropped: "dropped",
    RequestFinished: "finished",
    RequestReceived: "received",
    RequestRetried: "retried",
    RequestSent: "sent",
}


class Tracing(Protocol):
    """A tracing library that handlers use themselves: ours and its spans belong together."""

    def current(self) -> TraceContext | None:
        """Return the span in which the running code is, or None."""
        ...

    def enter(self, span: TraceContext) -> None:
        """Make a span the one in which the running task is, until the task ends."""
        ...


class Hooks:
    """What one process's mesh tells, and to whom. Belongs to the mesh's event loop.

    Listeners are called at once, in the order in which they came, on the event loop: they must be
    quick and must not wait. What one raises is logged (its first failure, and then ever more
    rarely) and harms neither the request nor the other listeners.

    Invariant: an attribute is None if and only if nobody listens to its record.
    """

    __slots__ = (
        "_listeners",
        "_loads",
        "blocked",
        "broke",
        "connection",
        "current",
        "dropped",
        "ejected",
        "enter",
        "finished",
        "received",
        "retried",
        "sent",
    )

    def __init__(self) -> None:
        self.sent: Callable[[RequestSent], None] | None = None
        self.received: Callable[[RequestReceived], None] | None = None
        self.finished: Callable[[RequestFinished], None] | None = None
        self.dropped: Callable[[MessageDropped], None] | None = None
        self.retried: Callable[[RequestRetried], None] | None = None
        self.ejected: Callable[[InstanceEjected], None] | None = None
        self.connection: Callable[[ConnectionChanged], None] | None = None
        self.broke: Callable[[HandlerBroke], None] | None = None
        self.blocked: Callable[[LoopBlocked], None] | None = None
        self.current: Callable[[], TraceContext | None] | None = None
        """The span in which the running code is, by the tracing library in use."""
        self.enter: Callable[[TraceContext], None] | None = None
        """Tells that library in which span a handler's task is."""
        self._listeners: dict[str, tuple[Callable[[Any], None], ...]] = {}
        self._loads: tuple[Callable[[], Load | None], ...] = ()

    def __repr__(self) -> str:
        heard = {slot: len(listeners) for slot, listeners in sorted(self._listeners.items())}
        return f"Hooks({', '.join(f'{slot}={count}' for slot, count in heard.items())})"

    def listen(self, record: type[R], listener: Callable[[R], object]) -> Callable[[], None]:
        """Call `listener` with every record of a type; returns what ends that (idempotent).

        A listener that ends while a record is told may still hear that one.

        Raises:
            UsageError: there is no such record.
        """
        if record not in _SLOTS:
            known = ", ".join(sorted(cls.__name__ for cls in _SLOTS))
            raise UsageError(f"{record!r} is no record; there are: {known}")
        return self.listen_unguarded(record, _guard(listener))

    def listen_unguarded(
        self, record: type[R], listener: Callable[[R], None]
    ) -> Callable[[], None]:
        """Do as `listen` does, for a listener that cannot raise: our own, at half the cost."""
        slot = _SLOTS[record]
        self._set(slot, (*self._listeners.get(slot, ()), listener))

        def forget() -> None:
            left = (one for one in self._listeners.get(slot, ()) if one is not listener)
            self._set(slot, tuple(left))

        return forget

    def use_tracing(self, tracing: Tracing) -> Callable[[], None]:
        """Let our spans and those of a tracing library belong together; returns what ends that.

        Raises:
            UsageError: another one is in use.
        """
        if self.current is not None:
            raise UsageError("a tracing library is in use already: end that first")
        current = self.current = _guard_question(tracing.current)
        self.enter = _guard(tracing.enter)

        def forget() -> None:
            if self.current is current:
                self.current = self.enter = None

        return forget

    def add_load(self, read: Callable[[], Load]) -> Callable[[], None]:
        """Let whoever asks for loads ask `read` too, from any thread; returns what ends that."""
        guarded = _guard_question(read)
        self._loads = (*self._loads, guarded)

        def forget() -> None:
            self._loads = tuple(one for one in self._loads if one is not guarded)

        return forget

    def loads(self) -> list[Load]:
        """Return how much each instance has to do now; may be called from any thread."""
        return [load for read in self._loads if (load := read()) is not None]

    def _set(self, slot: str, listeners: tuple[Callable[[Any], None], ...]) -> None:
        if not listeners:
            self._listeners.pop(slot, None)
            setattr(self, slot, None)
            return
        self._listeners[slot] = listeners
        setattr(self, slot, listeners[0] if len(listeners) == 1 else _all_of(listeners))


def _all_of(listeners: tuple[Callable[[Any], None], ...]) -> Callable[[Any], None]:
    def tell(record: Any) -> None:
        for listen in listeners:
            listen(record)

    return tell


class _Failures:
    """Of one listener: counted, and logged ever more rarely. A log is no place for a flood."""

    def __init__(self, listener: object) -> None:
        self._listener = listener
        self._count = 0

    def __repr__(self) -> str:
        return f"_Failures({self._count})"

    def report(self, error: BaseException) -> None:
        """Log the first, the second, the fourth, the eighth, and so on."""
        self._count += 1
        if self._count & (self._count - 1) == 0:
            text = "%s raised while it was told (%d times so far)"
            _log.error(text, text_of(self._listener), self._count, exc_info=error)


def _guard(listener: Callable[[Any], object]) -> Callable[[Any], None]:
    failures = _Failures(listener)

    def tell(record: Any) -> None:
        try:
            listener(record)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - anybody's code
            failures.report(error)

    return tell


def _guard_question(ask: Callable[[], T | None]) -> Callable[[], T | None]:
    failures = _Failures(ask)

    def guarded() -> T | None:
        try:
            return ask()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - anybody's code
            failures.report(error)
            return None

    return guarded
