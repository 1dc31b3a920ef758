"""The wire over NATS: one connection that comes back, and what is sent and received on it."""

from __future__ import annotations

import asyncio
import re
import warnings
import weakref
from asyncio import Future
from collections.abc import Callable, Sequence

from agent99.clock import Clock
from agent99.errors import (
    AuthenticationError,
    BufferFullError,
    ClosedError,
    DeadlineExceededError,
    DisconnectedError,
    LocalProtocolError,
    PayloadTooLargeError,
    PermissionDeniedError,
    ServerVersionError,
    TransportError,
)
from agent99.ids import Ids
from agent99.wire._address import Address, parse_addresses
from agent99.wire._dial import dial_first
from agent99.wire._encoder import (
    SubjectChecker,
    check_header_block,
    check_pattern,
    check_queue,
    encode_pub,
    encode_sub,
    encode_unsub,
)
from agent99.wire._events import Events
from agent99.wire._inbox import Inbox
from agent99.wire._link import Link
from agent99.wire._options import ServerInfo, WireOptions
from agent99.wire._outbox import Outbox
from agent99.wire._port import ConnectionState, Message, Receive, WireStatistics
from agent99.wire._routes import Routes
from agent99.wire._subscription import OwnedSubscription

_CLOSE_TIMEOUT_S = 2.0
_ADDRESSES_MAX = 64
_denied = re.compile(
    r'permissions violation for (publish to|publish with reply of|subscription to) "(.*?)"',
    re.IGNORECASE,
).search


