"""The journal in memory: the same rules as on a server, and deterministic."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from agent99.clock import Clock, SystemClock
from agent99.errors import JournalError, PayloadTooLargeError, StreamNotFoundError
from agent99.ids import Ids
from agent99.journal._grammar import (
    check_append,
    check_bucket_config,
    check_consumer_config,
    check_name,
    check_part,
    check_pattern,
    check_sequence,
    check_start,
    check_stream_config,
    check_tail,
    overlap,
)
from agent99.journal._memory_bucket import BucketStore, MemoryBucket
from agent99.journal._memory_stream import Append, MemoryStream
from agent99.journal._port_buckets import Bucket, BucketConfig
from agent99.journal._port_consumers import ConsumerConfig, ConsumerState, Deliveries
from agent99.journal._port_streams import Backlog, Record, Stored, StreamConfig, StreamState
from agent99.journal._port_tails import Tail

_BUCKET_PREFIX = "KV_"


class MemoryJournal:
    """A `Journal` that lasts as long as the object. Many clients share one: it is the store.

    Each call gives other tasks one turn before it takes effect, then is atomic. With a
    `ManualClock`, ages, windows and expiries pass exactly when the clock is advanced.

    Args:
        clock: Ages, duplicate windows and expiries are measured with it.
        ids: Taken so that both journals are made alike; nothing here is random.
        payload_bytes_max: As a server's `max_payload`.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,  # noqa: ARG002 - see above
        payload_bytes_max: int = 1024 * 1024,
    ) -> None:
        self._clock = clock or SystemClock()
        self._payload_bytes_max = payload_bytes_max
        self._streams: dict[str, MemoryStream] = {}
        self._buckets: dict[str, BucketStore] = {}

    def __repr__(self) -> str:
        return f"MemoryJournal(streams={len(self._streams)}, buckets={len(self._buckets)})"

    async def ensure_stream(self, config: StreamConfig) -> None:
        """Create the stream, or change it to fit `config`. Idempotent.

        Raises:
            UsageError, InvalidNameError: `config` is no stream's.
            JournalError: its subjects overlap another stream's, or its retention is another.
        """
        check_stream_config(config)
        await self._clock.sleep(0)
        for other in self._streams.values():
            if other.config.name != config.name and any(
                overlap(one, two) for one in config.subjects for two in other.config.subjects
            ):
                raise JournalError("subjects overlap with an existing stream", server_code=10065)
        known = self._streams.get(config.name)
        if known is None:
            self._streams[config.name] = MemoryStream(config, self._clock)
        else:
            known.change(config)

    async def delete_stream(self, name: str) -> None:
        """Delete a stream, or with `KV_` before its name a bucket; deleting none is no error."""
        check_name("stream", name)
        await self._clock.sleep(0)
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.end()
        if name.startswith(_BUCKET_PREFIX):
            bucket = self._buckets.pop(name.removeprefix(_BUCKET_PREFIX), None)
            if bucket is not None:
                bucket.end()

    async def stream_state(self, name: str) -> StreamState:
        """Return what the stream holds now.

        Raises:
            InvalidNameError, StreamNotFoundError
        """
        check_name("stream", name)
        await self._clock.sleep(0)
        return self._stream(name).state()

    async def streams(self, prefix: str = "") -> tuple[StreamState, ...]:
        """Return the streams whose names begin with `prefix`, by name; a bucket is none."""
        await self._clock.sleep(0)
        return tuple(
            stream.state()
            for name, stream in sorted(self._streams.items())
            if name.startswith(prefix)
        )

    async def append(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str = "",
        expected_sequence: int | None = None,
        expected_pattern: str = "",
        timeout_s: float | None = None,  # noqa: ARG002 - nothing is waited for
    ) -> Stored:
        """Store a message.

        Delivery: exactly once per `message_id` within the stream's duplicate window.

        Raises:
            WrongSequenceError, StreamNotFoundError, StreamFullError, PayloadTooLargeError
            UsageError, InvalidNameError: nothing was tried.
        """
        check_append(subject, message_id, expected_sequence, expected_pattern)
        if len(payload) > self._payload_bytes_max:
            raise PayloadTooLargeError("payload", len(payload), self._payload_bytes_max)
        await self._clock.sleep(0)
        compared = expected_pattern or subject
        append = Append(subject, payload, message_id, expected_sequence, compared)
        for stream in self._streams.values():
            if stream.takes(subject):
                return stream.append(append)
        raise StreamNotFoundError(f"no stream takes subject {subject!r}")

    async def get(self, stream: str, sequence: int) -> Record | None:
        """Return the record of a sequence, or None: deleted, or not yet.

        Raises:
            UsageError, InvalidNameError, StreamNotFoundError
            JournalError: the stream is permanent.
        """
        check_name("stream", stream)
        check_sequence("sequence", sequence, 1)
        await self._clock.sleep(0)
        kept = self._stream(stream).at(sequence)
        return None if kept is None else kept.record

    async def last(self, stream: str, subject: str) -> Record | None:
        """Return the last record of a subject, or of a pattern's, or None.

        Raises:
            InvalidNameError, StreamNotFoundError
        """
        check_name("stream", stream)
        check_pattern(subject)
        await self._clock.sleep(0)
        return self._stream(stream).last(subject)

    async def read(
        self,
        stream: str,
        subject: str = ">",
        *,
        from_sequence: int = 1,
        from_us: int | None = None,
    ) -> AsyncIterator[Record]:
        """Yield what the stream holds now for `subject`, in order, each once, then end.

        Raises:
            UsageError, InvalidNameError, StreamNotFoundError
        """
        check_name("stream", stream)
        check_pattern(subject)
        check_start(from_sequence, from_us)
        await self._clock.sleep(0)
        for record in self._stream(stream).held(subject, from_sequence, from_us):
            yield record

    async def backlog(
        self, stream: str, subjects: tuple[str, ...] = (), *, from_sequence: int
    ) -> Backlog:
        """Count what the stream holds from a sequence on; see `Journal`.

        Raises:
            UsageError, InvalidNameError, StreamNotFoundError
        """
        check_part(stream, subjects, from_sequence)
        await self._clock.sleep(0)
        return self._stream(stream).backlog(subjects or (">",), from_sequence)

    async def delete(self, stream: str, sequence: int) -> None:
        """Delete one record; to delete none is fine.

        Raises:
            UsageError, InvalidNameError, StreamNotFoundError
        """
        check_name("stream", stream)
        check_sequence("sequence", sequence, 1)
        await self._clock.sleep(0)
        self._stream(stream).delete(sequence)

    def consume(
        self, config: ConsumerConfig, *, prefetch_max: int = 64
    ) -> AbstractAsyncContextManager[Deliveries]:
        """Consume a stream by a durable consumer, which is made, or changed to fit `config`.

        Delivery: at least once; exactly once while nobody lets `ack_wait_s` pass.

        Raises:
            UsageError, InvalidNameError: `config` is no consumer's.

        Entering raises:
            StreamNotFoundError
            JournalError: the stream is for work, and the consumer does not fit to it.
        """
        check_consumer_config(config, prefetch_max)
        from agent99.journal._memory_deliveries import (  # noqa: PLC0415 - few consume
            MemoryDeliveries,
        )

        return MemoryDeliveries(self._stream, config, self._clock, prefetch_max=prefetch_max)

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
        from agent99.journal._memory_tail import MemoryTail  # noqa: PLC0415 - few have tails

        return MemoryTail(self._stream, stream, subjects, self._clock, from_sequence=from_sequence)

    async def delete_consumer(self, stream: str, name: str) -> None:
        """Delete a consumer; deleting none is no error.

        Raises:
            InvalidNameError
        """
        check_name("stream", stream)
        check_name("consumer", name)
        await self._clock.sleep(0)
        known = self._streams.get(stream)
        if known is not None and name in known.consumers:
            known.forget(known.consumers[name])

    async def consumer_state(self, stream: str, name: str) -> ConsumerState | None:
        """Return how far a consumer is, or None when there is none.

        Raises:
            InvalidNameError, StreamNotFoundError
        """
        check_name("consumer", name)
        found = [each for each in await self.consumers(stream, name) if each.config.name == name]
        return found[0] if found else None

    async def consumers(self, stream: str, prefix: str = "") -> tuple[ConsumerState, ...]:
        """Return the stream's consumers whose names begin with `prefix`, by name.

        Raises:
            InvalidNameError, StreamNotFoundError
        """
        check_name("stream", stream)
        await self._clock.sleep(0)
        return tuple(
            consumer.state()
            for name, consumer in sorted(self._stream(stream).consumers.items())
            if name.startswith(prefix)
        )

    async def bucket(self, config: BucketConfig) -> Bucket:
        """Return the bucket: created if it is not there, changed where it does not fit `config`.

        Raises:
            UsageError, InvalidNameError: `config` is no bucket's.
        """
        check_bucket_config(config)
        await self._clock.sleep(0)
        store = self._buckets.get(config.name)
        if store is None:
            store = self._buckets[config.name] = BucketStore(config, self._clock)
        else:
            store.config = config
        return MemoryBucket(store, self._clock, self._payload_bytes_max)

    def _stream(self, name: str) -> MemoryStream:
        try:
            return self._streams[name]
        except KeyError:
            raise StreamNotFoundError(f"stream {name!r} does not exist") from None
