"""The port: bytes that last. Implementations are held to `agent99.testing.check_journal`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from agent99.journal._port_buckets import Bucket, BucketConfig
from agent99.journal._port_consumers import ConsumerConfig, ConsumerState, Deliveries
from agent99.journal._port_streams import Backlog, Record, Stored, StreamConfig, StreamState
from agent99.journal._port_tails import Tail


class Journal(Protocol):
    """Streams and buckets. Every call ends by its deadline (5 s) with a result or a typed error.

    Besides what each method names, all raise `UsageError` or `InvalidNameError` (nothing was sent),
    `JournalError`, `DeadlineExceededError`, `TransportError`, `RemoteProtocolError` and
    `ClosedError` (of the wire).
    """

    async def ensure_stream(self, config: StreamConfig) -> None:
        """Create the stream, or change it to fit `config`. Idempotent."""
        ...

    async def delete_stream(self, name: str) -> None:
        """Delete a stream and all that it holds; deleting none is no error."""
        ...

    async def stream_state(self, name: str) -> StreamState:
        """Return what the stream holds now, and how it is kept.

        Raises:
            StreamNotFoundError
        """
        ...

    async def streams(self, prefix: str = "") -> tuple[StreamState, ...]:
        """Return the streams whose names begin with `prefix`, by name; a bucket is none."""
        ...

    async def append(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str = "",
        expected_sequence: int | None = None,
        expected_pattern: str = "",
        timeout_s: float | None = None,
    ) -> Stored:
        """Store a message. Returned = stored (and replicated, where the stream has replicas).

        Args:
            message_id: The same id within the stream's duplicate window is stored once. With it a
                receipt that got lost is asked for again.
            expected_sequence: The subject's last sequence must be this one (0: no message yet).
            expected_pattern: Whose last sequence must be the expected one, instead of the
                subject's: that of all subjects under this pattern. Everyone who writes under it
                must expect the same pattern; in a cluster an append without may slip in between.
            timeout_s: 15 s with a message id (a cluster's election takes up to 10), else 5 s.

        Delivery: on an error other than the first four the outcome is unknown; repeat with the
            same `message_id`. Appends under way at once are stored in any order once one is
            repeated: who needs the order of a key has one append of it under way.

        Raises:
            WrongSequenceError: somebody wrote first.
            StreamNotFoundError: no stream takes this subject.
            StreamFullError: the stream is at its bound, or its disk is full.
            PayloadTooLargeError
            JournalError, DeadlineExceededError, TransportError
        """
        ...

    async def get(self, stream: str, sequence: int) -> Record | None:
        """Return the record of a sequence, as the leader has it, or None: deleted, or not yet.

        Raises:
            StreamNotFoundError
        """
        ...

    async def last(self, stream: str, subject: str) -> Record | None:
        """Return the last record of a subject, or of the subjects of a pattern, or None."""
        ...

    def read(
        self,
        stream: str,
        subject: str = ">",
        *,
        from_sequence: int = 1,
        from_us: int | None = None,
    ) -> AsyncIterator[Record]:
        """Yield what the stream holds now for `subject` (wildcards too), in order, then end.

        Args:
            from_sequence: Where to begin.
            from_us: Begin with the first one stored then or later, microseconds since the epoch;
                not together with `from_sequence`.

        Delivery: each record once, across restarts of the server too.

        Raises:
            StreamNotFoundError
        """
        ...

    async def backlog(
        self, stream: str, subjects: tuple[str, ...] = (), *, from_sequence: int
    ) -> Backlog:
        """Count what the stream holds from a sequence on. With replicas it may be a moment old.

        Args:
            subjects: Patterns of what is counted, which must not overlap; none: everything.
            from_sequence: The first that counts; it may lie ahead of what the stream holds.

        Raises:
            StreamNotFoundError
        """
        ...

    async def delete(self, stream: str, sequence: int) -> None:
        """Delete one record; to delete none is fine. Its bytes are not overwritten at once.

        Raises:
            StreamNotFoundError
            StreamFullError: the stream's disk is full.
            JournalError: the stream is permanent.
        """
        ...

    def consume(
        self, config: ConsumerConfig, *, prefetch_max: int = 64
    ) -> AbstractAsyncContextManager[Deliveries]:
        """Consume a stream by a durable consumer, which is made, or changed to fit `config`.

        Many processes may consume by the same one: each message goes to one of them.

        Args:
            prefetch_max: Never more than so many deliveries are in this process's hands, read or
                not, that are neither acknowledged nor given back.

        Delivery: at least once. In the stream's order, but for what is repeated. On leaving, what
            was not read yet is given back at once, within 2 s; what was read stays until it is
            finished, or until `ack_wait_s` has passed.

        Entering may take an election long (15 s), and raises:
            StreamNotFoundError
            JournalError: the consumer cannot be made or changed so.
        """
        ...

    def tail(
        self,
        stream: str,
        subjects: tuple[str, ...] = (),
        *,
        from_sequence: int = 1,
        prefetch_max: int = 256,
    ) -> AbstractAsyncContextManager[Tail]:
        """Read a stream on and on, from a place that the reader keeps: in order, without acks.

        Args:
            subjects: Patterns of what is read, which must not overlap; none: everything.
            from_sequence: Where to begin; it may lie ahead of what the stream holds.
            prefetch_max: Never more than so many records are in hand, unread.

        Entering raises:
            StreamNotFoundError
            JournalError
        """
        ...

    async def delete_consumer(self, stream: str, name: str) -> None:
        """Delete a consumer: its place is forgotten. Deleting none is no error.

        Who consumes by it goes on, with a new one, after the last message up to which all was
        acknowledged as far as it knows: end them first.
        """
        ...

    async def consumer_state(self, stream: str, name: str) -> ConsumerState | None:
        """Return how far a consumer is, or None when there is none.

        Raises:
            StreamNotFoundError
        """
        ...

    async def consumers(self, stream: str, prefix: str = "") -> tuple[ConsumerState, ...]:
        """Return the stream's consumers whose names begin with `prefix`, by name.

        Raises:
            StreamNotFoundError
        """
        ...

    async def bucket(self, config: BucketConfig) -> Bucket:
        """Return the bucket: created if it is not there, changed where it does not fit `config`."""
        ...
