"""One TCP connection to a server: handshake, pings, and the end of it. Never comes back to life."""

from __future__ import annotations

import asyncio
import re
from asyncio import Future
from collections import deque
from typing import Protocol, cast

import msgspec

from agent99.clock import Clock, TimerHandle
from agent99.errors import (
    AuthenticationError,
    DisconnectedError,
    RemoteProtocolError,
    ServerUnavailableError,
    TransportError,
)
from agent99.wire._address import Address
from agent99.wire._encoder import PING, PONG
from agent99.wire._events import Events
from agent99.wire._options import ServerInfo, WireOptions, decode_server_info
from agent99.wire._outbox import Outbox
from agent99.wire._parser import Parser, frame_bytes_max
from agent99.wire._routes import Routes

_WRITE_BUFFER_BYTES_MAX = 262_144
_PONGS_MAX = 65_536
_is_authentication = re.compile(
    r"authorization violation|authentication (?:timeout|expired|revoked)", re.IGNORECASE
).search


class LinkOwner(Protocol):
    """Who uses an established link."""

    def link_info(self, link: Link, info: ServerInfo) -> None:
        """The server tells about itself again."""

    def link_error(self, link: Link, text: str) -> None:
        """The server complains (`-ERR`, without the quotes)."""

    def link_lost(self, link: Link) -> None:
        """The link is gone."""


