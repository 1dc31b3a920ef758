"""The journal on JetStream: its JSON API over our own wire, no other client."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from agent99.clock import Clock, SystemClock
from agent99.errors import PayloadTooLargeError
from agent99.ids import Ids, SystemIds
from agent99.journal._api import (
    MESSAGE_TOO_LARGE,
    STREAM_NOT_FOUND,
    WRONG_SEQUENCE,
    Done,
    error_of,
    microseconds,
)
from agent99.journal._client import JetStreamClient
from agent99.journal._consumers import (
    consumer_state_of,
    delete_consumer,
    find_consumer,
    list_consumers,
)
from agent99.journal._grammar import (
    check_append,
    check_bucket_config,
    check_consumer_config,
    check_name,
    check_part,
    check_pattern,
    check_sequence,
    check_stream_config,
    check_tail,
)
from agent99.journal._headers import append_headers, field_of, number_of
from agent99.journal._keyvalue import JetStreamBucket
from agent99.journal._port_buckets import Bucket, BucketConfig
from agent99.journal._port_consumers import ConsumerConfig, ConsumerState, Deliveries
from agent99.journal._port_streams import Backlog, Record, Stored, StreamConfig, StreamState
from agent99.journal._port_tails import Tail
from agent99.journal._read import after, count_backlog, read_records
from agent99.journal._streams import (
    delete_message,
    ensure_bucket,
    ensure_stream,
    list_streams,
    stream_info,
    stream_state_of,
)
from agent99.wire import Wire


class JetStreamJournal:
    """A `Journal` on the JetStream of the server that `wire` is connected to.

    Args:
        wire: Stays the caller's to close; the journal needs no closing.
        timeout_s: Each call ends by then; waiting for a server that restarts included.
        patience_s: The same for what may be repeated without harm and must get through a cluster's
            election: an append with a message id, an acknowledgement.
        heartbeat_s: How often the server tells an idle follower that all is well. A follower that
            hears nothing for 2.5 times as long starts afresh.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        timeout_s: float = 5.0,
        patience_s: float = 15.0,
        heartbeat_s: float = 1.0,
    ) -> None:
        self._client = JetStreamClient(
            wire,
            clock=clock or SystemClock(),
            ids=ids or SystemIds(),
            timeout_s=timeout_s,
            patience_s=patience_s,
        )
        self._heartbeat_s = heartbeat_s

    def __repr__(self) -> str:
        return f"JetStreamJournal(timeout_s={self._client.timeout_s})"

    async def ensure_stream(self, config: StreamConfig) -> None:
        """Create the stream, or change it to fit `config`. Idempotent.

        Raises:
            UsageError, InvalidNameError: `config` is no stream's; nothing was sent.
            StreamFullError: the server has no room for its bounds.
            JournalError: its subjects overlap another stream's, or it cannot be changed so.
            DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_stream_config(config)
        await ensure_stream(self._client, config)

    async def delete_stream(self, name: str) -> None:
        """Delete a stream, or with `KV_` before its name a bucket; deleting none is no error.

        Raises:
            InvalidNameError: nothing was sent.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", name)
        deadline_s = self._client.deadline_s()
        answer = await self._client.call(f"STREAM.DELETE.{name}", None, Done, deadline_s=deadline_s)
        if answer.error is not None and answer.error.err_code != STREAM_NOT_FOUND:
            raise error_of(answer.error, f"stream {name!r}")

    async def stream_state(self, name: str) -> StreamState:
        """Return what the stream holds now, and how it is kept.

        Raises:
            InvalidNameError: nothing was sent.
            StreamNotFoundError
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", name)
        info = await stream_info(self._client, name, deadline_s=self._client.deadline_s())
        return stream_state_of(info)

    async def streams(self, prefix: str = "") -> tuple[StreamState, ...]:
        """Return the streams whose names begin with `prefix`, by name; a bucket is none.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        return await list_streams(self._client, prefix)

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
            expected_pattern: Whose last sequence is meant, instead of the subject's: see `Journal`.
            timeout_s: The journal's `patience_s` with a message id, else its `timeout_s`.

        Delivery: on an error other than the first four the outcome is unknown; repeat with the
            same `message_id`. Appends under way at once are stored in any order once one is
            repeated.

        Raises:
            WrongSequenceError: somebody wrote first.
            StreamNotFoundError: no stream takes this subject.
            StreamFullError: the stream is at its bound, or its disk is full.
            UsageError, InvalidNameError, PayloadTooLargeError
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_append(subject, message_id, expected_sequence, expected_pattern)
        headers = append_headers(message_id, expected_sequence, expected_pattern)
        if timeout_s is None and message_id:
            timeout_s = self._client.patience_s
        deadline_s = self._client.deadline_s(timeout_s)
        ack = await self._client.publish(
            subject.encode(),
            payload,
            deadline_s=deadline_s,
            headers=headers,
            repeatable=bool(message_id),
        )
        error = ack.error
        if error is None:
            return Stored(ack.stream, ack.seq, ack.duplicate)
        if error.err_code in WRONG_SEQUENCE and message_id and expected_sequence is not None:
            compared = expected_pattern or subject
            winner = await after(
                self._client, ack.stream, compared, expected_sequence, deadline_s=deadline_s
            )
            if winner is not None and field_of(winner.hdrs, b"Nats-Msg-Id").decode() == message_id:
                return Stored(ack.stream, winner.seq, duplicate=True)
        if error.err_code == MESSAGE_TOO_LARGE:
            bound = (await self.stream_state(ack.stream)).config.message_bytes_max
            raise PayloadTooLargeError("message", len(headers) + len(payload), bound)
        raise error_of(error, expected_pattern or subject, expected_sequence)

    async def get(self, stream: str, sequence: int) -> Record | None:
        """Return the record of a sequence, as the leader has it, or None: deleted, or not yet.

        Raises:
            UsageError, InvalidNameError: nothing was sent.
            StreamNotFoundError
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", stream)
        check_sequence("sequence", sequence, 1)
        return await self._stored(stream, {"seq": sequence})

    async def last(self, stream: str, subject: str) -> Record | None:
        """Return the last record of a subject, or of a pattern's, or None.

        With replicas a subject's may be a moment old; a pattern's is as the leader has it.

        Raises:
            InvalidNameError: nothing was sent.
            StreamNotFoundError
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", stream)
        check_pattern(subject)
        if "*" in subject or ">" in subject:
            return await self._stored(stream, {"last_by_subj": subject})
        message = await self._client.direct_get(stream, subject)
        if message is None:
            return None
        sequence = number_of(message.headers, b"Nats-Sequence")
        stored_us = microseconds(field_of(message.headers, b"Nats-Time-Stamp"))
        return Record(subject, sequence, message.payload, stored_us)

    async def _stored(self, stream: str, request: dict[str, object]) -> Record | None:
        deadline_s = self._client.deadline_s()
        found = await self._client.leader_get(stream, request, deadline_s=deadline_s)
        if found is None:
            return None
        return Record(found.subject, found.seq, found.data, microseconds(found.time.encode()))

    def read(
        self,
        stream: str,
        subject: str = ">",
        *,
        from_sequence: int = 1,
        from_us: int | None = None,
    ) -> AsyncIterator[Record]:
        """Yield what the stream holds now for `subject`, in order, each once, then end.

        Args:
            from_sequence: Where to begin.
            from_us: Begin with the first one stored then or later, microseconds since the epoch;
                not together with `from_sequence`.

        The first step raises:
            UsageError, InvalidNameError: nothing was sent.
            StreamNotFoundError
            DeadlineExceededError: nothing came for `timeout_s`.
            JournalError, TransportError, RemoteProtocolError, ClosedError
        """
        return read_records(
            self._client, stream, subject, from_sequence=from_sequence, from_us=from_us
        )

    async def backlog(
        self, stream: str, subjects: tuple[str, ...] = (), *, from_sequence: int
    ) -> Backlog:
        """Count what the stream holds from a sequence on. With replicas it may be a moment old.

        Args:
            subjects: Patterns of what is counted, which must not overlap; none: everything.
            from_sequence: The first that counts; it may lie ahead of what the stream holds.

        Raises:
            UsageError, InvalidNameError: nothing was sent.
            StreamNotFoundError
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_part(stream, subjects, from_sequence)
        return await count_backlog(self._client, stream, subjects or (">",), from_sequence)

    async def delete(self, stream: str, sequence: int) -> None:
        """Delete one record; to delete none is fine. Its bytes are not overwritten at once.

        Raises:
            UsageError, InvalidNameError: nothing was sent.
            StreamNotFoundError
            StreamFullError: the stream's disk is full.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", stream)
        check_sequence("sequence", sequence, 1)
        await delete_message(self._client, stream, sequence)

    def consume(
        self, config: ConsumerConfig, *, prefetch_max: int = 64
    ) -> AbstractAsyncContextManager[Deliveries]:
        """Consume a stream by a durable consumer, which is made, or changed to fit `config`.

        Args:
            prefetch_max: Never more than so many deliveries are in hand, read or not.

        Delivery: at least once, in the stream's order but for what is repeated: see `Journal`.

        Raises:
            UsageError, InvalidNameError: `config` is no consumer's; nothing was sent.

        Entering raises:
            StreamNotFoundError
            JournalError: the consumer cannot be made or changed so.
            DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_consumer_config(config, prefetch_max)
        from agent99.journal._consume import JetStreamDeliveries  # noqa: PLC0415 - few consume

        return JetStreamDeliveries(
            self._client, config, prefetch_max=prefetch_max, heartbeat_s=self._heartbeat_s
        )

    def tail(
        self,
        stream: str,
        subjects: tuple[str, ...] = (),
        *,
        from_sequence: int = 1,
        prefetch_max: int = 256,
    ) -> AbstractAsyncContextManager[Tail]:
        """Read a stream on and on; see `Journal`."""
        check_tail(stream, subjects, from_sequence, prefetch_max)
        from agent99.journal._tail import JetStreamTail  # noqa: PLC0415 - few have tails

        how = {"from_sequence": from_sequence, "prefetch_max": prefetch_max}
        return JetStreamTail(self._client, stream, subjects, **how, heartbeat_s=self._heartbeat_s)

    async def delete_consumer(self, stream: str, name: str) -> None:
        """Delete a consumer: its place is forgotten. Deleting none is no error.

        Raises:
            InvalidNameError: nothing was sent.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", stream)
        check_name("consumer", name)
        await delete_consumer(self._client, stream, name)

    async def consumer_state(self, stream: str, name: str) -> ConsumerState | None:
        """Return how far a consumer is, or None when there is none.

        Raises:
            InvalidNameError: nothing was sent.
            StreamNotFoundError
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", stream)
        check_name("consumer", name)
        deadline_s = self._client.deadline_s()
        info = await find_consumer(self._client, stream, name, deadline_s=deadline_s)
        return None if info is None else consumer_state_of(info)

    async def consumers(self, stream: str, prefix: str = "") -> tuple[ConsumerState, ...]:
        """Return the stream's consumers whose names begin with `prefix`, by name.

        Raises:
            InvalidNameError: nothing was sent.
            StreamNotFoundError
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", stream)
        return await list_consumers(self._client, stream, prefix)

    async def bucket(self, config: BucketConfig) -> Bucket:
        """Return the bucket: created if it is not there, changed where it does not fit `config`.

        A bucket that another client made keeps its history, and learns to tell of expiries.

        Raises:
            UsageError, InvalidNameError: `config` is no bucket's; nothing was sent.
            StreamFullError: the server has no room for its bounds.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_bucket_config(config)
        await ensure_bucket(self._client, config)
        return JetStreamBucket(self._client, config.name, heartbeat_s=self._heartbeat_s)
