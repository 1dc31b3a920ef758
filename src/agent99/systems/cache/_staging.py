"""Values that arrive at a node in parts, until a message names them. Pure: time is an argument."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from agent99.systems.cache._options import PORTION_BYTES

UPLOADS_MAX = 256
"""At once, however small."""
IDLE_S = 10.0
"""An upload to which nothing was added for so long is given up."""


class PartOf(msgspec.Struct, frozen=True):
    """One part of a value, on its way to a node."""

    upload: str
    """Chosen by the sender, and by nobody else."""
    index: int
    """Starts at 0; every part has 256 KiB, the last one what is left."""
    size: int
    """Of the whole value, in bytes."""
    data: bytes
    is_copy: bool = False
    """From an owner to one that has a copy: they wait for no client."""


class Verdict(IntEnum):
    """What became of a part."""

    THERE = 0
    BUSY = 1
    """Others are being uploaded: there is no room now."""
    TOO_LARGE = 2
    """There will never be."""
    WRONG = 3
    """It contradicts itself, or what is there."""


class _Upload:
    __slots__ = ("parts", "size", "touched_s")

    def __init__(self, size: int, now_s: float) -> None:
        self.size = size
        self.touched_s = now_s
        self.parts: list[bytes | None] = [None] * parts_of(size)


class Staging:
    """What has arrived in parts, and was not claimed yet.

    The room for a whole value is taken with its first part: so nobody waits half-way for somebody
    who waits half-way.

    Args:
        bytes_max: Of all values together, and so of each.

    Invariant: `bytes` is the size of all uploads, and at most `bytes_max`.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes = 0
        self._bytes_max = bytes_max
        self._uploads: dict[str, _Upload] = {}

    def __repr__(self) -> str:
        return f"Staging({len(self)} uploads, {self.bytes:,} of {self._bytes_max:,} bytes)"

    def __len__(self) -> int:
        return len(self._uploads)

    def take(self, part: PartOf, now_s: float) -> Verdict:
        """Keep a part; the same one again does no harm."""
        if not _is_sound(part):
            return Verdict.WRONG
        if part.size > self._bytes_max:
            return Verdict.TOO_LARGE
        upload = self._uploads.get(part.upload)
        if upload is None:
            self.expire(now_s)
            if len(self) >= UPLOADS_MAX or self.bytes + part.size > self._bytes_max:
                return Verdict.BUSY
            upload = self._uploads[part.upload] = _Upload(part.size, now_s)
            self.bytes += part.size
        elif upload.size != part.size:
            return Verdict.WRONG
        upload.parts[part.index] = part.data
        upload.touched_s = now_s
        return Verdict.THERE

    def claim(self, upload: str) -> bytes | None:
        """Hand out a value, and keep it no more; None: it is not there, or not all of it."""
        found = self._uploads.pop(upload, None)
        if found is None:
            return None
        self.bytes -= found.size
        parts = [part for part in found.parts if part is not None]
        return b"".join(parts) if len(parts) == len(found.parts) else None

    def expire(self, now_s: float) -> None:
        """Give up those to which nothing is added any more."""
        ended = [name for name, one in self._uploads.items() if now_s - one.touched_s > IDLE_S]
        for name in ended:
            self.bytes -= self._uploads.pop(name).size


def parts_of(size: int) -> int:
    """Return how many parts a value of that size has."""
    return -(-size // PORTION_BYTES)


def cut(value: bytes, index: int) -> bytes:
    """Return one part of a value."""
    return value[index * PORTION_BYTES : (index + 1) * PORTION_BYTES]


def _is_sound(part: PartOf) -> bool:
    if not part.upload or not 0 <= part.index < parts_of(max(part.size, 0)):
        return False
    return len(part.data) == min(PORTION_BYTES, part.size - part.index * PORTION_BYTES)
