"""What the RESP listener needs of a cache: strings by their keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

from agent99.errors import Agent99Error

NOT_A_NUMBER: Final = "NOT_A_NUMBER"
"""Code of a `Failure`: what stands under the key is no integer of 64 bits in plain decimal."""
OVERFLOW: Final = "OVERFLOW"
"""Code of a `Failure`: the sum does not fit into 64 bits; nothing was changed."""

Only = Literal["", "new", "known"]
"""Whether to write at all: always, only where no such key is, only where one is."""


class Strings(Protocol):
    """Values by key; each method is one step for each of its keys, seen whole or not at all.

    Keys are text, values bytes, times microseconds. Any method may raise an `Agent99Error`, within
    a deadline of its own: nothing behind this port waits forever. A call whose keys differ from
    those of another may be made while that one still waits.
    """

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the value of each key, in their order, as often as it is named; None: none."""
        ...

    async def set(
        self,
        key: str,
        value: bytes,
        *,
        ttl_us: int = 0,
        keep_ttl: bool = False,
        only: Only = "",
        returns_old: bool = False,
    ) -> tuple[bool, bytes | None]:
        """Write a value.

        Args:
            key: Its key.
            value: What to write.
            ttl_us: How long it lasts; 0 is forever.
            keep_ttl: Let it last as long as what it replaces would have.
            only: Whether to write at all.
            returns_old: Whether the value before is asked for.

        Returns:
            Whether it was written, and the value before: None where there was none, or where
            nobody asked.
        """
        ...

    async def set_many(self, items: Mapping[str, bytes]) -> Mapping[str, Agent99Error]:
        """Write several values, each of which lasts forever; each key is a step of its own.

        Returns:
            What went wrong, by key; all others are written.
        """
        ...

    async def take(self, key: str) -> bytes | None:
        """Delete a key and return its value, in one step: of two callers one gets it."""
        ...

    async def delete(self, keys: Sequence[str]) -> int:
        """Delete keys; return how many there were."""
        ...

    async def exists(self, keys: Sequence[str]) -> int:
        """Return how many of the keys there are; a key named twice counts twice."""
        ...

    async def touch(self, key: str, ttl_us: int) -> bool:
        """Let a key last so long from now, 0 is forever; return whether it is there."""
        ...

    async def ttl_us(self, key: str) -> int | None:
        """Return how much longer a key lasts: None where there is none, 0 where it never ends."""
        ...

    async def incr(self, key: str, amount: int) -> int:
        """Add to the integer under a key, 0 where there is none; return the sum.

        It lasts as long as before.

        Raises:
            Failure: with code NOT_A_NUMBER or OVERFLOW.
        """
        ...

    async def append(self, key: str, value: bytes) -> int:
        """Add to the end of a value, empty where there is none; return its length in bytes.

        It lasts as long as before.
        """
        ...

    async def scan(self, cursor: int, match: str, count: int) -> tuple[int, list[str]]:
        """Return the next keys, about `count`, that match a pattern, and where to go on.

        Args:
            cursor: 0 to begin, else what the call before returned: below 2 ** 64.
            match: A pattern as `compile_glob` reads it; empty is all.
            count: How many keys to look at, roughly.

        Returns:
            The cursor to go on with, 0 at the end; and keys. A key that is there during the whole
            scan is returned at least once.
        """
        ...

    async def count(self) -> int:
        """Return how many keys there are."""
        ...

    async def flush(self) -> None:
        """Delete every key."""
        ...

    async def info(self) -> dict[str, str | int]:
        """Return figures by name; those that Redis has (`keyspace_hits`, …) by Redis's names."""
        ...
