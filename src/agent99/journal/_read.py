"""Read a stream by batched direct gets: quick, exact, and without a consumer on the server.

The server sends a batch of messages to one inbox and then says how many are left. Each message
names the one before it, so a hole shows; a batch that breaks off is asked for again from the first
message that is missing. The next batch is under way while the reader works on this one.

A batch of one message says how many follow, and so a backlog is counted: nothing is made on the
server for it that would have to be removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from agent99.clock import TimerHandle
from agent99.errors import DeadlineExceededError, JournalError
from agent99.journal._api import StoredMessage, microseconds, rfc3339
from agent99.journal._client import JetStreamClient
from agent99.journal._grammar import check_name, check_pattern, check_start
from agent99.journal._headers import direct_fields, number_of, status_of
from agent99.journal._port_streams import Backlog, Record
from agent99.journal._streams import stream_info
from agent99.wire import Message

BATCH_MESSAGES_MAX = 10_000
BATCH_BYTES_MAX = 2 * 1024 * 1024
_SILENCE_S = 1.0
"""A batch that is silent for so long is broken off."""
_FOUND_NOTHING = 404
_END_OF_BATCH = 204
_NOBODY = 503


class Direct(msgspec.Struct, gc=False):
    """One message of a batch."""

    subject: str
    sequence: int
    payload: bytes
    headers: bytes
    stored: bytes


class _Batch:
    """One request and what came of it.

    Invariant: `messages` is an unbroken part of what the server holds, from the sequence asked for.
    """

    def __init__(
        self,
        client: JetStreamClient,
        stream: str,
        pattern: str,
        sequence: int,
        messages_max: int = BATCH_MESSAGES_MAX,
    ) -> None:
        self.messages: list[Direct] = []
        self.left: int | None = None
        """What the server has behind the messages, once it has sent them all: None until then."""
        self.nobody = False
        self._client = client
        self._last = 0
        self._heard_s = client.clock.monotonic_s()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: TimerHandle = client.clock.call_later(_SILENCE_S, self._check_silence)
        self._inbox = client.wire.open_inbox(self._receive)
        request = {
            "seq": sequence,
            "batch": messages_max,
            "max_bytes": BATCH_BYTES_MAX,
            "next_by_subj": pattern,
        }
        try:
            client.wire.publish(
                b"$JS.API.DIRECT.GET." + stream.encode(),
                msgspec.json.encode(request),
                reply=self._inbox,
                deadline_s=self._heard_s + _SILENCE_S,
            )
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"_Batch(messages={len(self.messages)}, left={self.left})"

    @property
    def complete(self) -> bool:
        """Tell whether the server has no more for now."""
        return self.left == 0

    async def wait(self) -> None:
        """Wait until the batch has ended, well or not."""
        await self._done

    def close(self) -> None:
        """Take no more."""
        self._client.wire.close_inbox(self._inbox)
        self._timer.cancel()
        if not self._done.done():
            self._done.set_result(None)

    def _receive(self, message: Message) -> None:
        self._heard_s = self._client.clock.monotonic_s()
        headers = message.headers
        status = status_of(headers)
        if status:
            self._end(status, headers)
            self.close()
            return
        try:
            fields = direct_fields(headers)
        except ValueError:
            return  # no message of a stream's: somebody else wrote to the inbox
        if fields.previous != self._last:
            self.close()  # a hole: what came so far is good, the rest is asked for again
            return
        self._last = fields.sequence
        self.messages.append(
            Direct(fields.subject, fields.sequence, message.payload, headers, fields.stored)
        )

    def _end(self, status: int, headers: bytes) -> None:
        """Note why no more comes."""
        self.nobody = status == _NOBODY
        if status == _FOUND_NOTHING:
            self.left = 0
        elif status == _END_OF_BATCH and number_of(headers, b"Nats-Last-Sequence") == self._last:
            self.left = number_of(headers, b"Nats-Num-Pending")

    def _check_silence(self) -> None:
        left_s = self._heard_s + _SILENCE_S - self._client.clock.monotonic_s()
        if left_s > 0:
            self._timer = self._client.clock.call_later(left_s, self._check_silence)
        else:
            self.close()


async def read_records(
    client: JetStreamClient,
    stream: str,
    subject: str,
    *,
    from_sequence: int,
    from_us: int | None,
) -> AsyncIterator[Record]:
    """Yield what the stream holds now; see `JetStreamJournal.read`."""
    check_name("stream", stream)
    check_pattern(subject)
    check_start(from_sequence, from_us)
    info = await stream_info(client, stream, deadline_s=client.deadline_s())
    last = info.state.last_seq
    alone = info.config.get("num_replicas", 1) == 1
    at = from_sequence
    if from_us is not None:
        first = await _from_time(client, stream, subject, from_us)
        at = last + 1 if first is None else first.seq
    while at <= last:
        async for batch in read_batches(client, stream, subject, from_sequence=at):
            at = batch[-1].sequence + 1
            for each in batch if at <= last + 1 else _up_to(last, batch):
                yield Record(each.subject, each.sequence, each.payload, microseconds(each.stored))
            if at > last:
                return
        # A replica that lags says "no more" too early; only the leader knows for certain.
        if alone:
            return
        left = await after(client, stream, subject, at - 1, deadline_s=client.deadline_s())
        if left is None or left.seq > last:
            return


async def count_backlog(
    client: JetStreamClient, stream: str, patterns: tuple[str, ...], from_sequence: int
) -> Backlog:
    """Count what the stream holds from a sequence on; see `JetStreamJournal.backlog`."""
    began_s = client.clock.monotonic_s()
    count = 0
    stored_us: list[int] = []
    for pattern in patterns:
        batch = await _first_of(client, stream, pattern, from_sequence, began_s)
        count += len(batch.messages) + (batch.left or 0)
        stored_us += [microseconds(first.stored) for first in batch.messages]
    return Backlog(count, min(stored_us, default=None))


async def after(
    client: JetStreamClient, stream: str, subject: str, sequence: int, *, deadline_s: float
) -> StoredMessage | None:
    """Return the first message past a sequence, as the leader has it.

    The server compares sequences before it looks for duplicates, so a repeated compare-and-set
    append is refused because of its own first copy: what follows the expected sequence tells.
    """
    request: dict[str, object] = {"seq": sequence + 1, "next_by_subj": subject}
    return await client.leader_get(stream, request, deadline_s=deadline_s)


async def _from_time(
    client: JetStreamClient, stream: str, subject: str, from_us: int
) -> StoredMessage | None:
    """Return the first message stored then or later, as the leader has it."""
    request: dict[str, object] = {"start_time": rfc3339(from_us), "next_by_subj": subject}
    return await client.leader_get(stream, request, deadline_s=client.deadline_s())


async def _first_of(
    client: JetStreamClient, stream: str, pattern: str, from_sequence: int, began_s: float
) -> _Batch:
    """Return a batch of the first message from a sequence on, once it has ended well."""
    while True:
        batch = _Batch(client, stream, pattern, from_sequence, messages_max=1)
        try:
            await batch.wait()
        finally:
            batch.close()
        if batch.complete or (batch.messages and batch.left is not None):
            return batch
        await _pause(client, stream, began_s, nobody=batch.nobody)


async def read_batches(
    client: JetStreamClient, stream: str, pattern: str, *, from_sequence: int
) -> AsyncIterator[list[Direct]]:
    """Yield the stream's messages, in order, each once, until the server has no more.

    Raises:
        StreamNotFoundError, JournalError: as `JetStreamClient.why_no_direct`.
        DeadlineExceededError: nothing came for the client's `timeout_s`.
        BufferFullError, ClosedError
    """
    progress_s = client.clock.monotonic_s()
    sequence = from_sequence
    batch = _Batch(client, stream, pattern, sequence)
    try:
        while True:
            await batch.wait()
            done = batch
            if done.messages:
                sequence = done.messages[-1].sequence + 1
                progress_s = client.clock.monotonic_s()
            elif not done.complete:
                await _pause(client, stream, progress_s, nobody=done.nobody)
            if not done.complete:
                batch = _Batch(client, stream, pattern, sequence)
            if done.messages:
                yield done.messages
                progress_s = client.clock.monotonic_s()
            if done.complete:
                return
    finally:
        batch.close()


async def _pause(client: JetStreamClient, stream: str, progress_s: float, *, nobody: bool) -> None:
    """Wait before a batch that brought nothing is asked for again."""
    trouble: JournalError | DeadlineExceededError
    if nobody:
        trouble = await client.why_no_direct(stream, client.deadline_s())
    else:
        trouble = DeadlineExceededError(f"stream {stream!r} did not answer a read in time")
    if client.clock.monotonic_s() - progress_s >= client.timeout_s:
        raise trouble
    await client.clock.sleep(0.05 + 0.05 * client.ids.fraction())


def _up_to(last: int, batch: list[Direct]) -> list[Direct]:
    return [each for each in batch if each.sequence <= last]
