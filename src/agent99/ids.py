"""The one user of randomness: a port, the real source, and a seeded one that replays."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

_POOL_BYTES = 4096  # one system call for 256 ids: uuid4 costs 3.7 µs, one of these 0.2 µs
_DIGITS = 32
_TEXT = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
_PLACES = tuple(place for place, mark in enumerate(_TEXT) if mark == "x")
_VERSION, _VARIANT = 14, 19  # the digits of a UUID's text that are not free, or not quite
_VARIANTS = bytes.maketrans(b"0123456789abcdef", b"89ab89ab89ab89ab")


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
        self._uuids: list[str] = []
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
        while True:
            try:
                return self._uuids.pop()
            except IndexError:  # used up, perhaps by another thread just now
                self._uuids.extend(_make_uuids(os.urandom(_POOL_BYTES).hex().encode()))

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
        self._uuids.clear()


def _make_uuids(digits: bytes) -> list[str]:
    """Return one UUID for each 32 digits; all of them at once, digit by digit."""
    size = len(_TEXT)
    texts = bytearray(_TEXT.encode() * (len(digits) // _DIGITS))
    for column, place in enumerate(_PLACES):
        texts[place::size] = digits[column::_DIGITS]
    texts[_VERSION::size] = b"4" * (len(texts) // size)
    texts[_VARIANT::size] = texts[_VARIANT::size].translate(_VARIANTS)
    whole = texts.decode()
    return [whole[at : at + size] for at in range(0, len(whole), size)]


class SeededIds:
    """The same ids in the same order for the same seed: for tests and simulations only."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        import random  # noqa: PLC0415 - for tests and simulations alone

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
