"""The port: what every wire does. Implementations are held to `agent99.testing.check_wire`."""

from __future__ import annotations

import enum
from asyncio import Future
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec


class Message(msgspec.Struct, gc=False):
    """One message as it arrived. Treat it as frozen: freezing it would cost time here."""

    subject: bytes
    reply: bytes
    """Where to answer; empty when no answer is wanted."""
    payload: bytes
    headers: bytes = b""
    """The raw NATS header block, empty when there is none; `parse_headers` reads it."""


Receive = Callable[[Message], None]
"""Takes a message at once, on the event loop, in order. It must not block; what it raises is
counted and reported through `Wire.on_error`, and the connection lives on."""


class ConnectionState(enum.Enum):
    """Where a connection stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    DRAINING = "draining"
    CLOSED = "closed"


class Subscription(Protocol):
    """Interest in a subject."""

    @property
    def subject(self) -> bytes:
        """The subject, wildcards included."""
        ...

    def unsubscribe(self) -> None:
        """Stop at once: nothing is delivered after this call. Idempotent; never raises."""
        ...

    async def drain(self, timeout_s: float = 5.0) -> None:
        """Stop the server sending, deliver what is under way, then stop.

        Returns when no more can come.

        Raises:
            DeadlineExceededError: the server did not confirm in time; it is ended all the same.
        """
        ...


class WireStatistics(msgspec.Struct, frozen=True):
    """Counts since the connection was made."""

    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    reconnects: int
    pending_bytes: int
    """Waiting to be written now."""
    dropped: dict[str, int]
    """Messages dropped, by reason: `late_answer` (nobody waits for it), `expired` (its deadline
    passed while the link was away), `receiver_error` (the receiver raised), `unsubscribed` (it was
    on its way when its subscription was ended)."""


class Wire(Protocol):
    """Carries bytes between processes, over subjects. One per process.

    All methods are called on the event loop that opened it. Subjects are ASCII bytes, already
    checked by `envelope`; a wire still refuses any that could break the protocol (white space,
    control characters, an empty token), and wildcards where they make no sense, with
    `LocalProtocolError`.
    """

    @property
    def sender(self) -> bytes:
        """The connection's identity, one token: the last token of what it publishes."""
        ...

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        ...

    @property
    def payload_bytes_max(self) -> int:
        """The largest payload and header block together that the server takes, in bytes."""
        ...

    def publish(
        self,
        subject: bytes,
        payload: bytes,
        *,
        reply: bytes = b"",
        headers: bytes = b"",
        deadline_s: float | None = None,
    ) -> None:
        """Queue a message; returns before it is written.

        Args:
            subject: Where to; no wildcards.
            payload: The body.
            reply: Where answers go.
            headers: A block made by `format_headers`.
            deadline_s: Monotonic time after which it is dropped (and counted as `expired`) instead
                of being sent late, when the link was away in the meantime.

        Delivery: at most once. Order is kept per connection.

        Raises:
            PayloadTooLargeError, LocalProtocolError: nothing was queued.
            BufferFullError: the link is away or slow and the buffer is at its bound; see
                `wait_writable`.
            ClosedError
        """
        ...

    async def wait_writable(self) -> None:
        """Wait until less than half of the buffer is waiting: back-pressure for producers.

        Raises:
            ClosedError
        """
        ...

    def subscribe(self, subject: bytes, receive: Receive, *, queue: bytes = b"") -> Subscription:
        """Receive what is published to `subject` (wildcards allowed); survives reconnects.

        Args:
            subject: `*` stands for one token, a final `>` for one or more.
            receive: Called for each message.
            queue: Members of the same queue group share the messages; each goes to one of them.

        Raises:
            LocalProtocolError, ClosedError
        """
        ...

    def request(
        self,
        subject: bytes,
        payload: bytes,
        *,
        deadline_s: float,
        headers: bytes = b"",
    ) -> Future[Message]:
        """Send a request and return the future of its first answer.

        Cancelling the future forgets the request; an answer that still comes is counted as
        `late_answer`.

        Args:
            deadline_s: Monotonic time by which the future ends, one way or another.

        The future raises:
            NoRespondersError: nobody listens; the request was not delivered.
            DeadlineExceededError: no answer by the deadline.
            PermissionDeniedError: the server does not allow this subject; within a round trip.
            ClosedError: the wire was closed meanwhile.

        Raises:
            as `publish`.
        """
        ...

    def open_inbox(self, receive: Receive) -> bytes:
        """Return a fresh reply subject whose every message goes to `receive`, until `close_inbox`.

        The "no responders" notice arrives as a message for which `is_no_responders` is true.
        """
        ...

    def close_inbox(self, inbox: bytes) -> None:
        """Forget a reply subject. Idempotent."""
        ...

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until the server has processed everything published and subscribed so far.

        Raises:
            DeadlineExceededError, ClosedError, DisconnectedError
        """
        ...

    def on_state(self, listen: Callable[[ConnectionState], None]) -> None:
        """Call `listen` at each change of state; a reconnect restores subscriptions before it."""
        ...

    def on_error(self, listen: Callable[[Exception], None]) -> None:
        """Call `listen` with what the server, or a receiver that raised, reports out of turn."""
        ...

    def on_drop(self, listen: Callable[[str, int], None]) -> None:
        """Call `listen` with each drop: its reason, and of how many messages."""
        ...

    def statistics(self) -> WireStatistics:
        """Return the counts so far."""
        ...

    async def aclose(self) -> None:
        """Write what is queued (within 2 s), then close. Idempotent.

        Pending requests end with `ClosedError`. To be cancelled closes at once, as `abort` does.
        """
        ...

    def abort(self) -> None:
        """Close at once: what is queued is lost. Idempotent; also ends an `aclose` under way."""
        ...


Headers = Mapping[str, str]
