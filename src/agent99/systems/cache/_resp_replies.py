"""Answers as bytes, in the two dialects of the Redis protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

OK: Final = b"+OK\r\n"
SYNTAX: Final = "ERR syntax error"
EMPTY: Final = b"*0\r\n"
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What the protocol's second and third version write differently."""

    version: int

    @property
    def null(self) -> bytes:
        """No value."""
        return _NULLS[self.version]

    def text(self, words: str) -> bytes:
        """Text for people."""
        raw = words.encode()
        return bulk(raw) if self.version == 2 else b"=%d\r\ntxt:%b\r\n" % (len(raw) + 4, raw)

    def value(self, value: bytes | None) -> bytes:
        """Write a value, or that there is none."""
        return self.null if value is None else b"$%d\r\n%b\r\n" % (len(value), value)

    def table(self, entries: Mapping[str, bytes]) -> bytes:
        """Names and what stands under them, which is an answer itself."""
        parts = b"".join(bulk(name.encode()) + answer for name, answer in entries.items())
        if self.version == 2:
            return b"*%d\r\n%b" % (2 * len(entries), parts)
        return b"%%%d\r\n%b" % (len(entries), parts)


_NULLS: Final = {2: b"$-1\r\n", 3: b"_\r\n"}
DIALECTS: Final = {version: Dialect(version) for version in _NULLS}


def simple(word: str) -> bytes:
    """A word of the protocol itself."""
    return b"+%b\r\n" % word.encode()


def integer(number: int) -> bytes:
    """Write a number."""
    return b":%d\r\n" % number


def bulk(value: bytes) -> bytes:
    """Write any bytes."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def array(answers: Sequence[bytes]) -> bytes:
    """Write answers as one."""
    return b"*%d\r\n%b" % (len(answers), b"".join(answers))


def error(words: str | bytes) -> bytes:
    """Say no; the first word is for programmes. Line ends become blanks, as Redis does it."""
    raw = words.encode("utf-8", "replace") if isinstance(words, str) else words
    return b"-%b\r\n" % raw.translate(_LINE_ENDS)


class RefusedError(Exception):
    """A command that is answered by an error.

    Args:
        words: What the client is told; the first word is for programmes.
    """

    def __init__(self, words: str | bytes) -> None:
        super().__init__(words)
        self.answer = error(words)


INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
_INTEGER: Final = re.compile(rb"0|-?[1-9][0-9]{0,18}")


def integer_of(raw: bytes, complaint: str = "ERR value is not an integer or out of range") -> int:
    """Read an integer of 64 bits as strictly as Redis does: no plus, no blank, no leading zero.

    Raises:
        RefusedError: with the complaint.
    """
    if _INTEGER.fullmatch(raw):
        number = int(raw)
        if INTEGER_MIN <= number <= INTEGER_MAX:
            return number
    raise RefusedError(complaint)
