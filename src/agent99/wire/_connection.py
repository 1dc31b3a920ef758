"""The wire over NATS: one connection that comes back, and what is sent and received on it."""

from __future__ import annotations

import asyncio
import math
import warnings
from asyncio import Future
from collections.abc import Callable, Sequence

from agent99.clock import Clock
from agent99.errors import (
    BufferFullError,
    ClosedError,
    DeadlineExceededError,
    DisconnectedError,
    PayloadTooLargeError,
)
from agent99.ids import Ids
from agent99.wire._address import Address, parse_addresses
from agent99.wire._encoder import (
    SubjectChecker,
    check_header_block,
    check_pattern,
    check_queue,
    check_sender,
    encode_pub,
    encode_sub,
    encode_unsub,
)
from agent99.wire._events import Events
from agent99.wire._inbox import Inbox
from agent99.wire._keeper import Keeper
from agent99.wire._link import Link
from agent99.wire._options import ServerInfo, WireOptions
from agent99.wire._outbox import Outbox
from agent99.wire._port import ConnectionState, Message, Receive, WireStatistics
from agent99.wire._routes import Routes
from agent99.wire._subscription import OwnedSubscription

_CLOSE_TIMEOUT_S = 2.0
_FOREVER = math.inf


class NatsWire:
    """One connection to a NATS server or cluster; made by `open_wire`. See `Wire`.

    Invariant: once it is closing nothing more is queued.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        sender: bytes,
        clock: Clock,
        ids: Ids,
        options: WireOptions,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._sender = sender
        self._loop = loop
        self._is_closing = False
        subjects = SubjectChecker()
        self._known_subjects = subjects.known
        self._check_subject = subjects.check
        self._events = Events(loop, ConnectionState.CONNECTING)
        self._routes = Routes(self._events)
        self._outbox = Outbox(
            loop=loop, clock=clock, events=self._events, bytes_max=options.pending_bytes_max
        )
        self._push = self._outbox.push
        prefix = b"_INBOX.%b.%b." % (sender, ids.token()[:12])
        self._inbox = Inbox(prefix, clock=clock, ids=ids, loop=loop, events=self._events)
        self._routes.add(prefix + b"*", b"", self._inbox.receive)
        self._keeper = Keeper(
            addresses,
            clock=clock,
            ids=ids,
            options=options,
            parts=(self._events, self._routes, self._outbox, self._inbox),
        )

    def __repr__(self) -> str:
        return f"NatsWire({self._keeper.shown!r}, sender={self._sender!r}, {self.state.value})"

    def __del__(self) -> None:
        if self._events.state is ConnectionState.CLOSED:
            return
        warnings.warn(
            f"unclosed {self!r}: call aclose()", ResourceWarning, stacklevel=1, source=self
        )
        if not self._loop.is_closed():
            self._keeper.end(is_written=False)

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
        """The largest payload and header block together that the server takes, in bytes."""
        return self._keeper.payload_bytes_max

    @property
    def server(self) -> ServerInfo:
        """What the server last said of itself."""
        return self._keeper.info

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
        """Queue a message; see `Wire.publish`."""
        if self._is_closing:
            raise ClosedError("wire")
        if subject not in self._known_subjects:
            self._check_subject(subject)
        if reply and reply not in self._known_subjects:
            self._check_subject(reply)
        if headers or len(payload) > self._keeper.payload_bytes_max:
            self._check_content(headers, payload)
        if headers or reply:
            frame = encode_pub(subject, reply, headers, payload)
        else:  # an answer or an event: the hot path
            frame = b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)
        self._push(frame, _FOREVER if deadline_s is None else deadline_s)

    def request(
        self,
        subject: bytes,
        payload: bytes,
        *,
        deadline_s: float,
        headers: bytes = b"",
    ) -> Future[Message]:
        """Send a request and return the future of its first answer; see `Wire.request`."""
        if self._is_closing:
            raise ClosedError("wire")
        if subject not in self._known_subjects:
            self._check_subject(subject)
        if headers or len(payload) > self._keeper.payload_bytes_max:
            self._check_content(headers, payload)
        inbox = self._inbox
        token, future = inbox.expect(subject, deadline_s)
        if headers:
            frame = encode_pub(subject, inbox.prefix + token, headers, payload)
        else:  # `encode_pub`, spelled out: the hot path
            parts = (subject, inbox.prefix, token, len(payload), payload)
            frame = b"PUB %b %b%b %d\r\n%b\r\n" % parts
        try:
            self._push(frame, deadline_s)
        except BufferFullError:
            inbox.forget(token)
            raise
        return future

    async def wait_writable(self) -> None:
        """Wait until less than half of the buffer is waiting to be written; see `Wire`."""
        await self._outbox.wait_writable()

    async def flush(self, timeout_s: float = 5.0) -> None:
        """Wait until the server has processed everything so far; see `Wire.flush`."""
        if self._is_closing:
            raise ClosedError("wire")
        try:
            async with asyncio.timeout(timeout_s):
                await self._keeper.round_trip()
        except TimeoutError:
            raise DeadlineExceededError(
                f"the server did not confirm within {timeout_s:g} s"
            ) from None

    def _check_content(self, headers: bytes, payload: bytes) -> None:
        size = len(payload)
        if headers:
            check_header_block(headers)
            size += len(headers)
        if size > self._keeper.payload_bytes_max:
            raise PayloadTooLargeError("a message", size, self._keeper.payload_bytes_max)

    # --- receiving ---

    def subscribe(
        self, subject: bytes, receive: Receive, *, queue: bytes = b""
    ) -> OwnedSubscription:
        """Receive what is published to `subject`; see `Wire.subscribe`."""
        if self._is_closing:
            raise ClosedError("wire")
        check_pattern(subject)
        check_queue(queue)
        sid = self._routes.add(subject, queue, receive)
        self._outbox.push_control(encode_sub(subject, queue, sid))
        return OwnedSubscription(self, subject, sid)

    def open_inbox(self, receive: Receive) -> bytes:
        """Return a fresh reply subject; see `Wire.open_inbox`."""
        if self._is_closing:
            raise ClosedError("wire")
        return self._inbox.open(receive)

    def close_inbox(self, inbox: bytes) -> None:
        """Forget a reply subject. Idempotent."""
        self._inbox.close(inbox)

    def end_subscription(self, sid: bytes) -> None:
        """Deliver nothing more to a subscription."""
        if self._routes.forget_interest(sid):
            self._outbox.push_control(encode_unsub(sid))
        self._routes.remove(sid)

    async def drain_subscription(self, sid: bytes, timeout_s: float) -> None:
        """Stop the server sending, deliver what is under way, then end the subscription."""
        if self._routes.forget_interest(sid) is None:
            return
        self._outbox.push_control(encode_unsub(sid))
        link = self._keeper.link
        try:
            if link is not None:
                async with asyncio.timeout(timeout_s):
                    await link.ping()
        except TimeoutError:
            reason = f"the server did not confirm the end of a subscription within {timeout_s:g} s"
            raise DeadlineExceededError(reason) from None
        except DisconnectedError:
            pass  # the server has forgotten the subscription with the link: nothing more can come
        finally:
            self._routes.remove(sid)

    # --- what happens to it ---

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
        messages, size = self._keeper.received()
        return WireStatistics(
            messages_in=messages,
            messages_out=self._outbox.messages,
            bytes_in=size,
            bytes_out=self._outbox.bytes_written,
            reconnects=self._keeper.reconnects,
            pending_bytes=self._outbox.pending_bytes,
            dropped=dict(self._events.dropped),
        )

    async def aclose(self) -> None:
        """Write what is queued (within 2 s), then close. Idempotent."""
        link = self._keeper.link
        if not self._is_closing:
            self._is_closing = True
            self._keeper.stop_reconnecting()
            self._events.set_state(ConnectionState.DRAINING)
            is_written = False
            try:
                is_written = await self._write_out(link)
            finally:
                self._end(is_written=is_written)
        if link is not None:
            await asyncio.wait([link.ended])

    def abort(self) -> None:
        """Close at once: what is queued is lost. Idempotent."""
        self._is_closing = True
        self._end(is_written=False)

    async def connect_first(self) -> None:
        """Make the first link; called once, by `open_wire`.

        Raises:
            as `open_wire`.
        """
        try:
            await self._keeper.connect_first()
        except BaseException:
            self.abort()
            raise

    async def _write_out(self, link: Link | None) -> bool:
        """Return whether the server has confirmed everything that was queued, within 2 s."""
        if link is None:
            return False
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await link.ping()
        except (TimeoutError, DisconnectedError):
            return False
        return True

    def _end(self, *, is_written: bool) -> None:
        self._inbox.end_all()
        self._routes.clear()
        self._outbox.close()
        self._keeper.end(is_written=is_written)
        self._events.set_state(ConnectionState.CLOSED)


async def open_wire(
    urls: str | Sequence[str],
    *,
    sender: bytes,
    clock: Clock,
    ids: Ids,
    options: WireOptions | None = None,
) -> NatsWire:
    """Connect to a NATS server, or to the first of several that answers.

    Args:
        urls: `nats://user:password@host:port`, `nats://token@host:port`, `tls://…`; several as a
            sequence or separated by commas. User, password and token may be percent-encoded.
        sender: The connection's identity, one token.
        clock: Time.
        ids: Randomness, for inboxes and jitter.
        options: Bounds and behaviour.

    Raises:
        UsageError: a URL cannot be read.
        LocalProtocolError: `sender` is no single token.
        ServerUnavailableError: nobody answers within `connect_timeout_s` per address.
        AuthenticationError: the credential was refused.
        ServerVersionError: the server is older than 2.14.3.
        PermissionDeniedError: the server does not allow to receive answers.
    """
    addresses = parse_addresses(urls)
    check_sender(sender)
    wire = NatsWire(
        addresses, sender=sender, clock=clock, ids=ids, options=options or WireOptions()
    )
    await wire.connect_first()
    return wire
