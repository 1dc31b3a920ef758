"""Keeps a link to some server: the first connect, reconnects for ever, servers that come and go."""

from __future__ import annotations

import asyncio
import re
from asyncio import Future
from collections.abc import Coroutine, Sequence
from typing import Any

from agent99.clock import Clock
from agent99.errors import (
    AuthenticationError,
    ClosedError,
    DisconnectedError,
    LocalProtocolError,
    PermissionDeniedError,
    ServerVersionError,
    TransportError,
)
from agent99.ids import Ids
from agent99.wire._address import Address
from agent99.wire._dial import dial_first
from agent99.wire._events import Events
from agent99.wire._futures import settle
from agent99.wire._inbox import Inbox
from agent99.wire._link import Link
from agent99.wire._options import ServerInfo, WireOptions
from agent99.wire._outbox import Outbox
from agent99.wire._port import ConnectionState
from agent99.wire._routes import Routes

_ADDRESSES_MAX = 64
_DOUBLINGS_MAX = 30

_denied = re.compile(
    r'permissions violation for (publish to|publish with reply of|subscription to) "(.*?)"',
    re.IGNORECASE,
).search


class Keeper:
    """The changing part of a connection: which link there is, and what to do when it goes away.

    Invariant: while the state is `CONNECTED` there is a link and the outbox is attached to it;
    while it is `RECONNECTING` there is a task that ends it.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        clock: Clock,
        ids: Ids,
        options: WireOptions,
        parts: tuple[Events, Routes, Outbox, Inbox],
    ) -> None:
        self.info = ServerInfo()
        """What the server last said of itself."""
        self.payload_bytes_max = self.info.max_payload
        self.reconnects = 0
        self.link: Link | None = None
        self._addresses = list(addresses)
        self._clock = clock
        self._ids = ids
        self._options = options
        self._events, self._routes, self._outbox, self._inbox = parts
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._waiters: list[Future[None]] = []
        self._past_in = (0, 0)  # messages and bytes of the links before this one
        self._reported = ""
        self._inbox_error: PermissionDeniedError | None = None

    def __repr__(self) -> str:
        return f"Keeper({self.shown!r}, reconnects={self.reconnects})"

    @property
    def shown(self) -> str:
        """The address of the server, without the credential."""
        return (self.link.address if self.link else self._addresses[0]).shown

    def received(self) -> tuple[int, int]:
        """Return how many messages and bytes arrived over all links."""
        messages, size = self._past_in
        if self.link is not None:
            messages, size = messages + self.link.messages_in, size + self.link.bytes_in
        return messages, size

    # --- what the wire calls ---

    async def connect_first(self) -> None:
        """Make the first link.

        Raises:
            ServerUnavailableError, AuthenticationError, ServerVersionError
            PermissionDeniedError: the server does not allow to receive answers.
        """
        await self._adopt(await dial_first(self._addresses, self._make_link, self._options))
        if self._inbox_error is not None:
            raise self._inbox_error
        self._events.set_state(ConnectionState.CONNECTED)

    async def round_trip(self) -> None:
        """Wait for a link if there is none, then until the server has handled everything so far.

        Raises:
            DisconnectedError: the link went away in the meantime.
            ClosedError
        """
        while self.link is None or self._events.state is not ConnectionState.CONNECTED:
            waiter: Future[None] = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter
            if self._is_stopped:
                raise ClosedError("wire")
        try:
            await self.link.ping()
        except DisconnectedError:
            if self._is_stopped:
                raise ClosedError("wire") from None
            raise

    def stop_reconnecting(self) -> None:
        """Let the link be the last one."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()
        settle(self._waiters, None)

    def end(self, *, is_written: bool) -> None:
        """End the link: after what the transport still has, or at once."""
        self.stop_reconnecting()
        if self.link is not None and is_written:
            self.link.close()
        elif self.link is not None:
            self.link.abort()

    # --- what the link calls ---

    def link_info(self, link: Link, info: ServerInfo) -> None:
        """Follow the server's limits, learn its siblings, and leave one that is about to stop."""
        if link is not self.link or self._is_stopped:
            return
        self._take_info(link, info)
        others = [address for address in self._addresses if address != link.address]
        if info.ldm and others and self._task is None:
            self._start(self._move(link, others))

    def link_error(self, link: Link, text: str) -> None:
        """Tell whoever is concerned by the server's complaint."""
        found = _denied(text)
        if found is not None:
            self._deny(found.group(1).lower(), found.group(2))
            return
        lower = text.lower()
        if "authentication" in lower or "authorization" in lower:
            self._events.report(AuthenticationError(link.address.shown, text))
        elif "invalid" in lower or "unknown protocol" in lower or "violation" in lower:
            self._events.report(LocalProtocolError(f"the server refused what we sent: {text}"))
        else:
            self._events.report(TransportError(f"the server says: {text}"))

    def link_lost(self, link: Link) -> None:
        """Keep what waits, and come back."""
        if link is not self.link:
            return
        self._leave()
        if self._is_stopped:
            return
        if self._task is None:
            self._start(self._reconnect())
        self._events.set_state(ConnectionState.RECONNECTING)

    # --- inside ---

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a task bring the link back; one that fails is reported and started again."""

        def check(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is None or self._is_stopped:
                return
            # A bug of ours, or of a clock's: without this the wire would be deaf from now on.
            self._events.report(RuntimeError(f"reconnecting failed: {error!r}"))
            self._task = None
            self._loop.call_later(self._options.reconnect_wait_s_max, self._restart)

        self._task = self._loop.create_task(work)
        self._task.add_done_callback(check)

    def _restart(self) -> None:
        if self.link is None and self._task is None and not self._is_stopped:
            self._start(self._reconnect())

    def _deny(self, action: str, subject: str) -> None:
        if action == "publish to" and self._inbox.deny(subject.encode()):
            return
        if action == "publish with reply of" and self._inbox.deny_reply(subject.encode()):
            return
        error = PermissionDeniedError(action.replace("subscription", "subscribe"), subject)
        if action == "subscription to" and subject.encode() == self._inbox.prefix + b"*":
            self._inbox_error = error
        self._events.report(error)

    def _make_link(self, address: Address) -> Link:
        return Link(
            address,
            routes=self._routes,
            events=self._events,
            outbox=self._outbox,
            clock=self._clock,
            options=self._options,
        )

    def _take_info(self, link: Link, info: ServerInfo) -> None:
        self.info = info
        self.payload_bytes_max = info.max_payload
        for text in info.connect_urls:
            sibling = link.address.sibling(text)
            if sibling is None or sibling in self._addresses:
                continue
            if len(self._addresses) < _ADDRESSES_MAX:
                self._addresses.append(sibling)

    async def _adopt(self, link: Link) -> None:
        """Use a new link: restore the subscriptions, send what waited, wait for the server's word.

        Raises:
            DisconnectedError: it went away again.
        """
        if link.is_lost or link.transport is None:
            raise DisconnectedError("the link to the server went away")
        self.link = link
        self._take_info(link, link.info)
        link.establish(self)
        self._outbox.attach(link.transport, self._routes.encode_all())
        await link.ping()

    def _leave(self) -> None:
        self._past_in = self.received()
        self.link = None
        self._outbox.detach()

    async def _reconnect(self) -> None:
        """Try for ever, with full jitter, until the server has confirmed a new link.

        Only the first attempt may come at once: a thousand clients that hammer delay each other.
        """
        options, failures = self._options, 0
        while True:
            wait_s = min(options.reconnect_wait_s_min * 2**failures, options.reconnect_wait_s_max)
            least_s = min(options.reconnect_wait_s_min, wait_s) if failures else 0.0
            await self._clock.sleep(least_s + self._ids.fraction() * (wait_s - least_s))
            failures = min(failures + 1, _DOUBLINGS_MAX)
            try:
                await self._adopt(await dial_first(self._addresses, self._make_link, self._options))
            except TransportError as error:
                self._report_once(error)
            else:
                self._arrive()
                return

    async def _move(self, old: Link, others: Sequence[Address]) -> None:
        """Leave a server that is about to stop for another one; stay if there is none."""
        try:
            link = await dial_first(others, self._make_link, self._options)
        except TransportError as error:
            self._task = None
            self._report_once(error)
            if self.link is None:  # it stopped while we looked around
                self._start(self._reconnect())
            return
        if self.link is old:
            self._outbox.flush_now()
            self._leave()
            old.close()
            self._events.set_state(ConnectionState.RECONNECTING)
        try:
            await self._adopt(link)
        except DisconnectedError:
            await self._reconnect()
        else:
            self._arrive()

    def _arrive(self) -> None:
        self._task = None
        self._reported = ""
        self.reconnects += 1
        self._events.set_state(ConnectionState.CONNECTED)
        settle(self._waiters, None)

    def _report_once(self, error: TransportError) -> None:
        """Report what will not pass by waiting; not again for the same reason."""
        is_lasting = isinstance(error, AuthenticationError | ServerVersionError)
        if is_lasting and str(error) != self._reported:
            self._reported = str(error)
            self._events.report(error)
