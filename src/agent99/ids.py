"""The one user of randomness: a port, the real source, and a seeded one that replays."""

from __future__ import annotations

import os
import random
import weakref
from typing import Protocol

_POOL_BYTES = 4096  # one system call for 256 ids: uuid4 costs 3.7 µs, one of these 0.1 to 0.8 µs


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
        self._tokens: list[bytes] = []
        # Asking for the process id at every token would cost twice what the token costs. A dead
        # reference is all that stays behind.
        mine = weakref.WeakMethod(self._forget)

        def forget() -> None:
            if (forget_mine := mine()) is not None:
                forget_mine()

        os.register_at_fork(after_in_child=forget)

    def __repr__(self) -> str:
        return "SystemIds()"

    def uuid(self) -> str:
        """Return a random UUID in its text form."""
        digits = self.token().decode()
        variant = "89ab"[int(digits[16], 16) & 3]
        return (
            f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def token(self) -> bytes:
        """Return 128 random bits as 32 hexadecimal digits."""
        while True:
            try:
                return self._tokens.pop()
            except IndexError:  # used up, perhaps by another thread just now
                self._refill()

    def fraction(self) -> float:
        """Return a number in [0, 1)."""
        return (int(self.token()[:16], 16) >> 11) * 2.0**-53

    def _refill(self) -> None:
        block = os.urandom(_POOL_BYTES).hex().encode()
        self._tokens.extend(block[at : at + 32] for at in range(0, len(block), 32))

    def _forget(self) -> None:
        """Draw anew in a forked child."""
        self._tokens.clear()


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
