"""The wire in memory: one event loop, no sockets, the same order for the same ids."""

from __future__ import annotations

import asyncio
import math
from asyncio import Future
from collections.abc import Callable

from agent99.clock import Clock
from agent99.errors import (
    BufferFullError,
    ClosedError,
    DisconnectedError,
    PayloadTooLargeError,
)
from agent99.ids import Ids
from agent99.wire._encoder import (
    SubjectChecker,
    check_header_block,
    check_pattern,
    check_queue,
    check_sender,
)
from agent99.wire._events import Events
from agent99.wire._futures import settle, within
from agent99.wire._inbox import Inbox
from agent99.wire._port import ConnectionState, Message, Receive, WireStatistics
from agent99.wire._routes import Routes
from agent99.wire._subscription import OwnedSubscription
from agent99.wire._switchboard import Switchboard


class MemoryBroker:
    """What a server is to the real wire: connect to it, and everybody connected can meet.

    Deterministic: who gets a message is settled when it is published; it is delivered by the event
    loop's next turn (`call_soon`), first in, first out over the whole broker; members of queue
    groups are drawn by `ids.fraction()`.
    """

    def __init__(self, *, ids: Ids, clock: Clock, payload_bytes_max: int = 1_048_576) -> None:
        self.payload_bytes_max = payload_bytes_max
        """The largest payload and header block together, in bytes."""
        self._ids = ids
        self._clock = clock
        self._switchboard = Switchboard(ids.fraction)

    def __repr__(self) -> str:
        return f"MemoryBroker({self._switchboard!r})"

    def connect(self, sender: bytes, *, pending_bytes_max: int = 8 * 1_048_576) -> MemoryWire:
        """Return a connected wire; call it on the running event loop.

        Raises:
            LocalProtocolError: `sender` is no single token.
        """
        check_sender(sender)
        return MemoryWire(
            self._switchboard,
            sender,
            ids=self._ids,
            clock=self._clock,
            payload_bytes_max=self.payload_bytes_max,
            pending_bytes_max=pending_bytes_max,
        )


