"""The port of consumers: a durable place in a stream, and the deliveries that move it on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, Self

import msgspec

from agent99.journal._port_streams import Record


class ConsumerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A place in a stream that outlives whoever reads: what was delivered, and acknowledged.

    Where it starts counts when it is made; after that its place does.
    """

    stream: str
    name: str
    subjects: tuple[str, ...] = ()
    """Patterns of what it delivers; none: everything."""
    start: Literal["first", "new"] = "first"
    """With the first message that the stream holds, or with what comes from now on."""
    from_sequence: int | None = None
    """Start at this sequence instead."""
    from_us: int | None = None
    """Start with the first message stored then or later, microseconds since the epoch, instead."""
    ack_wait_s: float = 30
    """What was delivered and not finished, nor kept by `progress`, for so long comes again."""
    deliveries_max: int = -1
    """After so many a message is not delivered any more; the server publishes an advisory. -1: no
    bound."""
    in_flight_max: int = -1
    """Deliveries that are not finished, of all who consume by it; those that wait for their retry
    count. -1: no bound, so that delayed ones never hold up the others."""
    inactive_s: float = 0
    """The server removes it when nobody has consumed by it for so long; 0: never."""


class ConsumerState(msgspec.Struct, frozen=True, kw_only=True):
    """How far a consumer is."""

    config: ConsumerConfig
    """As the server has it."""
    pending: int
    """Messages that it has not delivered yet."""
    in_flight: int
    """Delivered and not finished; those that wait for their retry are among them."""
    redelivered: int
    """Of those in flight, how many were delivered more than once."""
    delivered_sequence: int
    """The highest sequence delivered."""
    acknowledged_sequence: int
    """Up to it everything is finished."""


class Delivery(Protocol):
    """One message in hand. It is finished by exactly one of `ack`, `retry` and `terminate`.

    Each of these three returns when the server has noted it, and raises otherwise; then the message
    may come again. A second call after one that returned raises `UsageError`. All three raise:

        JournalError: the consumer was deleted; or it was not ready in time; or a single server was
            killed and has forgotten that it delivered this.
        DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """

    @property
    def record(self) -> Record:
        """The message as it is stored."""
        ...

    @property
    def attempt(self) -> int:
        """Which delivery of this message it is, by the server's count; starts at 1."""
        ...

    @property
    def message_id(self) -> str:
        """The id that it was appended with, or an empty string."""
        ...

    async def ack(self) -> None:
        """Tell that it is done: it does not come again.

        Delivery: a single server that is killed may forget what it noted in the last tenth of a
            second; then it does come again.
        """
        ...

    async def retry(self, delay_s: float = 0) -> None:
        """Give it back: it comes again, to whoever consumes, after `delay_s` seconds."""
        ...

    def progress(self) -> None:
        """Keep it for another `ack_wait_s`; returns at once.

        Delivery: at most once. A signal that cannot be written now is lost; repeat it well within
            `ack_wait_s`.
        """
        ...

    async def terminate(self, reason: str) -> None:
        """Give it up: it does not come again, and the server publishes an advisory with `reason`.

        Args:
            reason: At most 256 characters of printable ASCII.
        """
        ...


class DeliveriesStatistics(msgspec.Struct, frozen=True):
    """What is in one consumer's hands, and what went wrong so far."""

    held: int
    """Delivered and not finished, read or not."""
    unread: int
    """Of those, not read yet."""
    lapsed: int
    """Deliveries that were taken back, since the consumer began: nobody finished or kept them."""
    interruptions: dict[str, int]
    """Since the consumer began, by reason: `link_lost`, `silence` (no heartbeat from the server),
    `leader_changed`, `no_responders`, `buffer_full`, `refused` and `consumer_deleted`."""


class Deliveries(Protocol):
    """What a consumer delivers, to one task, which may start others. Reading never ends by itself.

    Reading raises:
        StreamNotFoundError: the stream is gone, and did not come back within 5 s.
        JournalError: the consumer was deleted and cannot be made again.
        PermissionDeniedError, RemoteProtocolError, ClosedError
        UsageError: two tasks read at once.
    """

    def __aiter__(self) -> Self:
        """Return itself."""
        ...

    async def __anext__(self) -> Delivery:
        """Return the next delivery, once there is one."""
        ...

    def on_interruption(self, listen: Callable[[str], None]) -> None:
        """Call `listen` with the reason of each interruption; what follows puts it right.

        After `consumer_deleted` the consumer is made again, and begins where everything before was
        acknowledged, as far as was known: what was acknowledged beyond comes again.
        """
        ...

    def statistics(self) -> DeliveriesStatistics:
        """Return the counts now."""
        ...
