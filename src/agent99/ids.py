"""The one user of randomness: a port, the real source, and a seeded one that replays."""

from __future__ import annotations

import os
import random
from typing import Protocol

_POOL_BYTES = 4096  # one system call for 256 ids: uuid4 costs 3.7 µs, a slice of this 0.4 µs


class Ids(Protocol):
    """Makes identifiers and draws lots."""

    def uuid(self) -> str:
        """Return a random UUID (version 4, RFC 9562) in its text form."""
        ...

    def token(self) -> bytes:
        """Return 128 random bits as 32 lower-case hexadecimal digits."""
        ...

    def fraction(self) -> float:
        """Return a number in [0, 1): jitter and choices."""
        ...


class SystemIds:
    """The operating system's randomness, drawn in blocks.

    Invariant: no byte of the pool is used twice, in this process or in a fork of it.
    """

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0
        self._pid = 0

    def __repr__(self) -> str:
        return "SystemIds()"

    def uuid(self) -> str:
        """Return a random UUID in its text form."""
        digits = self._draw().hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def token(self) -> bytes:
        """Return 128 random bits as 32 hexadecimal digits."""
        return self._draw().hex().encode()

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return (int.from_bytes(self._draw()[:8], "big") >> 11) * 2.0**-53

    def _draw(self) -> bytes:
        at = self._at
        if at >= len(self._pool) or self._pid != os.getpid():
            self._pool = os.urandom(_POOL_BYTES)
            self._pid = os.getpid()
            at = 0
        self._at = at + 16
        return self._pool[at : at + 16]


class SeededIds:
    """The same ids in the same order for the same seed: for tests and simulations only."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(seed)  # noqa: S311 - reproducible by purpose

    def __repr__(self) -> str:
        return f"SeededIds({self.seed})"

    def uuid(self) -> str:
        """Return the next UUID of the sequence."""
        digits = f"{self._random.getrandbits(128):032x}"
        variant = "89ab"[int(digits[16], 16) & 3]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def token(self) -> bytes:
        """Return the next 128 bits of the sequence as hexadecimal digits."""
        return b"%032x" % self._random.getrandbits(128)

    def fraction(self) -> float:
        """Return the next number in [0, 1)."""
        return self._random.random()
