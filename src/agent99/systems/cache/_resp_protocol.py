"""One connection of the RESP listener: bytes in, bytes out, in order and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from agent99.clock import wait_done
from agent99.errors import RemoteProtocolError
from agent99.systems.cache._resp_commands import Command, prepare
from agent99.systems.cache._resp_parser import RequestParser
from agent99.systems.cache._resp_replies import RefusedError, error
from agent99.systems.cache._resp_session import Call, Session
from agent99.systems.cache._resp_stretch import Stretch

INPUT_BYTES_MAX: Final = 262_144
"""Waiting to be read while a command is at work; beyond that, TCP holds the client back."""
OUTPUT_BYTES_MAX: Final = 1_048_576
"""Waiting to be sent while the next commands are made; beyond that, they wait."""
STRETCH_MAX: Final = 1_024
"""Commands of one stretch; fewer while answers are so long that they would not fit the output."""
_STRETCH_AT_FIRST: Final = 64
STALL_S_MAX: Final = 60.0
"""How long a client may leave its answers untaken before it is given up."""
_OF_BROWSERS: Final = frozenset((b"post", b"host:"))
"""What a page can make a browser send to this port: the rest of it may look like commands."""


class Connection(asyncio.Protocol):
    """What a client sends is read request by request, done stretch by stretch, answered in order.

    Invariant: at most one task works for it. What it holds is bounded: by the parser's bounds,
    INPUT_BYTES_MAX, OUTPUT_BYTES_MAX and the answers to one stretch, whose length follows theirs.

    Args:
        session: Of this client.
        parser: Of this connection.
        on_end: Called once, when it is over and nothing works for it any more.
    """

    def __init__(
        self, session: Session, parser: RequestParser, on_end: Callable[[Connection], None]
    ) -> None:
        self._session = session
        self._parser = parser
        self._parser.is_trusted = session.is_trusted
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None  # while too much waits to be sent
        self._held: tuple[Command, Call] | None = None  # the first of the next stretch
        self._stretch_max = _STRETCH_AT_FIRST
        self._is_last = False  # the client has ended its side
        self._is_over = False  # close once what is at work is answered

    def __repr__(self) -> str:
        return f"Connection({self._session.number})"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are no subclass of asyncio's.
        transport = cast("asyncio.Transport", transport)
        transport.set_write_buffer_limits(high=OUTPUT_BYTES_MAX)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what arrived, and see to it that it is done."""
        self._parser.feed(data)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        elif self._transport is not None and self._parser.waiting_bytes > INPUT_BYTES_MAX:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Answer what was asked before the client ended its side; return whether there is any."""
        self._is_last = True
        return self._task is not None

    def pause_writing(self) -> None:
        """Too much waits to be sent: make no more of it."""
        self._room = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """Most of it was sent: go on."""
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        """Stop; whether the commands at work still change anything, nobody knows."""
        self._transport = None
        self.resume_writing()
        if self._task is None:
            self._on_end(self)
        else:
            self._task.cancel()
            self._task.add_done_callback(lambda _: self._on_end(self))

    def end(self) -> None:
        """Close once what is at work is answered."""
        self._is_over = True
        if self._task is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        self._is_over = True
        if self._transport is not None:
            self._transport.abort()

    async def _work(self) -> None:
        """Do what arrived, until nothing is left that is whole."""
        try:
            while await self._work_stretch():
                pass
        except BaseException:
            self.abort()
            raise
        finally:
            self._task = None
        if self._transport is not None and (self._is_over or self._is_last):
            self._transport.close()

    async def _work_stretch(self) -> bool:
        """Do the next stretch and answer it; return whether there may be another."""
        stretch = Stretch(self._session.strings, self._stretch_max)
        complaint = self._fill(stretch)
        if self._transport is not None and self._parser.waiting_bytes <= INPUT_BYTES_MAX:
            self._transport.resume_reading()
        if not len(stretch) and not complaint:
            return False
        answers = await stretch.run() + complaint
        self._session.figures.commands += len(stretch)
        fitting = OUTPUT_BYTES_MAX * len(stretch) // max(1, len(answers))
        self._stretch_max = max(1, min(STRETCH_MAX, 2 * self._stretch_max, fitting))
        self._parser.is_trusted = self._session.is_trusted
        self._is_over |= self._session.is_ending
        if self._transport is not None:
            self._transport.write(answers)
        if self._room is not None:
            await self._wait_room(self._room)
        elif self._held or self._parser.waiting_bytes:
            await asyncio.sleep(0)  # whoever sends much lets others have their turns
        return not self._is_over

    def _fill(self, stretch: Stretch) -> bytes:
        """Add what arrived to a stretch, as far as it takes it; return what to say of the rest."""
        if self._held is not None:
            stretch.add(*self._held)
            self._held = None
        try:
            while not (stretch.is_full or self._held or self._is_over):
                request = self._parser.next_request()
                if request is None:
                    break
                self._add(stretch, request)
        except RemoteProtocolError as problem:
            self._is_over = True
            return error(f"ERR Protocol error: {problem}")
        return b""

    def _add(self, stretch: Stretch, request: list[bytes]) -> None:
        """Add a request, or what to say of it, to a stretch; or hold it for the next."""
        if not request:
            stretch.add_answer(b"")
            return
        if request[0].lower() in _OF_BROWSERS:
            self._is_over = True
            return
        try:
            command, call = prepare(self._session, request)
        except RefusedError as refused:
            stretch.add_answer(refused.answer)
            return
        if stretch.takes(command, call):
            stretch.add(command, call)
        else:
            self._held = command, call

    async def _wait_room(self, room: asyncio.Future[None]) -> None:
        """Wait until the client took its answers, but not forever."""
        if not await wait_done(self._session.clock, room, STALL_S_MAX):
            self.abort()