class Link(asyncio.Protocol):
    """The protocol of one connection.

    Invariant: `_pongs` has one entry for every PING that was queued and not answered, in order;
    None for a PING that nobody waits for.
    """

    def __init__(
        self,
        address: Address,
        *,
        routes: Routes,
        events: Events,
        outbox: Outbox,
        clock: Clock,
        options: WireOptions,
    ) -> None:
        self.address = address
        self.info = ServerInfo()
        self.bytes_in = 0
        self.parser = Parser(
            routes.find,
            self._control,
            unrouted=routes.count_unrouted,
            failed=events.report_receiver,
        )
        loop = asyncio.get_running_loop()
        self.first_info: Future[None] = loop.create_future()
        """Done when INFO has arrived."""
        self.first_pong: Future[None] = loop.create_future()
        """Done when the server has accepted us."""
        self.ended: Future[None] = loop.create_future()
        """Done when the link is gone."""
        self.transport: asyncio.Transport | None = None
        self._owner: LinkOwner | None = None
        self._outbox = outbox
        self._clock = clock
        self._options = options
        self._pongs: deque[Future[None] | None] = deque()
        self._reason: Exception | None = None
        self._is_lost = False
        self._timer: TimerHandle | None = None
        self._pings_unanswered = 0
        self._seen = (0, 0)

    def __repr__(self) -> str:
        return f"Link({self.address.shown!r}, pongs={len(self._pongs)}, lost={self._is_lost})"

    @property
    def messages_in(self) -> int:
        """Messages that arrived over this link."""
        return self.parser.messages

    @property
    def is_lost(self) -> bool:
        """Whether the link has ended."""
        return self._is_lost

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.take_transport(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        """Parse what arrived; a stream that cannot be read ends the link."""
        self.bytes_in += len(data)
        try:
            self.parser.feed(data)
        except RemoteProtocolError as error:
            self.fail(error)

    def pause_writing(self) -> None:
        """Stop the outbox."""
        self._outbox.pause(self.transport)

    def resume_writing(self) -> None:
        """Let the outbox go on."""
        self._outbox.resume(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End everything that waits on this link, and tell the owner."""
        if self._is_lost:
            return
        self._is_lost = True
        self.ended.set_result(None)
        reason = self._reason or DisconnectedError(f"the server closed the link ({exc or 'EOF'})")
        if self._timer is not None:
            self._timer.cancel()
        handshake = ServerUnavailableError(self.address.shown, str(reason))
        known = reason if isinstance(reason, TransportError) and self._reason else handshake
        for future in (self.first_info, self.first_pong):
            if not future.done():
                future.set_exception(known)
                future.exception()  # seen: dialling may have been given up
        for pong in self._pongs:
            if pong is not None and not pong.done():
                pong.set_exception(DisconnectedError("the link to the server went away"))
        self._pongs.clear()
        owner = self._owner
        if owner is not None:
            owner.link_lost(self)

    # --- what we call ---

    def take_transport(self, transport: asyncio.Transport) -> None:
        """Use this transport: the first, or the one that TLS has wrapped around it."""
        self.transport = transport
        transport.set_write_buffer_limits(high=_WRITE_BUFFER_BYTES_MAX)

    def establish(self, owner: LinkOwner) -> None:
        """Report to the owner from now on, and ping."""
        self._owner = owner
        self._timer = self._clock.call_later(self._options.ping_interval_s, self._tick)

    def fail(self, reason: Exception) -> None:
        """Give the link up at once."""
        if self._reason is None:
            self._reason = reason
        if self.transport is not None:
            self.transport.abort()

    def close(self) -> None:
        """Write what the transport has, then end; the owner is told nothing."""
        self._owner = None
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End at once; the owner is told nothing."""
        self._owner = None
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None:
            self.transport.abort()

    def ping(self) -> Future[None]:
        """Queue a PING; the future is done when its PONG has arrived. It may be cancelled."""
        future: Future[None] = asyncio.get_running_loop().create_future()
        if self._is_lost or len(self._pongs) >= _PONGS_MAX:
            future.set_exception(DisconnectedError("the link to the server went away"))
            return future
        self._pongs.append(future)
        self._outbox.push_control(PING)
        return future

    # --- what the server says ---

    def _control(self, operation: bytes, argument: bytes) -> None:
        if operation == b"PING":
            self._outbox.push_control(PONG)
        elif operation == b"PONG":
            self._receive_pong()
        elif operation == b"INFO":
            self._receive_info(argument)
        elif operation == b"-ERR":
            self._receive_error(argument)

    def _receive_pong(self) -> None:
        if not self.first_pong.done():
            self.first_pong.set_result(None)
            return
        pong = self._pongs.popleft() if self._pongs else None
        if pong is not None and not pong.done():  # it may have been cancelled
            pong.set_result(None)

    def _receive_info(self, argument: bytes) -> None:
        try:
            info = decode_server_info(argument)
        except msgspec.MsgspecError as error:
            raise RemoteProtocolError(f"INFO that cannot be read: {error}") from None
        self.info = info
        self.parser.bytes_max = frame_bytes_max(info.max_payload)
        if not self.first_info.done():
            self.first_info.set_result(None)
        owner = self._owner
        if owner is not None:
            owner.link_info(self, info)

    def _receive_error(self, argument: bytes) -> None:
        text = argument.decode(errors="replace").strip("' ")
        owner = self._owner
        if _is_authentication(text):
            self._reason = AuthenticationError(self.address.shown, text)
        elif owner is None:
            self._reason = ServerUnavailableError(self.address.shown, text)
        if owner is not None:
            owner.link_error(self, text)

    def _tick(self) -> None:
        """Ping; give the link up when nothing at all has moved for too long."""
        transport = self.transport
        if self._is_lost or transport is None:
            return
        # What arrives shows life, and so does a backlog that shrinks: the PING may be behind it.
        written = self._outbox.bytes_written - transport.get_write_buffer_size()
        moved = (self.bytes_in, written if self._outbox.is_paused else 0)
        if moved != self._seen:
            self._pings_unanswered = 0
        self._seen = moved
        if self._pings_unanswered >= self._options.pings_outstanding_max:
            self.fail(
                DisconnectedError(f"the server left {self._pings_unanswered} pings unanswered")
            )
            return
        self._pings_unanswered += 1
        self._pongs.append(None)
        self._outbox.push_control(PING)
        self._timer = self._clock.call_later(self._options.ping_interval_s, self._tick)
