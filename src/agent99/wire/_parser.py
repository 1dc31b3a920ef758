"""What the server's bytes mean: pure, in place, bounded. The hot path of what arrives."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable

from agent99.errors import RemoteProtocolError
from agent99.wire._port import Message, Receive

LINE_BYTES_MAX = 4096 + 64
"""The server's own bound on a control line, and room for the sid that it adds."""
INFO_BYTES_MAX = 65_536
"""INFO grows with the cluster: it names every server."""
PAYLOAD_HEADROOM_BYTES = 65_536
"""Stored messages come back with headers added, so they may be larger than `max_payload`."""


def frame_bytes_max(payload_bytes_max: int) -> int:
    """Return how large a message may be that the server sends.

    JetStream's API gives stored messages in Base64, which takes a third more.
    """
    return payload_bytes_max * 4 // 3 + PAYLOAD_HEADROOM_BYTES


_FIRST_BYTES = frozenset(b"MHPI+-")
_CONTROLS = frozenset((b"PING", b"PONG", b"+OK"))


class Parser:
    """Turns the stream of one connection into calls, in order.

    A message goes to the receiver that `find(sid)` returns, or to `unrouted` when there is none;
    what a receiver raises goes to `failed`. Everything else goes to `control(operation, argument)`,
    where the operation is one of `INFO PING PONG +OK -ERR`. The calls are the same however the
    stream is cut into pieces, and each byte is copied at most three times.

    Invariant: what is kept between two calls is an incomplete frame, and no more than one.
    """

    def __init__(
        self,
        find: Callable[[bytes], Receive | None],
        control: Callable[[bytes, bytes], None],
        *,
        unrouted: Receive,
        failed: Callable[[BaseException], None],
        payload_bytes_max: int = 1_048_576,
    ) -> None:
        self.bytes_max = frame_bytes_max(payload_bytes_max)
        """Of one message, by the server's `max_payload`; follow it when INFO changes."""
        self.messages = 0
        """Messages delivered so far."""
        self._find = find
        self._unrouted = unrouted
        self._failed = failed
        self._control = control
        self._pieces: list[bytes] = []
        self._kept = 0
        self._needed = 0
        self._broken = False

    def __repr__(self) -> str:
        return f"Parser(messages={self.messages}, kept_bytes={self._kept})"

    def feed(self, data: bytes) -> None:
        """Take what arrived and make the calls that are due.

        Raises:
            RemoteProtocolError: the stream is not NATS; it cannot be read any further.
        """
        if self._kept:
            self._pieces.append(data)
            self._kept += len(data)
            if self._kept < self._needed:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._kept = 0
        if self._broken:
            raise RemoteProtocolError("the stream was broken before")
        self._broken = True  # until proven otherwise: also when a callee raises
        rest = self._read(data)
        self._broken = False
        if rest < len(data):
            self._pieces.append(data[rest:])
            self._kept = len(data) - rest

    def _read(self, data: bytes) -> int:  # noqa: C901 - the hot path is one loop by purpose
        """Handle every complete frame; return where the incomplete one starts."""
        find_end, find = data.find, self._find
        payload_max = self.bytes_max
        at, end = 0, len(data)
        while at < end:
            line_end = find_end(b"\r\n", at, at + LINE_BYTES_MAX)
            if line_end < 0:
                line_end = self._find_long_line(data, at)
                if line_end < 0:
                    break
            parts = data[at:line_end].split(b" ")
            count = len(parts)
            if count == 4:
                operation, subject, sid, size = parts
                reply = b""
            elif count == 5:
                operation, subject, sid, reply, size = parts
            else:
                operation = sid = size = subject = reply = b""
            if operation == b"MSG" and size.isdigit():
                start = line_end + 2
                length = int(size)
                stop = start + length
                if length > payload_max:
                    raise RemoteProtocolError(f"a message of {length:,} bytes announced")
                if stop + 2 > end:
                    self._needed = stop + 2 - at
                    return at
                if data[stop : stop + 2] != b"\r\n":
                    raise RemoteProtocolError("a message does not end where it said")
                at = stop + 2
                self.messages += 1
                # `_hand_over`, spelled out: a call more per message is to be felt here.
                receive = find(sid) or self._unrouted
                try:
                    receive(Message(subject, reply, data[start:stop]))
                except (Exception, CancelledError) as error:  # noqa: BLE001 - user code
                    self._failed(error)
                continue
            after = self._read_other(data, at, line_end, parts)
            if not after:
                return at
            at = after
        return at

    def _read_other(self, data: bytes, at: int, line_end: int, parts: list[bytes]) -> int:
        """Handle a frame that is no MSG; return where it ends, 0 when it is incomplete."""
        operation = parts[0]
        if operation == b"HMSG":
            return self._read_with_headers(data, at, line_end, parts)
        line = data[at:line_end]
        if line in _CONTROLS:
            self._control(line, b"")
        elif operation in (b"INFO", b"-ERR"):
            self._control(operation, line[5:].strip())
        else:
            raise RemoteProtocolError(f"an unknown operation: {line[:40]!r}")
        return line_end + 2

    def _read_with_headers(self, data: bytes, at: int, line_end: int, parts: list[bytes]) -> int:
        if len(parts) == 5:
            _, subject, sid, head_size, size = parts
            reply = b""
        elif len(parts) == 6:
            _, subject, sid, reply, head_size, size = parts
        else:
            raise RemoteProtocolError(f"a bad HMSG line: {data[at : at + 40]!r}")
        if not (size.isdigit() and head_size.isdigit()) or int(head_size) > int(size):
            raise RemoteProtocolError(f"bad sizes in HMSG: {head_size[:20]!r} {size[:20]!r}")
        if int(size) > self.bytes_max:
            raise RemoteProtocolError(f"a message of {int(size):,} bytes announced")
        start = line_end + 2
        middle, stop = start + int(head_size), start + int(size)
        if stop + 2 > len(data):
            self._needed = stop + 2 - at
            return 0
        if data[stop : stop + 2] != b"\r\n":
            raise RemoteProtocolError("a message does not end where it said")
        self.messages += 1
        self._hand_over(sid, Message(subject, reply, data[middle:stop], data[start:middle]))
        return stop + 2

    def _hand_over(self, sid: bytes, message: Message) -> None:
        receive = self._find(sid) or self._unrouted
        try:
            receive(message)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - user code
            self._failed(error)

    def _find_long_line(self, data: bytes, at: int) -> int:
        """Return the end of an INFO line; -1 for a line that is not complete yet."""
        self._needed = len(data) - at + 1
        if data[at] not in _FIRST_BYTES:
            raise RemoteProtocolError(f"an unknown operation: {data[at : at + 40]!r}")
        if len(data) - at < LINE_BYTES_MAX:
            return -1
        if data[at : at + 5] != b"INFO ":
            raise RemoteProtocolError(f"a control line over {LINE_BYTES_MAX:,} bytes")
        line_end = data.find(b"\r\n", at, at + INFO_BYTES_MAX)
        if line_end < 0 and len(data) - at >= INFO_BYTES_MAX:
            raise RemoteProtocolError(f"INFO over {INFO_BYTES_MAX:,} bytes")
        return line_end