class NatsWire:
    """One connection to a NATS server or cluster; made by `open_wire`. See `Wire`.

    Invariant: while the state is `CONNECTED` there is a link, and the outbox is attached to it.
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
        self._addresses = list(addresses)
        self._sender = sender
        self._clock = clock
        self._ids = ids
        self._options = options
        self._loop = loop
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closing = False
        self._up_waiters: list[Future[None]] = []
        self._reported = ""
        self._info = ServerInfo()
        self._payload_bytes_max = self._info.max_payload
        self._past_in = (0, 0)  # messages and bytes of the links before this one
        self._reconnects = 0
        self._subjects = SubjectChecker()
        self._events = Events(loop, ConnectionState.CONNECTING)
        self._routes = Routes(self._events)
        self._outbox = Outbox(
            loop=loop, clock=clock, events=self._events, bytes_max=options.pending_bytes_max
        )
        prefix = b"_INBOX.%b.%b." % (sender, ids.token())
        self._inbox = Inbox(prefix, clock=clock, ids=ids, loop=loop, events=self._events)
        self._routes.add(prefix + b"*", b"", self._inbox.receive)
        self._inbox_error: PermissionDeniedError | None = None

    def __repr__(self) -> str:
        where = self._link.address.shown if self._link else self._addresses[0].shown
        return f"NatsWire({where!r}, sender={self._sender!r}, {self.state.value})"

    def __del__(self) -> None:
        if self._events.state is ConnectionState.CLOSED:
            return
        warnings.warn(f"unclosed {self!r}: call aclose()", ResourceWarning, source=self)
        if self._link is not None and not self._loop.is_closed():
            self._link.abort()

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
        return self._payload_bytes_max

    @property
    def server(self) -> ServerInfo:
        """What the server last said of itself."""
        return self._info

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
        self._subjects.check(subject)
        if reply:
            self._subjects.check(reply)
        self._check_content(headers, payload)
        frame = encode_pub(subject, reply, headers, payload)
        self._outbox.push(frame, _FOREVER if deadline_s is None else deadline_s)

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
        self._subjects.check(subject)
        self._check_content(headers, payload)
        inbox = self._inbox
        token, future = inbox.expect(subject, deadline_s)
        try:
            self._outbox.push(
                encode_pub(subject, inbox.prefix + token, headers, payload), deadline_s
            )
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
                await self._round_trip()
        except TimeoutError:
            raise DeadlineExceededError(
                f"the server did not confirm within {timeout_s:g} s"
            ) from None

    def _check_content(self, headers: bytes, payload: bytes) -> None:
        size = len(payload)
        if headers:
            check_header_block(headers)
            size += len(headers)
        if size > self._payload_bytes_max:
            raise PayloadTooLargeError("a message", size, self._payload_bytes_max)

    async def _round_trip(self) -> None:
        while self._link is None or self.state is not ConnectionState.CONNECTED:
            waiter: Future[None] = self._loop.create_future()
            self._up_waiters.append(waiter)
            await waiter
            if self._is_closing:
                raise ClosedError("wire")
        try:
            await self._link.ping()
        except DisconnectedError:
            if self._is_closing:
                raise ClosedError("wire") from None
            raise

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
        if not self._routes.forget_interest(sid):
            return
        self._outbox.push_control(encode_unsub(sid))
        link = self._link
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

    def statistics(self) -> WireStatistics:
        """Return the counts so far."""
        messages, size = self._past_in
        if self._link is not None:
            messages, size = messages + self._link.messages_in, size + self._link.bytes_in
        return WireStatistics(
            messages_in=messages,
            messages_out=self._outbox.messages,
            bytes_in=size,
            bytes_out=self._outbox.bytes_written,
            reconnects=self._reconnects,
            pending_bytes=self._outbox.pending_bytes,
            dropped=dict(self._events.dropped),
        )

    async def aclose(self) -> None:
        """Write what is queued (within 2 s), then close. Idempotent."""
        link = self._link
        if self._is_closing:
            if link is not None:
                await asyncio.wait([link.ended])
            return
        self._is_closing = True
        if self._task is not None:
            self._task.cancel()
        self._events.set_state(ConnectionState.DRAINING)
        is_written = False
        try:
            if link is not None:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await link.ping()
                is_written = True
        except (TimeoutError, DisconnectedError):
            pass
        finally:
            self._end(is_written=is_written)
        if link is not None:
            await asyncio.wait([link.ended])

    def _end(self, *, is_written: bool) -> None:
        self._inbox.end_all()
        self._routes.clear()
        self._outbox.close()
        if self._link is not None and is_written:
            self._link.close()
        elif self._link is not None:
            self._link.abort()
        self._events.set_state(ConnectionState.CLOSED)
        self._wake()

    def _wake(self) -> None:
        waiters, self._up_waiters = self._up_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # --- the link ---

    async def connect_first(self) -> None:
        """Make the first link; called once, by `open_wire`.

        Raises:
            ServerUnavailableError, AuthenticationError, ServerVersionError, PermissionDeniedError
        """
        try:
            link = await dial_first(self._addresses, self._make_link, self._options)
            await self._adopt(link)
            if self._inbox_error is not None:
                raise self._inbox_error
        except BaseException:
            self._is_closing = True
            self._end(is_written=False)
            raise
        self._events.set_state(ConnectionState.CONNECTED)

    def link_info(self, link: Link, info: ServerInfo) -> None:
        """Follow the server's limits, learn its siblings, and leave one that is about to stop."""
        if link is not self._link or self._is_closing:
            return
        self._take_info(link, info)
        others = [address for address in self._addresses if address != link.address]
        if info.ldm and others and self._task is None:
            self._task = self._loop.create_task(self._move(link, others))

    def link_error(self, link: Link, text: str) -> None:
        """Tell whoever is concerned by the server's complaint."""
        found = _denied(text)
        if found is None:
            self._report_server(link, text)
            return
        action, subject = found.group(1).lower(), found.group(2).encode()
        if action == "publish to" and self._inbox.deny(subject):
            return
        if action == "publish with reply of" and self._inbox.deny_reply(subject):
            return
        action = action.replace("subscription", "subscribe")
        error = PermissionDeniedError(action, found.group(2))
        if action == "subscribe to" and subject == self._inbox.prefix + b"*":
            self._inbox_error = error
        self._events.report(error)

    def link_lost(self, link: Link, reason: Exception) -> None:
        """Keep what waits, and come back."""
        del reason
        if link is not self._link:
            return
        self._leave(link)
        if self._is_closing:
            return
        if self._task is None:
            self._task = self._loop.create_task(self._reconnect())
        self._events.set_state(ConnectionState.RECONNECTING)

    def _report_server(self, link: Link, text: str) -> None:
        lower = text.lower()
        if "authentication" in lower or "authorization" in lower:
            self._events.report(AuthenticationError(link.address.shown, text))
        elif "invalid" in lower or "unknown protocol" in lower or "violation" in lower:
            self._events.report(LocalProtocolError(f"the server refused what we sent: {text}"))
        else:
            self._events.report(TransportError(f"the server says: {text}"))

    def _make_link(self, address: Address) -> Link:
        return Link(
            address,
            deliver=self._routes.deliver,
            outbox=self._outbox,
            clock=self._clock,
            options=self._options,
        )

    def _take_info(self, link: Link, info: ServerInfo) -> None:
        self._info = info
        self._payload_bytes_max = info.max_payload
        for text in info.connect_urls:
            sibling = link.address.sibling(text)
            if sibling and sibling not in self._addresses:
                if len(self._addresses) < _ADDRESSES_MAX:
                    self._addresses.append(sibling)

    async def _adopt(self, link: Link) -> None:
        """Use a new link: restore the subscriptions, send what waited, wait for the server's word.

        Raises:
            DisconnectedError: it went away again.
        """
        if link.is_lost or link.transport is None:
            raise DisconnectedError("the link to the server went away")
        self._link = link
        self._take_info(link, link.info)
        link.establish(weakref.ref(self))
        self._outbox.attach(link.transport, self._routes.encode_all())
        await link.ping()

    def _leave(self, link: Link) -> None:
        messages, size = self._past_in
        self._past_in = (messages + link.messages_in, size + link.bytes_in)
        self._link = None
        self._outbox.detach()

    async def _reconnect(self) -> None:
        """Try for ever, with full jitter, until the server has confirmed a new link."""
        options, failures = self._options, 0
        while True:
            wait_s = options.reconnect_wait_s_min * 2**failures
            await self._clock.sleep(
                self._ids.fraction() * min(wait_s, options.reconnect_wait_s_max)
            )
            failures = min(failures + 1, 30)
            try:
                link = await dial_first(self._addresses, self._make_link, options)
                await self._adopt(link)
            except TransportError as error:
                self._report_once(error)
                continue
            self._arrive()
            return

    async def _move(self, old: Link, others: Sequence[Address]) -> None:
        """Leave a server that is about to stop for another one; stay if there is none."""
        try:
            link = await dial_first(others, self._make_link, self._options)
        except TransportError as error:
            self._task = None
            self._report_once(error)
            if self._link is None:
                self._task = self._loop.create_task(self._reconnect())
            return
        if self._link is old:
            self._outbox.flush_now()
            self._leave(old)
            old.close()
            self._events.set_state(ConnectionState.RECONNECTING)
        try:
            await self._adopt(link)
        except DisconnectedError:
            await self._reconnect()
            return
        self._arrive()

    def _arrive(self) -> None:
        self._task = None
        self._reported = ""
        self._reconnects += 1
        self._events.set_state(ConnectionState.CONNECTED)
        self._wake()

    def _report_once(self, error: TransportError) -> None:
        """Report what will not pass by waiting; not again for the same reason."""
        if isinstance(error, AuthenticationError | ServerVersionError):
            if str(error) != self._reported:
                self._reported = str(error)
                self._events.report(error)


_FOREVER = float("inf")


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
    SubjectChecker().check(sender)
    if b"." in sender:
        raise LocalProtocolError(f"{sender!r} is no single token")
    wire = NatsWire(
        addresses, sender=sender, clock=clock, ids=ids, options=options or WireOptions()
    )
    await wire.connect_first()
    return wire
