"""A tail on JetStream: an ordered pull consumer that is thrown away at the first doubt.

The server numbers what it delivers without gaps and is asked for no more than there is room for, so
that memory is bounded without a word of flow control. When the link went away, a number is missing,
or the server is silent longer than its heartbeats allow, the tail makes a new consumer that begins
behind the last record that came. What came before is good and stays. There is no task here: a new
consumer is made when the reader comes for more.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
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
    UsageError,
)
from agent99.journal._api import API, ConsumerInfo, error_of, nanoseconds
from agent99.journal._client import JetStreamClient
from agent99.journal._port_streams import Record
from agent99.journal._pull import Pull
from agent99.journal._reply import Place
from agent99.journal._waiter import Waiter
from agent99.wire import ConnectionState, Message

UNREAD_BYTES_MAX = 4 * 1024 * 1024
"""With more unread than this the server is asked for nothing: one request's worth may come on top.
"""
_INACTIVE_S = 5.0
"""The server removes a consumer whose tail is gone without a word after this time."""
_PAUSE_S_MIN = 0.02
_PAUSE_S_MAX = 1.0
_TRY_S_MIN = 1.0


class JetStreamTail:
    """Reads one stream on and on.

    Invariant: `_unread` ends before `_next`, the sequence with which the consumer, or the next one,
    goes on; while `_lost` is empty, the server owes something or there is no room.
    """

    def __init__(
        self,
        client: JetStreamClient,
        stream: str,
        subjects: tuple[str, ...],
        *,
        from_sequence: int,
        prefetch_max: int,
        heartbeat_s: float,
    ) -> None:
        self._client = client
        self._stream = stream
        self._subjects = subjects
        self._next = from_sequence
        self._prefetch_max = prefetch_max
        self._heartbeat_s = heartbeat_s
        self._unread: deque[Record] = deque()
        self._unread_bytes = 0
        self._waiter = Waiter()
        self._pull: Pull | None = None
        self._consumer = ""
        self._number: int = 0
        self._timer: TimerHandle | None = None
        self._lost = "new"
        self._is_reading = False
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else self._lost or "reading"
        return f"JetStreamTail({self._stream!r}, next={self._next}, {state})"

    async def __aenter__(self) -> Self:
        self._client.listen(self._on_state)
        try:
            await self._start(self._client.timeout_s)
        except BaseException:
            self._close()
            raise
        self._watch()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    async def read(self, count_max: int) -> tuple[Record, ...]:
        """Return the next records: at least one, once there is one; see `Tail`."""
        if self._is_reading:
            raise UsageError("one task reads a tail")
        self._is_reading = True
        try:
            while not self._is_closed and not self._unread:
                if self._lost:
                    await self._restart()
                else:
                    await self._waiter.wait()
        finally:
            self._is_reading = False
        if self._is_closed:
            raise ClosedError("tail")
        return self._take_unread(count_max)

    def _take_unread(self, count_max: int) -> tuple[Record, ...]:
        unread = self._unread
        records = tuple(unread.popleft() for _ in range(min(count_max, len(unread))))
        self._unread_bytes -= sum(len(record.payload) for record in records)
        self.top_up()
        return records

    # --- what the consumer brings -----------------------------------------------------------------

    def take(self, message: Message, place: Place) -> None:
        """Take a message of the consumer's."""
        if self._lost:
            return
        if place.number != self._number + 1:
            self.lose("gap")
            return
        self._number = place.number
        self._next = place.sequence + 1
        subject = message.subject.decode("utf-8", "replace")
        self._unread.append(
            Record(subject, place.sequence, message.payload, place.stored_ns // 1000)
        )
        self._unread_bytes += len(message.payload)
        self._waiter.wake()
        if self._pull is not None and self._pull.owed == 0:
            self.top_up()

    def lose(self, reason: str, words: str = "") -> None:
        """Hear no more here: reading makes a new consumer."""
        if not self._lost:
            self._lost = f"{reason}: {words}" if words else reason
        self._discard()
        self._waiter.wake()

    def top_up(self) -> None:
        """Ask for as many as there is room for, where half of it is free or nothing is owed."""
        pull = self._pull
        if pull is None or self._unread_bytes > UNREAD_BYTES_MAX:
            return
        room = self._prefetch_max - len(self._unread) - pull.owed
        if 2 * room >= self._prefetch_max or (room > 0 and pull.owed == 0):
            try:
                pull.ask(room)
            except (BufferFullError, ClosedError):
                self.lose("buffer_full")

    # --- the consumer -----------------------------------------------------------------------------

    async def _start(self, timeout_s: float) -> None:
        """Make a consumer that begins behind what came."""
        self._discard()
        client = self._client
        self._consumer = client.ids.token().decode()
        self._number = 0
        try:
            answer = await client.call(
                f"CONSUMER.CREATE.{self._stream}.{self._consumer}",
                self._request(),
                ConsumerInfo,
                deadline_s=client.clock.monotonic_s() + timeout_s,
            )
        except BaseException:  # whether there is one is not known
            self._delete()
            raise
        if answer.error is not None:
            raise error_of(answer.error, f"stream {self._stream!r}")
        self._lost = ""
        self._pull = Pull(client, self._stream, self._consumer, self, heartbeat_s=self._heartbeat_s)
        self.top_up()

    def _request(self) -> dict[str, object]:
        return {
            "stream_name": self._stream,
            "config": {
                "name": self._consumer,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self._next,
                "filter_subjects": list(self._subjects),
                "ack_policy": "none",
                "replay_policy": "instant",
                "inactive_threshold": nanoseconds(_INACTIVE_S),
                "mem_storage": True,
                "num_replicas": 1,
            },
        }

    async def _restart(self) -> None:
        """Make a new consumer, patiently: the pauses grow until one try succeeds.

        Raises:
            ClosedError: the wire is closed.
            StreamNotFoundError, JournalError: it cannot be made, and that did not change in time.
            PermissionDeniedError, RemoteProtocolError
        """
        client = self._client
        give_up_s = client.clock.monotonic_s() + client.timeout_s
        pause_s, try_s = _PAUSE_S_MIN, _TRY_S_MIN
        while not self._is_closed:
            await client.wait_connected(self._waiter.wait, lambda: self._is_closed)
            await client.clock.sleep(client.ids.fraction() * pause_s)
            try:
                await self._start(try_s)
            except StreamNotFoundError:
                if client.clock.monotonic_s() >= give_up_s:
                    raise
            except JournalError as error:
                if error.server_code and client.clock.monotonic_s() >= give_up_s:
                    raise
            except (DeadlineExceededError, DisconnectedError, BufferFullError):
                pass  # not ready yet
            else:
                return
            pause_s = min(pause_s * 2, _PAUSE_S_MAX)
            try_s = min(try_s * 2, client.timeout_s)

    def _discard(self) -> None:
        """Hear no more of the consumer, and have it removed."""
        if self._pull is not None:
            self._pull.close()
            self._pull = None
            self._delete()

    def _delete(self) -> None:
        """Have the consumer removed; one of which the server does not hear goes by itself."""
        subject = API + f"CONSUMER.DELETE.{self._stream}.{self._consumer}".encode()
        with suppress(BufferFullError, ClosedError):
            self._client.wire.publish(subject, b"")

    # --- time and the link ------------------------------------------------------------------------

    def _on_state(self, state: ConnectionState) -> None:
        if state is not ConnectionState.CONNECTED:
            self.lose("link_lost")
        self._waiter.wake()

    def _watch(self) -> None:
        """Look whether the server was heard of lately; it sends heartbeats when it has no news."""
        if self._pull is not None and self._pull.is_silent():
            self.lose("silence")
        self.top_up()
        self._timer = self._client.clock.call_later(self._heartbeat_s, self._watch)

    def _close(self) -> None:
        self._is_closed = True
        self._client.unlisten(self._on_state)
        if self._timer is not None:
            self._timer.cancel()
        self._discard()
        self._waiter.wake()
