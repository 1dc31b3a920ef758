"""What a handler may know of the request in hand. Task-local: never shared between messages."""

from __future__ import annotations

import contextvars
import math
from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from typing import Protocol

import msgspec

from agent99.clock import Clock
from agent99.envelope import Header, decode_user_headers, encode_message, encode_user_headers
from agent99.errors import UsageError
from agent99.observe import TraceContext, served_trace


class HeaderView(MutableMapping[str, str]):
    """The request's header to read; what is set here travels with the answer."""

    def __init__(self, received: Mapping[str, str]) -> None:
        self._received = received
        self.answer: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"HeaderView({dict(self)!r})"

    def __getitem__(self, name: str) -> str:
        return self.answer[name] if name in self.answer else self._received[name]

    def __setitem__(self, name: str, value: str) -> None:
        self.answer[name] = value

    def __delitem__(self, name: str) -> None:
        del self.answer[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._received, **self.answer})

    def __len__(self) -> int:
        return len({**self._received, **self.answer})


class Origin(Protocol):
    """A request of this process, whose header is written only when somebody looks at it."""

    event_id: str
    traceparent: str | None
    attempt: int

    def header(self) -> Header:
        """Write the header that it would have had, had it travelled."""
        ...


class Context(msgspec.Struct, eq=False):
    """One request, as its handler sees it."""

    operation: str
    """The operation that was chosen; of an event, its topic."""
    sender: str
    """Who asks, as the request's subject says; with permissions on, the server has proved it."""
    instance: str
    """Who serves it."""
    deadline_s: float
    """Monotonic time by which the caller wants the answer."""
    _clock: Clock
    _message: bytes | Mapping[str, str]
    _request: Header | None
    _origin: Origin | None
    _view: HeaderView | None
    _trace: TraceContext | None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(operation={self.operation!r}, event_id={self.event_id!r})"

    @property
    def request(self) -> Header:
        """The envelope's own header of the request."""
        request = self._request
        if request is None:  # of a caller in this process: made when it is looked at
            assert self._origin is not None, "one of the two is given"
            request = self._request = self._origin.header()
        return request

    @property
    def event_id(self) -> str:
        """Names the request; the same in every log line and answer about it."""
        return self.about()[0]

    @property
    def trace(self) -> TraceContext:
        """The span of serving it: what is done for it hangs beneath (W3C Trace Context)."""
        if self._trace is None:
            event_id, traceparent, attempt = self.about()
            self._trace = served_trace(event_id, traceparent, self.instance, attempt)
        return self._trace

    @property
    def idempotency_key(self) -> str | None:
        """The caller's promise: the same key means the same request."""
        return self.request.idempotency_key

    @property
    def header(self) -> HeaderView:
        """The request's header to read; what is set here travels with the answer."""
        if self._view is None:
            message = self._message
            if not isinstance(message, bytes):  # from this process: as if it had travelled
                message = encode_message(self.request, b"{}", encode_user_headers(message))
            self._view = HeaderView(decode_user_headers(message))
        return self._view

    @property
    def answer_headers(self) -> dict[str, str]:
        """What the handler has set, for the answer."""
        return self._view.answer if self._view is not None else {}

    def about(self) -> tuple[str, str | None, int]:
        """Return event id, `traceparent` and attempt: no header is written for them."""
        request = self._request
        if request is not None:
            return request.event_uuid, request.traceparent, request.attempt or 1
        origin = self._origin
        assert origin is not None, "one of the two is given"
        return origin.event_id, origin.traceparent, origin.attempt

    def remaining_s(self) -> float:
        """Return the seconds left until the deadline; negative when it has passed."""
        return self.deadline_s - self._clock.monotonic_s()

    def without_deadline(self) -> contextvars.Context:
        """Return where work runs that goes on after the answer: `create_task(…, context=…)`.

        There the same request is in hand, for logs and traces, but what is asked of others does not
        end with it.
        """
        where = contextvars.copy_context()
        where.run(
            _current.set,
            Context(
                self.operation,
                self.sender,
                self.instance,
                math.inf,
                self._clock,
                self._message,
                self._request,
                self._origin,
                None,
                self._trace,
            ),
        )
        return where


_current: ContextVar[Context] = ContextVar("agent99_context")


def current_context() -> Context:
    """Return the request in hand.

    Raises:
        UsageError: there is none: this is not the code of an operation.
    """
    try:
        return _current.get()
    except LookupError:
        raise UsageError("there is no request in hand: this is not inside an operation") from None


def find_context() -> Context | None:
    """Return the request in hand, or None outside of one."""
    return _current.get(None)


use_context = _current.set
"""Make a context the request in hand, for the running task."""