class MemoryWire:
    """One connection to a `MemoryBroker`. See `Wire`.

    Invariant: the switchboard knows its interests if and only if the state is `CONNECTED` or
    `DRAINING`; `_waiting` is empty then.
    """

    def __init__(
        self,
        switchboard: Switchboard,
        sender: bytes,
        *,
        ids: Ids,
        clock: Clock,
        payload_bytes_max: int,
        pending_bytes_max: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._switchboard = switchboard
        self._sender = sender
        self._clock = clock
        self._loop = loop
        self._payload_bytes_max = payload_bytes_max
        self._pending_bytes_max = pending_bytes_max
        self._link = 0  # grows with each cut: what was on its way to the old link is lost
        self._is_closing = False
        self._waiting: list[tuple[Message, float]] = []
        self._pending_bytes = 0
        self._markers: list[Future[None]] = []
        self._ups: list[Future[None]] = []
        self._counts = {"in": 0, "out": 0, "bytes_in": 0, "bytes_out": 0, "reconnects": 0}
        self._subjects = SubjectChecker()
        self._events = Events(loop, ConnectionState.CONNECTED)
        self._routes = Routes(self._events)
        prefix = b"_INBOX.%b.%b." % (sender, ids.token()[:12])
        self._inbox = Inbox(prefix, clock=clock, ids=ids, loop=loop, events=self._events)
        self._subscribe(prefix + b"*", b"", self._inbox.receive)

    def __repr__(self) -> str:
        return f"MemoryWire(sender={self._sender!r}, {self.state.value})"

    @property
    def sender(self) -> bytes:
        """The connection's identity, one token."""
        return self._sender

    @property
    def state(self) -> ConnectionState:
        """Where the connection stands."""
        return self._events.state

    @property
    def payload_bytes_max(self) -> int:
        """The largest payload and header block together, in bytes."""
        return self._payload_bytes_max

    # --- sending ---

    def publish(
        self,
        subject: bytes,
        payload: bytes,
        *,
        reply: bytes = b"",
        headers: bytes = b"",
        deadline_s: float | None = None,
    ) -> None:
        """Send a message; see `Wire.publish`."""
        self._check(subject, payload, headers)
        if reply:
            self._subjects.check(reply)
        deadline_s = math.inf if deadline_s is None else deadline_s
        self._send(Message(subject, reply, payload, headers), deadline_s)

    def request(
        self, subject: bytes, payload: bytes, *, deadline_s: float, headers: bytes = b""
    ) -> Future[Message]:
        """Send a request and return the future of its first answer; see `Wire.request`."""
        self._check(subject, payload, headers)
        inbox = self._inbox
        token, future = inbox.expect(subject, deadline_s)
        try:
            self._send(Message(subject, inbox.prefix + token, payload, headers), deadline_s)
        except BufferFullError:
            inbox.forget(token)
            raise
        return future

    async def wait_writable(self) -> None:
        """Wait until less than half of the buffer is waiting; see `Wire`."""
        self._check_open()
        while self._pending_bytes * 2 >= self._pending_bytes_max:
            await self._wait_up()

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until everything published so far has been delivered; see `Wire.flush`."""
        self._check_open()
        deadline_s = self._clock.monotonic_s() + timeout_s
        while self.state is not ConnectionState.CONNECTED:
            await within(self._clock, self._wait_up(), deadline_s)
        await within(self._clock, self._marker(), deadline_s)

    def _check(self, subject: bytes, payload: bytes, headers: bytes) -> None:
        self._check_open()
        if subject not in self._subjects.known:
            self._subjects.check(subject)
        if headers:
            check_header_block(headers)
        size = len(payload) + len(headers)
        if size > self.payload_bytes_max:
            raise PayloadTooLargeError("a message", size, self.payload_bytes_max)

    def _check_open(self) -> None:
        if self._is_closing:
            raise ClosedError("wire")

    def _send(self, message: Message, deadline_s: float) -> None:
        if self.state is ConnectionState.RECONNECTING:
            self._keep(message, deadline_s)
        else:
            self._counts["bytes_out"] += _size(message)
            self._switchboard.send(self, message)
        self._counts["out"] += 1

    def _keep(self, message: Message, deadline_s: float) -> None:
        """Keep a message until the link is back.

        Raises:
            BufferFullError
        """
        if self._pending_bytes + _size(message) > self._pending_bytes_max:
            self._discard_expired()
        if self._pending_bytes + _size(message) > self._pending_bytes_max:
            raise BufferFullError(self._pending_bytes, self._pending_bytes_max)
        self._pending_bytes += _size(message)
        self._waiting.append((message, deadline_s))

    def _discard_expired(self) -> None:
        now = self._clock.monotonic_s()
        kept = [entry for entry in self._waiting if entry[1] > now]
        expired = len(self._waiting) - len(kept)
        if expired:
            self._events.drop("expired", expired)
        self._counts["out"] -= expired
        self._waiting = kept
        self._pending_bytes = sum(_size(message) for message, _ in kept)

    # --- receiving ---

    def subscribe(
        self, subject: bytes, receive: Receive, *, queue: bytes = b""
    ) -> OwnedSubscription:
        """Receive what is published to `subject`; see `Wire.subscribe`."""
        self._check_open()
        check_pattern(subject)
        check_queue(queue)
        return OwnedSubscription(self, subject, self._subscribe(subject, queue, receive))

    def open_inbox(self, receive: Receive) -> bytes:
        """Return a fresh reply subject; see `Wire.open_inbox`."""
        self._check_open()
        return self._inbox.open(receive)

    def close_inbox(self, inbox: bytes) -> None:
        """Forget a reply subject. Idempotent."""
        self._inbox.close(inbox)

    def end_subscription(self, sid: bytes) -> None:
        """Deliver nothing more to a subscription."""
        self._forget_interest(sid)
        self._routes.remove(sid)

    async def drain_subscription(self, sid: bytes, timeout_s: float) -> None:
        """Take no new messages for a subscription, deliver what is under way, then end it."""
        if not self._forget_interest(sid):
            return
        try:
            if self.state is ConnectionState.CONNECTED:
                await within(self._clock, self._marker(), self._clock.monotonic_s() + timeout_s)
        except DisconnectedError:
            pass  # nothing more can come
        finally:
            self._routes.remove(sid)

    def delivery(self, sid: bytes, message: Message) -> Callable[[], None]:
        """Return the call that delivers a message, if the link of now still stands then."""
        link = self._link

        def deliver() -> None:
            if link != self._link:
                return
            self._counts["in"] += 1
            self._counts["bytes_in"] += _size(message)
            receive = self._routes.find(sid) or self._routes.count_unrouted
            try:
                receive(Message(message.subject, message.reply, message.payload, message.headers))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - user code
                self._events.report_receiver(error)

        return deliver

    def _subscribe(self, pattern: bytes, queue: bytes, receive: Receive) -> bytes:
        sid = self._routes.add(pattern, queue, receive)
        if self.state is ConnectionState.CONNECTED:
            self._switchboard.add_interest(pattern, queue, (self, sid))
        return sid

    def _forget_interest(self, sid: bytes) -> bool:
        interest = self._routes.forget_interest(sid)
        if interest is not None:
            self._switchboard.remove_interest(interest.pattern, (self, sid))
        return interest is not None

    # --- what happens to it ---

    def cut(self) -> None:
        """Simulate the loss of the link: what is on its way to this wire is lost."""
        if self.state is not ConnectionState.CONNECTED:
            return
        self._leave(DisconnectedError("the link was cut"))
        self._events.set_state(ConnectionState.RECONNECTING)

    def restore(self) -> None:
        """Simulate a reconnect: subscriptions first, then what waited and has not expired."""
        if self.state is not ConnectionState.RECONNECTING:
            return
        self._counts["reconnects"] += 1
        for sid, interest in self._routes.interests():
            self._switchboard.add_interest(interest.pattern, interest.queue, (self, sid))
        self._discard_expired()
        waiting, self._waiting, self._pending_bytes = self._waiting, [], 0
        for message, _ in waiting:
            self._counts["bytes_out"] += _size(message)
            self._switchboard.send(self, message)
        self._events.set_state(ConnectionState.CONNECTED)
        settle(self._ups, None)

    def on_state(self, listen: Callable[[ConnectionState], None]) -> None:
        """Call `listen` at each change of state."""
        self._events.on_state(listen)

    def on_error(self, listen: Callable[[Exception], None]) -> None:
        """Call `listen` with what is reported out of turn."""
        self._events.on_error(listen)

    def on_drop(self, listen: Callable[[str, int], None]) -> None:
        """Call `listen` with each drop: its reason, and of how many messages."""
        self._events.on_drop(listen)

    def statistics(self) -> WireStatistics:
        """Return the counts so far."""
        return WireStatistics(
            messages_in=self._counts["in"],
            messages_out=self._counts["out"],
            bytes_in=self._counts["bytes_in"],
            bytes_out=self._counts["bytes_out"],
            reconnects=self._counts["reconnects"],
            pending_bytes=self._pending_bytes,
            dropped=dict(self._events.dropped),
        )

    async def aclose(self) -> None:
        """Deliver what was sent, then close. Idempotent."""
        if self._is_closing:
            return
        self._is_closing = True
        was_up = self.state is ConnectionState.CONNECTED
        self._events.set_state(ConnectionState.DRAINING)
        try:
            if was_up:
                await self._marker()
        except (DisconnectedError, ClosedError):  # cut, or aborted meanwhile
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Close at once: what is queued is lost. Idempotent."""
        self._is_closing = True
        self._inbox.end_all()
        self._leave(ClosedError("wire"))
        self._routes.clear()
        settle(self._ups, ClosedError("wire"))
        self._events.set_state(ConnectionState.CLOSED)

    def _leave(self, reason: Exception) -> None:
        self._link += 1
        for sid, interest in self._routes.interests():
            self._switchboard.remove_interest(interest.pattern, (self, sid))
        settle(self._markers, reason)

    def _marker(self) -> Future[None]:
        """Return a future that is done after everything that the broker has queued by now."""
        marker: Future[None] = self._loop.create_future()
        self._markers.append(marker)

        def pass_by() -> None:
            if marker in self._markers:
                self._markers.remove(marker)
                if not marker.done():
                    marker.set_result(None)

        self._switchboard.enqueue(pass_by)
        return marker

    def _wait_up(self) -> Future[None]:
        """Return a future that is done when the link is back, or fails when the wire closes."""
        up: Future[None] = self._loop.create_future()
        self._ups.append(up)
        return up


def _size(message: Message) -> int:
    """Return what the message would take on a real wire, roughly."""
    return sum(map(len, (message.subject, message.reply, message.headers, message.payload)))
