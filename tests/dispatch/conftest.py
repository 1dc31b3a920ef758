"""A dispatcher whose answers can be read back, on a clock that a test moves, on both loops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from agent99.clock import Deadlines
from agent99.dispatch import (
    Context,
    Dispatcher,
    DispatchOptions,
    Handler,
    Middleware,
    Route,
    Witness,
    fold,
    never_waits,
    new_event_loop,
)
from agent99.envelope import (
    AnswerCodec,
    BodyCodec,
    Header,
    decode_error,
    decode_header,
    encode_body,
    encode_message,
    encode_user_headers,
    parse_name,
)
from agent99.errors import BufferFullError, RequestError
from agent99.observe import Hooks
from agent99.testing import ManualClock
from agent99.wire import Message


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test on asyncio's loop and on ours: on 3.11 only ours starts handlers at once."""
    return {"asyncio": asyncio.SelectorEventLoop, "agent99": new_event_loop}


class RecordingWire:
    """As much of a wire as a dispatcher uses: what it publishes is kept."""

    payload_bytes_max = 1024 * 1024

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, bytes]] = []
        self.is_full = False

    def publish(self, subject: bytes, payload: bytes) -> None:
        """Keep what is sent."""
        if self.is_full:
            raise BufferFullError(2, 1)
        self.sent.append((subject, payload))


class Bench:
    """A dispatcher and what surrounds it."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.wire = RecordingWire()
        self.kind: Any = options.pop("kind", "request")
        self.hooks = Hooks()
        self.dispatcher = Dispatcher(
            Witness("worker", "instance-1", kind=self.kind, hooks=self.hooks, clock=self.clock),
            self.wire,  # type: ignore[arg-type] - as much as is used
            clock=self.clock,
            deadlines=Deadlines(self.clock),
            options=DispatchOptions(**options),
        )
        self._next = 0

    def offer(
        self,
        handle: Callable[[Any], Awaitable[Any]] | Handler,
        *,
        operation: str = "work",
        body: Any = dict[str, Any],
        answer: Any = Any,
        middleware: tuple[Middleware, ...] = (),
        with_context: bool = False,
    ) -> Route:
        """Offer an operation."""

        def take(context: Context, payload: Any) -> Awaitable[Any]:
            return handle(context, payload) if with_context else handle(payload)  # type: ignore[call-arg] - chosen by the flag

        route = Route(
            parse_name("operation", operation),
            body=BodyCodec(body, of=operation),
            answer=AnswerCodec(answer, of=operation),
            handle=fold(middleware, take),
            never_waits=not middleware and never_waits(handle),
        )
        self.dispatcher.routes.add(route)
        return route

    def message(
        self,
        payload: Any = None,
        *,
        operation: str = "work",
        sender: str = "alice",
        reply: bytes | None = None,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        **fields: Any,
    ) -> Message:
        """Return a request as it arrives."""
        self._next += 1
        header = Header(
            type=fields.pop("type", self.kind),
            from_uuid="caller",
            to_uuid="cap",
            event_uuid=fields.pop("event_uuid", f"e{self._next}"),
            timestamp=self.clock.wall_us(),
            **fields,
        )
        user = encode_user_headers(headers) if headers else b""
        return Message(
            f"a99.m.cap.c.{operation}.{sender}".encode(),
            f"_INBOX.{sender}.c.t{self._next}".encode() if reply is None else reply,
            encode_message(header, encode_body(payload), user) if data is None else data,
        )

    def receive(self, route: Route, message: Message) -> None:
        """Let a message arrive."""
        self.dispatcher.receiver(route)(message)

    def answers(self) -> list[Any]:
        """Return the results, or errors, that were sent, in order."""
        return [self._read(data) for _, data in self.wire.sent]

    def _read(self, data: bytes) -> Any:
        header = decode_header(data)
        if header.outcome == "error":
            return decode_error(data)
        return AnswerCodec[Any](Any, of="x").decode(header.outcome, data)

    def codes(self) -> list[str]:
        """Return the codes of the errors that were sent; `OK` for a result."""
        return [a.code if isinstance(a, RequestError) else "OK" for a in self.answers()]

    @property
    def dropped(self) -> dict[str, int]:
        """The drops so far, by reason."""
        return self.dispatcher.statistics().dropped


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    """Give `make_bench(**options)`."""
    return Bench
