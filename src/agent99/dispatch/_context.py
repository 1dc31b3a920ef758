"""What a handler may know of the request in hand. Task-local: never shared between messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar

import msgspec

from agent99.clock import Clock
from agent99.envelope import Header, decode_user_headers, encode_message, encode_user_headers
from agent99.errors import UsageError


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


class Context(msgspec.Struct, eq=False):
    """One request, as its handler sees it."""

    operation: str
    """The operation that was chosen; of an event, its topic."""
    sender: str
    """Who asks, as the request's subject says; with permissions on, the server has proved it."""
    deadline_s: float
    """Monotonic time by which the caller wants the answer."""
    _clock: Clock
    _message: bytes | Mapping[str, str]
    _request: Header | None
    _describe: Callable[[], Header] | None
    _view: HeaderView | None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(operation={self.operation!r}, event_id={self.event_id!r})"

    @property
    def request(self) -> Header:
        """The envelope's own header of the request."""
        request = self._request
        if request is None:  # of a caller in this process: made when it is looked at
            assert self._describe is not None, "one of the two is given"
            request = self._request = self._describe()
        return request

    @property
    def event_id(self) -> str:
        """Names the request; the same in every log line and answer about it."""
        return self.request.event_uuid

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

    def remaining_s(self) -> float:
        """Return the seconds left until the deadline; negative when it has passed."""
        return self.deadline_s - self._clock.monotonic_s()


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
