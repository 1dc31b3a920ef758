"""Follow a bucket on JetStream: an ordered push consumer that is thrown away at the first doubt.

The consumer first sends the last message of every key, then each new one, numbered without gaps.
When the link went away, a number is missing, or the server is silent longer than its heartbeats
allow, the follower makes a new consumer and starts afresh with a snapshot. It has no task of its
own: it makes the new consumer when its reader comes for more.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from agent99.clock import TimerHandle
from agent99.errors import (
    BufferFullError,
    ClosedError,
    DeadlineExceededError,
    DisconnectedError,
    JournalError,
    StreamNotFoundError,
)
from agent99.journal._api import ConsumerInfo, error_of, nanoseconds
from agent99.journal._changes import ChangeQueue
from agent99.journal._client import JetStreamClient
from agent99.journal._headers import field_of, marker_of, number_of, status_of
from agent99.journal._port_buckets import Change, Entry, Snapshot
from agent99.journal._reply import read_reply
from agent99.wire import ConnectionState, Message, Subscription

JITTER_S_MAX = 1.0
"""Followers that lost the same server make their new consumers spread over this time."""
_JITTER_S_LATER = 8.0
"""The same for those whose tries fail: a server that has no room is not asked every second."""
_SILENCE_HEARTBEATS = 2.5
_INACTIVE_S = 5.0
"""The server removes a consumer whose follower is gone without a word after this time."""
_TRY_S_MIN = 1.0


class JetStreamFollower:
    """Follows the keys of one pattern.

    Invariant: while `_lost` is empty, there is one consumer, whose messages up to `_sequence` are
    in `_initial` (the snapshot is still coming), in the queue, or read; `_present` are the keys
    that the reader was, or will be, told of and that are still there.
    """

    def __init__(
        self,
        client: JetStreamClient,
        stream: str,
        *,
        prefix: str,
        pattern: str,
        heartbeat_s: float,
    ) -> None:
        self._client = client
        self._stream = stream
        self._prefix_size = len(prefix)
        self._subjects = prefix + pattern
        self._heartbeat_s = heartbeat_s
        self._queue = ChangeQueue()
        self._present: set[str] = set()
        self._initial: dict[str, Entry] | None = None
        self._consumer = ""
        self._sequence = 0
        self._subscription: Subscription | None = None
        self._timer: TimerHandle | None = None
        self._heard_s = 0.0
        self._lost = "new"
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else self._lost or "following"
        return f"JetStreamFollower({self._subjects!r}, {state})"

    async def __aenter__(self) -> Self:
        self._client.listen(self._on_state)
        try:
            await self._start(self._client.timeout_s)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Snapshot | Change:
        while not self._closed:
            if self._queue:
                return self._queue.pop()
            if self._lost:
                await self._restart()
            else:
                await self._queue.wait()
        raise StopAsyncIteration

    # --- the consumer -----------------------------------------------------------------------------

    async def _start(self, timeout_s: float) -> None:
        """Make a consumer; its messages arrive by `_receive`."""
        self._discard()
        client = self._client
        token = client.ids.token()
        inbox = b"_INBOX." + client.wire.sender + b"." + token
        self._consumer = token.decode()
        self._sequence = 0
        self._initial = {}
        self._present.clear()
        self._queue.clear()
        self._lost = ""
        self._heard_s = client.clock.monotonic_s()
        self._subscription = client.wire.subscribe(inbox, self._receive)
        try:
            answer = await client.call(
                f"CONSUMER.CREATE.{self._stream}.{self._consumer}",
                self._request(inbox.decode()),
                ConsumerInfo,
                deadline_s=client.clock.monotonic_s() + timeout_s,
            )
            if answer.error is not None:
                raise error_of(answer.error, f"stream {self._stream!r}")
        except BaseException:  # cancelled or refused: whether there is a consumer is not known
            self._lose("not created")
            raise
        if self._lost:
            return
        self._watch()
        if answer.num_pending == 0 and self._sequence == 0:
            self._finish_snapshot()

    def _request(self, inbox: str) -> dict[str, object]:
        return {
            "stream_name": self._stream,
            "config": {
                "name": self._consumer,
                "deliver_subject": inbox,
                "deliver_policy": "last_per_subject",
                "filter_subject": self._subjects,
                "ack_policy": "none",
                "max_deliver": 1,
                "flow_control": True,
                "idle_heartbeat": nanoseconds(self._heartbeat_s),
                "inactive_threshold": nanoseconds(_INACTIVE_S),
                "mem_storage": True,
                "num_replicas": 1,
            },
        }

    def _discard(self) -> None:
        """Hear no more of the consumer, and have it removed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._subscription is not None:
            self._subscription.unsubscribe()
            self._subscription = None
            self._send(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._consumer}".encode())

    def _send(self, subject: bytes) -> None:
        """Publish a bare signal; one that cannot be sent is one that the server can do without."""
        try:
            self._client.wire.publish(subject, b"")
        except (BufferFullError, ClosedError):
            self._lose("cannot write")

    def _close(self) -> None:
        self._closed = True
        self._client.unlisten(self._on_state)
        self._discard()
        self._queue.wake()

    # --- when in doubt, afresh --------------------------------------------------------------------

    def _lose(self, reason: str) -> None:
        if not self._lost:
            self._lost = reason
        self._discard()
        self._queue.wake()

    def _on_state(self, state: ConnectionState) -> None:
        if state is not ConnectionState.CONNECTED:
            self._lose("link lost")
        self._queue.wake()

    async def _restart(self) -> None:
        """Make a new consumer, patiently: tries grow longer until one succeeds.

        Raises:
            ClosedError: the wire is closed.
            StreamNotFoundError: the bucket is gone, and did not come back in time.
            PermissionDeniedError, RemoteProtocolError
        """
        client = self._client
        give_up_s = client.clock.monotonic_s() + client.timeout_s
        try_s = _TRY_S_MIN
        jitter_s = JITTER_S_MAX
        while not self._closed:
            await client.wait_connected(self._queue.wait, lambda: self._closed)
            await client.clock.sleep(client.ids.fraction() * jitter_s)
            try:
                await self._start(try_s)
            except StreamNotFoundError:
                if client.clock.monotonic_s() >= give_up_s:
                    raise
            except (JournalError, DeadlineExceededError, DisconnectedError, BufferFullError):
                pass  # not ready yet: the next try is longer
            else:
                return
            try_s = min(try_s * 2, client.timeout_s)
            jitter_s = min(jitter_s * 2, _JITTER_S_LATER)

    def _watch(self) -> None:
        """Look whether the server was heard of lately; it sends heartbeats when it has no news."""
        clock = self._client.clock
        left_s = self._heard_s + _SILENCE_HEARTBEATS * self._heartbeat_s - clock.monotonic_s()
        if left_s > 0:
            self._timer = clock.call_later(left_s, self._watch)
        else:
            self._timer = None
            self._lose("silence")

    # --- what arrives -----------------------------------------------------------------------------

    def _receive(self, message: Message) -> None:
        if self._lost:
            return
        self._heard_s = self._client.clock.monotonic_s()
        if status_of(message.headers):
            self._receive_control(message)
            return
        try:
            place = read_reply(message.reply)
        except ValueError:
            return  # no message of a consumer's: somebody else wrote to the inbox
        if place.consumer != self._consumer.encode():
            return
        if place.number != self._sequence + 1:
            self._lose("gap")
            return
        self._sequence = place.number
        self._take(message, place.sequence)
        if place.pending == 0:
            self._finish_snapshot()

    def _receive_control(self, message: Message) -> None:
        """Answer flow control; compare a heartbeat's count with ours."""
        if message.reply:
            self._send(message.reply)
            return
        stalled = field_of(message.headers, b"Nats-Consumer-Stalled")
        if stalled:
            self._send(stalled)
        if number_of(message.headers, b"Nats-Last-Consumer") != self._sequence:
            self._lose("gap")
        elif not stalled:
            self._finish_snapshot()  # idle: there is no more, whatever the count of pending said

    def _take(self, message: Message, revision: int) -> None:
        key = message.subject.decode()[self._prefix_size :]
        kind = marker_of(message.headers)
        if self._initial is not None:
            self._initial.pop(key, None)
            if kind == "put":
                self._initial[key] = Entry(key, message.payload, revision)
            return
        if kind == "put":
            self._present.add(key)
            change = Change("put", key, message.payload, revision)
        elif key in self._present:
            self._present.discard(key)
            change = Change(kind, key, b"", revision)
        else:
            return  # the notice that a deletion's own notice is gone: nothing changed
        if not self._queue.put_change(change):
            self._lose("overflow")

    def _finish_snapshot(self) -> None:
        if self._initial is None:
            return
        entries = tuple(self._initial.values())
        self._initial = None
        self._present.update(entry.key for entry in entries)
        self._queue.put_snapshot(Snapshot(entries))
