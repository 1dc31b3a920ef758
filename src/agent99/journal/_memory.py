"""The journal in memory: the same rules as on a server, and deterministic."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agent99.clock import Clock, SystemClock
from agent99.errors import JournalError, PayloadTooLargeError, StreamNotFoundError
from agent99.ids import Ids
from agent99.journal._grammar import (
    check_bucket_config,
    check_message_id,
    check_name,
    check_pattern,
    check_sequence,
    check_stream_config,
    check_subject,
    overlap,
)
from agent99.journal._memory_bucket import BucketStore, MemoryBucket
from agent99.journal._memory_stream import MemoryStream
from agent99.journal._port import Bucket, BucketConfig, Record, Stored, StreamConfig

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
            JournalError: its subjects overlap another stream's.
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
            known.config = config

    async def delete_stream(self, name: str) -> None:
        """Delete a stream, or with `KV_` before its name a bucket; deleting none is no error."""
        check_name("stream", name)
        await self._clock.sleep(0)
        self._streams.pop(name, None)
        if name.startswith(_BUCKET_PREFIX):
            bucket = self._buckets.pop(name.removeprefix(_BUCKET_PREFIX), None)
            if bucket is not None:
                bucket.end()

    async def append(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str = "",
        expected_sequence: int | None = None,
    ) -> Stored:
        """Store a message.

        Delivery: exactly once per `message_id` within the stream's duplicate window.

        Raises:
            WrongSequenceError, StreamNotFoundError, StreamFullError, PayloadTooLargeError
            UsageError, InvalidNameError: nothing was tried.
        """
        check_subject(subject)
        if message_id:
            check_message_id(message_id)
        if expected_sequence is not None:
            check_sequence("expected_sequence", expected_sequence, 0)
        if len(payload) > self._payload_bytes_max:
            raise PayloadTooLargeError("payload", len(payload), self._payload_bytes_max)
        await self._clock.sleep(0)
        for stream in self._streams.values():
            if stream.takes(subject):
                return stream.append(subject, payload, message_id, expected_sequence)
        raise StreamNotFoundError(f"no stream takes subject {subject!r}")

    async def last(self, stream: str, subject: str) -> Record | None:
        """Return the subject's last record, or None.

        Raises:
            InvalidNameError, StreamNotFoundError
        """
        check_name("stream", stream)
        check_subject(subject)
        await self._clock.sleep(0)
        return self._stream(stream).last(subject)

    async def read(
        self, stream: str, subject: str = ">", *, from_sequence: int = 1
    ) -> AsyncIterator[Record]:
        """Yield what the stream holds now for `subject`, in order, each once, then end.

        Raises:
            UsageError, InvalidNameError, StreamNotFoundError
        """
        check_name("stream", stream)
        check_pattern(subject)
        check_sequence("from_sequence", from_sequence, 1)
        await self._clock.sleep(0)
        for record in self._stream(stream).held(subject, from_sequence):
            yield record

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
