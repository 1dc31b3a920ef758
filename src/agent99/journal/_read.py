"""Read a stream by batched direct gets: quick, exact, and without a consumer on the server.

The server sends a batch of messages to one inbox and then says how many are left. Each message
names the one before it, so a hole shows; a batch that breaks off is asked for again from the first
message that is missing. The next batch is under way while the reader works on this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from agent99.clock import TimerHandle
from agent99.errors import DeadlineExceededError, JournalError
from agent99.journal._client import JetStreamClient
from agent99.journal._headers import direct_fields, number_of, status_of
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

    def __init__(self, client: JetStreamClient, stream: str, pattern: str, sequence: int) -> None:
        self.messages: list[Direct] = []
        self.complete = False
        """The server has no more for now."""
        self.nobody = False
        self._client = client
        self._last = 0
        self._heard_s = client.clock.monotonic_s()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._timer: TimerHandle = client.clock.call_later(_SILENCE_S, self._check_silence)
        self._inbox = client.wire.open_inbox(self._receive)
        request = {
            "seq": sequence,
            "batch": BATCH_MESSAGES_MAX,
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
        return f"_Batch(messages={len(self.messages)}, complete={self.complete})"

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
            self.nobody = status == _NOBODY
            self.complete = status == _FOUND_NOTHING or (
                status == _END_OF_BATCH
                and number_of(headers, b"Nats-Num-Pending") == 0
                and number_of(headers, b"Nats-Last-Sequence") == self._last
            )
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

    def _check_silence(self) -> None:
        left_s = self._heard_s + _SILENCE_S - self._client.clock.monotonic_s()
        if left_s > 0:
            self._timer = self._client.clock.call_later(left_s, self._check_silence)
        else:
            self.close()


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
