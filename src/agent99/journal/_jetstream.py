"""The journal on JetStream: its JSON API over our own wire, no other client."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agent99.clock import Clock, SystemClock
from agent99.ids import Ids, SystemIds
from agent99.journal._api import (
    STREAM_NOT_FOUND,
    WRONG_SEQUENCE,
    Done,
    StoredMessage,
    StreamInfo,
    error_of,
    microseconds,
)
from agent99.journal._client import JetStreamClient
from agent99.journal._grammar import (
    check_bucket_config,
    check_message_id,
    check_name,
    check_pattern,
    check_sequence,
    check_stream_config,
    check_subject,
)
from agent99.journal._headers import field_of, number_of
from agent99.journal._keyvalue import JetStreamBucket
from agent99.journal._port import Bucket, BucketConfig, Record, Stored, StreamConfig
from agent99.journal._read import Direct, read_batches
from agent99.journal._streams import ensure_bucket, ensure_stream
from agent99.wire import Wire


class JetStreamJournal:
    """A `Journal` on the JetStream of the server that `wire` is connected to.

    Args:
        wire: Stays the caller's to close; the journal needs no closing.
        timeout_s: Each call ends by then; waiting for a server that restarts included.
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
        heartbeat_s: float = 1.0,
    ) -> None:
        self._client = JetStreamClient(
            wire, clock=clock or SystemClock(), ids=ids or SystemIds(), timeout_s=timeout_s
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

    async def append(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str = "",
        expected_sequence: int | None = None,
    ) -> Stored:
        """Store a message. Returned = stored (and replicated, where the stream has replicas).

        Args:
            message_id: The same id within the stream's duplicate window is stored once. With it a
                receipt that got lost is asked for again within the deadline.
            expected_sequence: The subject's last sequence must be this one (0: no message yet).

        Delivery: on an error other than the first three the outcome is unknown; repeat with the
            same `message_id`.

        Raises:
            WrongSequenceError: somebody wrote first.
            StreamNotFoundError: no stream takes this subject.
            StreamFullError: at its bound.
            UsageError, InvalidNameError, PayloadTooLargeError: nothing was sent.
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_subject(subject)
        headers = b""
        if message_id:
            check_message_id(message_id)
            headers = b"Nats-Msg-Id: " + message_id.encode() + b"\r\n"
        if expected_sequence is not None:
            check_sequence("expected_sequence", expected_sequence, 0)
            headers += b"Nats-Expected-Last-Subject-Sequence: %d\r\n" % expected_sequence
        if headers:
            headers = b"NATS/1.0\r\n" + headers + b"\r\n"
        deadline_s = self._client.deadline_s()
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
            winner = await self._after(ack.stream, subject, expected_sequence, deadline_s)
            if winner is not None and field_of(winner.hdrs, b"Nats-Msg-Id").decode() == message_id:
                return Stored(ack.stream, winner.seq, duplicate=True)
        raise error_of(error, subject, expected_sequence)

    async def last(self, stream: str, subject: str) -> Record | None:
        """Return the subject's last record, or None. With replicas it may be a moment old.

        Raises:
            InvalidNameError: nothing was sent.
            StreamNotFoundError
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", stream)
        check_subject(subject)
        message = await self._client.direct_get(stream, subject)
        if message is None:
            return None
        sequence = number_of(message.headers, b"Nats-Sequence")
        stored_us = microseconds(field_of(message.headers, b"Nats-Time-Stamp"))
        return Record(subject, sequence, message.payload, stored_us)

    async def read(
        self, stream: str, subject: str = ">", *, from_sequence: int = 1
    ) -> AsyncIterator[Record]:
        """Yield what the stream holds now for `subject`, in order, each once, then end.

        Raises:
            UsageError, InvalidNameError: nothing was sent.
            StreamNotFoundError
            DeadlineExceededError: nothing came for `timeout_s`.
            JournalError, TransportError, RemoteProtocolError, ClosedError
        """
        check_name("stream", stream)
        check_pattern(subject)
        check_sequence("from_sequence", from_sequence, 1)
        info = await self._client.demand(
            f"STREAM.INFO.{stream}", None, StreamInfo, deadline_s=self._client.deadline_s()
        )
        last = info.state.last_seq
        alone = info.config.get("num_replicas", 1) == 1
        at = from_sequence
        while at <= last:
            async for batch in read_batches(self._client, stream, subject, from_sequence=at):
                at = batch[-1].sequence + 1
                for each in batch if at <= last + 1 else _up_to(last, batch):
                    yield Record(
                        each.subject, each.sequence, each.payload, microseconds(each.stored)
                    )
                if at > last:
                    return
            # A replica that lags says "no more" too early; only the leader knows for certain.
            if alone:
                return
            left = await self._after(stream, subject, at - 1, self._client.deadline_s())
            if left is None or left.seq > last:
                return

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

    async def _after(
        self, stream: str, subject: str, sequence: int, deadline_s: float
    ) -> StoredMessage | None:
        """Return the first message past a sequence, as the leader has it.

        The server compares sequences before it looks for duplicates, so a repeated compare-and-set
        append is refused because of its own first copy: what follows the expected sequence tells.
        """
        request: dict[str, object] = {"seq": sequence + 1, "next_by_subj": subject}
        return await self._client.leader_get(stream, request, deadline_s=deadline_s)


def _up_to(last: int, batch: list[Direct]) -> list[Direct]:
    return [each for each in batch if each.sequence <= last]
