"""The way out: frames wait here until the end of the loop's turn, or until the link is back."""

from __future__ import annotations

import asyncio
import math
from asyncio import Future

from agent99.clock import Clock
from agent99.errors import BufferFullError, ClosedError
from agent99.wire._events import Events
from agent99.wire._futures import settle

_PIECE_BYTES = 262_144  # handed to the transport at a time, so that most of a backlog stays ours
_LINK_BOUND = -1.0  # the deadline of SUB, UNSUB, PING and PONG: worthless on another link


class Outbox:
    """Frames to be written, in order, one write per turn of the loop.

    Invariant: `_frames` and `_deadlines` have the same length; `_size` is the sum of the frames'
    lengths; `_is_due` is true when no call of `_flush` is under way and one would be of use.
    """

    def __init__(
        self, *, loop: asyncio.AbstractEventLoop, clock: Clock, events: Events, bytes_max: int
    ) -> None:
        self._messages_left = 0
        self._controls = 0  # among the frames that wait
        self.bytes_written = 0
        """Bytes handed to a transport so far."""
        self._loop = loop
        self._clock = clock
        self._events = events
        self._bytes_max = bytes_max
        self._frames: list[bytes] = []
        self._deadlines: list[float] = []
        self._size = 0
        self._transport: asyncio.WriteTransport | None = None
        self._is_paused = False
        self._is_due = False
        self._is_closed = False
        self._waiters: list[Future[None]] = []

    def __repr__(self) -> str:
        return f"Outbox(pending_bytes={self.pending_bytes}, attached={self._transport is not None})"

    @property
    def messages(self) -> int:
        """Messages queued so far, those that expired excluded."""
        return self._messages_left + len(self._frames) - self._controls

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be written, here and in the transport."""
        transport = self._transport
        return self._size + (0 if transport is None else transport.get_write_buffer_size())

    @property
    def is_paused(self) -> bool:
        """Whether the transport takes nothing at the moment."""
        return self._is_paused

    def push(self, frame: bytes, deadline_s: float) -> None:
        """Queue a message; `deadline_s` says until when it is worth sending.

        Raises:
            BufferFullError
        """
        size = self._size + len(frame)
        if size > self._bytes_max:
            size = self._make_room(len(frame))
        self._size = size
        self._frames.append(frame)
        self._deadlines.append(deadline_s)
        if self._is_due:
            self._is_due = False
            self._loop.call_soon(self._flush)

    def push_control(self, frame: bytes) -> None:
        """Queue what concerns this link alone; without a link it is dropped at once."""
        if self._transport is None:
            return
        self._size += len(frame)
        self._frames.append(frame)
        self._deadlines.append(_LINK_BOUND)
        self._controls += 1
        if self._is_due:
            self._is_due = False
            self._loop.call_soon(self._flush)

    def attach(self, transport: asyncio.WriteTransport, first: bytes) -> None:
        """Write to this link from now on: `first`, then what is still worth sending."""
        self.discard_expired()
        self._transport = transport
        self._is_paused = False
        self.bytes_written += len(first)
        transport.write(first)
        self._flush()

    def detach(self) -> None:
        """The link is gone: keep the messages, drop what concerned the link alone."""
        self._transport = None
        self._is_paused = False
        self._is_due = False
        self._keep_from(-math.inf)

    def pause(self, transport: asyncio.WriteTransport | None) -> None:
        """Take a transport's word that it is full; another link's does not matter."""
        if transport is self._transport:
            self._is_paused = True

    def resume(self, transport: asyncio.WriteTransport | None) -> None:
        """Take a transport's word that it has room again."""
        if transport is self._transport:
            self._is_paused = False
            self._flush()

    def flush_now(self) -> None:
        """Write what waits without waiting for the end of the loop's turn."""
        self._flush()

    def close(self) -> None:
        """Forget everything; whoever waits gets a `ClosedError`."""
        self.detach()
        self._is_closed = True
        self._frames.clear()
        self._deadlines.clear()
        self._size = 0
        self._wake()

    async def wait_writable(self) -> None:
        """Wait until less than half of the bound is waiting to be written.

        Raises:
            ClosedError
        """
        while not self._is_closed and self._size * 2 >= self._bytes_max:
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
        if self._is_closed:
            raise ClosedError("wire")

    def discard_expired(self) -> None:
        """Drop, and count, the messages whose deadline has passed."""
        before = len(self._frames)
        self._keep_from(self._clock.monotonic_s())
        if expired := before - len(self._frames):
            self._events.drop("expired", expired)

    def _keep_from(self, now: float) -> None:
        """Keep the messages with a deadline after `now`."""
        pairs = zip(self._frames, self._deadlines, strict=True)
        kept = [
            (frame, deadline)
            for frame, deadline in pairs
            if deadline != _LINK_BOUND and deadline > now
        ]
        self._frames = [frame for frame, _ in kept]
        self._deadlines = [deadline for _, deadline in kept]
        self._size = sum(map(len, self._frames))
        self._controls = 0
        self._wake()

    def _make_room(self, wanted_bytes: int) -> int:
        """Return the size with the new frame, after dropping what has expired on a dead link."""
        if self._transport is None:
            self.discard_expired()
        size = self._size + wanted_bytes
        if size > self._bytes_max:
            raise BufferFullError(self._size, self._bytes_max)
        return size

    def _flush(self) -> None:
        transport = self._transport
        if transport is None or self._is_paused:
            return
        self._is_due = True
        frames = self._frames
        if not frames:
            return
        if self._size > _PIECE_BYTES:
            self._flush_pieces(transport)
            return
        self.bytes_written += self._size
        self._size = 0
        self._count_left(len(frames))
        data = b"".join(frames)
        frames.clear()
        self._deadlines.clear()
        transport.write(data)
        if self._waiters:
            self._wake()

    def _flush_pieces(self, transport: asyncio.WriteTransport) -> None:
        """Write until the transport says stop; the rest stays here and keeps its deadlines."""
        frames, at = self._frames, 0
        while at < len(frames) and not self._is_paused:
            start, size = at, 0
            while at < len(frames) and size < _PIECE_BYTES:
                size += len(frames[at])
                at += 1
            self._size -= size
            self.bytes_written += size
            transport.write(b"".join(frames[start:at]))
        self._count_left(at)
        del frames[:at], self._deadlines[:at]
        self._is_due = not self._is_paused
        self._wake()

    def _count_left(self, count: int) -> None:
        """Count the first `count` frames as handed over."""
        if self._controls:
            controls = self._deadlines[:count].count(_LINK_BOUND)
            self._controls -= controls
            count -= controls
        self._messages_left += count

    def _wake(self) -> None:
        if self._size * 2 < self._bytes_max or self._is_closed:
            settle(self._waiters, None)
