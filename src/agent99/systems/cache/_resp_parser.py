"""What a client's bytes mean: requests of the Redis protocol. Pure, in order, bounded.

Written after https://redis.io/docs/latest/develop/reference/protocol-spec/ and the behaviour of
Redis 7. No kept parser fits: `hiredis.Reader` reads replies, so it takes nested arrays, makes an
array as long as the peer says before anything of it has arrived, knows no inline commands, and
does not tell where one would begin.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from agent99.errors import RemoteProtocolError

LINE_BYTES_MAX: Final = 65_536
"""Of an inline command, and of a line that says how much follows."""
UNTRUSTED_ARGUMENTS_MAX: Final = 10
UNTRUSTED_ARGUMENT_BYTES_MAX: Final = 16_384
"""Who has not said the password yet gets no more memory than AUTH takes."""
_DIGITS_MAX: Final = 10
_BULK: Final = ord("$")


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """How large a request may be."""

    arguments_max: int = 131_072
    """Of one request, the command's name included."""
    argument_bytes_max: int = 64 * 1_048_576
    """Of one argument."""
    request_bytes_max: int = 128 * 1_048_576
    """Of the arguments of one request together."""


class RequestParser:
    """Turns the stream of one connection into requests, which are asked for one by one.

    The requests are the same however the stream is cut into pieces. An error is final.

    Invariant: what is kept is what was fed and not yet asked for, and the arguments of one
    incomplete request: at most `request_bytes_max` besides the last piece.

    Args:
        bounds: How large a request may be.
    """

    def __init__(self, bounds: RequestBounds) -> None:
        self.is_trusted = True
        """Whether the bounds hold, or the narrower ones for those without the password."""
        self._bounds = bounds
        self._data: bytes = b""
        self._at = 0
        self._later: bytearray = bytearray()  # what arrived after `_data`
        self._needed = 0  # bytes from `_at` on, without which there is nothing to do
        self._arguments: list[bytes] = []
        self._arguments_bytes = 0
        self._missing = 0  # arguments of the request that has begun
        self._may_be_quick = (
            bounds.arguments_max > _QUICK_MAX
            and bounds.argument_bytes_max > _QUICK_MAX
            and bounds.request_bytes_max > _QUICK_MAX * _QUICK_MAX
        )

    def __repr__(self) -> str:
        return f"RequestParser(waiting_bytes={self.waiting_bytes})"

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were fed and have become part of no request yet."""
        return len(self._data) - self._at + len(self._later)

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        if self._at == len(self._data) and not self._later:
            self._data, self._at = data, 0
        else:
            self._later += data

    def next_request(self) -> list[bytes] | None:
        """Return the next request, its name first; None if it is not all there yet.

        It is empty where the client said nothing, in so many bytes: that wants no answer.

        Raises:
            RemoteProtocolError: the stream is broken, in Redis's words.
        """
        if (self._later or self._needed) and not self._gather():
            return None
        request = self._quick()
        if request is not None:
            return request
        if not self._missing and self._data[self._at : self._at + 1] not in {b"", b"*"}:
            return self._inline()
        if not (self._missing or self._begin()) or not self._collect():
            return None
        request, self._arguments = self._arguments, []
        self._arguments_bytes = 0
        return request

    def _gather(self) -> bool:
        """Put what arrived together once that helps; return whether there may be a request."""
        if self.waiting_bytes < self._needed:
            return False
        self._needed = 0
        self._data = self._data[self._at :] + self._later
        self._at = 0
        self._later.clear()
        return True

    def _quick(self) -> list[bytes] | None:
        """Read a request that is whole and of short arguments, as most are: a third of the time.

        Whatever else there is, None is the answer, nothing has changed, and the long way decides.
        """
        if self._missing or not (self.is_trusted and self._may_be_quick):
            return None
        data, at = self._data, self._at
        find, length_of = data.find, _LENGTHS.get
        end = find(b"\r\n", at, at + _QUICK_LINE_BYTES_MAX)
        request: list[bytes] = []
        for _ in range(_COUNTS.get(data[at:end], 0) if end > 0 else 0):
            at = end + 2
            end = find(b"\r\n", at, at + _QUICK_LINE_BYTES_MAX)
            length = length_of(data[at:end]) if end > 0 else None
            if length is None:
                return None
            at = end + 2
            end = at + length
            if data[end : end + 2] != b"\r\n":
                return None
            request.append(data[at:end])
        if not request:
            return None
        self._at = end + 2
        return request

    def _begin(self) -> bool:
        """Read how many arguments follow; return whether that is there."""
        end = self._line_end(b"\r\n", "too big mbulk count string")
        if end < 0:
            return False
        count = _number(self._data[self._at + 1 : end])
        if count is None or count > self._bounds.arguments_max:
            raise RemoteProtocolError("invalid multibulk length")
        if not self.is_trusted and count > UNTRUSTED_ARGUMENTS_MAX:
            raise RemoteProtocolError("unauthenticated multibulk length")
        self._at = end + 2
        self._missing = max(0, count)  # nothing at all is no request
        return True

    def _collect(self) -> bool:
        """Read the arguments that are there; return whether none is missing."""
        data, at, missing = self._data, self._at, self._missing
        arguments = self._arguments
        size = len(data)
        try:
            while missing:
                end = data.find(b"\r\n", at, at + LINE_BYTES_MAX)
                if end < 0:
                    self._at = at
                    self._line_end(b"\r\n", "too big bulk count string")
                    return False
                if data[at] != _BULK:
                    raise RemoteProtocolError(f"expected '$', got '{chr(data[at])}'")
                length = self._length(data[at + 1 : end])
                stop = end + 2 + length
                if stop + 2 > size:
                    self._needed = stop + 2 - at
                    return False
                if data[stop : stop + 2] != b"\r\n":
                    raise RemoteProtocolError("expected the end of a line after an argument")
                arguments.append(data[end + 2 : stop])
                self._arguments_bytes += length
                at = stop + 2
                missing -= 1
        finally:
            self._at, self._missing = at, missing
        return True

    def _length(self, digits: bytes) -> int:
        """Read how long an argument is, and whether it may be."""
        length = _number(digits)
        if length is None or not 0 <= length <= self._bounds.argument_bytes_max:
            raise RemoteProtocolError("invalid bulk length")
        if not self.is_trusted and length > UNTRUSTED_ARGUMENT_BYTES_MAX:
            raise RemoteProtocolError("unauthenticated bulk length")
        if self._arguments_bytes + length > self._bounds.request_bytes_max:
            raise RemoteProtocolError("too big request")
        return length

    def _inline(self) -> list[bytes] | None:
        """Read a line that people type; None if it is not all there yet, empty if it is blank."""
        end = self._line_end(b"\n", "too big inline request")
        if end < 0:
            return None
        line = self._data[self._at : end]
        self._at = end + 1
        return split_inline(line)

    def _line_end(self, mark: bytes, complaint: str) -> int:
        """Return where the line ends that begins here, or -1 if its end is not there yet."""
        end = self._data.find(mark, self._at, self._at + LINE_BYTES_MAX)
        if end < 0 and len(self._data) - self._at > LINE_BYTES_MAX:
            raise RemoteProtocolError(complaint)
        return end


_QUICK_MAX: Final = 1_023
_QUICK_LINE_BYTES_MAX: Final = 8
_COUNTS: Final = {b"*%d" % count: count for count in range(1, _QUICK_MAX + 1)}
_LENGTHS: Final = {b"$%d" % length: length for length in range(_QUICK_MAX + 1)}
_NUMBER: Final = re.compile(rb"0|-?[1-9][0-9]*")


def _number(digits: bytes) -> int | None:
    """Read a number as Redis does: no sign but a minus, no leading zero, no blank."""
    if len(digits) > _DIGITS_MAX or not _NUMBER.fullmatch(digits):
        return None
    return int(digits)


# A word is bare letters, and then perhaps one part in quotes, which ends it.
_WORD: Final = re.compile(
    rb"""(?P<bare>[^\s"']*)(?:"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\'|[^'])*)')?(?:\s+|\Z)""",
    re.DOTALL,
)
_ESCAPE: Final = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_LETTERS: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def split_inline(line: bytes) -> list[bytes]:
    r"""Split what a person typed into words: blanks part them, quotes keep them together.

    In double quotes `\n`, `\x0a` and their like mean what they mean in C; in single quotes only
    `\'` means anything else than it says.

    Raises:
        RemoteProtocolError: a quote does not end, or something follows it.
    """
    line = line.strip()
    words: list[bytes] = []
    at = 0
    while at < len(line):
        word = _WORD.match(line, at)
        if word is None:
            raise RemoteProtocolError("unbalanced quotes in request")
        double, single = word["double"], word["single"]
        if double is not None:
            quoted = _ESCAPE.sub(_unescape, double)
        else:
            quoted = (single or b"").replace(b"\\'", b"'")
        words.append(word["bare"] + quoted)
        at = word.end()
    return words


def _unescape(escape: re.Match[bytes]) -> bytes:
    if escape[1] is not None:
        return bytes((int(escape[1], 16),))
    return _LETTERS.get(escape[2], escape[2])
