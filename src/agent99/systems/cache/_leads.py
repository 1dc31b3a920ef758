"""Who computes which keys of a partition, and who waits for it. Decides nothing: it remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

LOOK_AT: Final = 64
"""With so many turns at the least it is looked which have run out; then with twice what is left."""


class Lead:
    """The turn of one process to compute a key's value.

    Args:
        who: The flight that has it.
        token: By it the owner knows the value that comes of it; unique for ever.
        until_s: Monotonic time from which another may have the turn.
        tags: Of the value that is computed.
    """

    __slots__ = ("_parked", "tags", "token", "until_s", "who")

    def __init__(self, who: str, token: int, until_s: float, tags: tuple[str, ...]) -> None:
        self.who = who
        self.token = token
        self.until_s = until_s
        self.tags = tags
        self._parked: set[asyncio.Future[bool]] = set()

    def __repr__(self) -> str:
        return f"Lead({self.who!r}, parked={len(self._parked)})"

    def park(self) -> asyncio.Future[bool]:
        """Return the future of its end: whether nothing was found, so that nothing is stored."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._parked.add(future)
        return future

    def leave(self, future: asyncio.Future[bool]) -> None:
        """Wait no more."""
        self._parked.discard(future)

    def wake(self, *, found_nothing: bool) -> None:
        """Tell those who wait that it has ended."""
        for future in self._parked:
            if not future.done():
                future.set_result(found_nothing)


class Leads:
    """The turns of one partition, by full key."""

    __slots__ = ("_by_key", "_look_at")

    def __init__(self) -> None:
        self._by_key: dict[str, Lead] = {}
        self._look_at = LOOK_AT

    def __repr__(self) -> str:
        return f"Leads({len(self._by_key)})"

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, key: str) -> Lead | None:
        """Return whose turn it is."""
        return self._by_key.get(key)

    def begin(self, key: str, lead: Lead, now_s: float) -> None:
        """It is their turn from now on; one that was before has run out."""
        self._by_key[key] = lead
        if len(self._by_key) >= self._look_at:  # those of the dead, for whose keys nobody asks
            self.end_where(lambda _key, other: other.until_s <= now_s)
            self._look_at = max(LOOK_AT, 2 * len(self._by_key))

    def holds(self, key: str, token: int) -> bool:
        """Tell whether it is the turn still in which a value was computed."""
        lead = self._by_key.get(key)
        return lead is not None and lead.token == token

    def end(self, key: str, *, found_nothing: bool = False) -> None:
        """Nobody computes a key: its value is there, or the key was changed, or it was given up."""
        lead = self._by_key.pop(key, None)
        if lead is not None:
            lead.wake(found_nothing=found_nothing)

    def end_where(self, concerns: Callable[[str, Lead], bool]) -> None:
        """End several: what they compute is of before."""
        for key in [key for key, lead in self._by_key.items() if concerns(key, lead)]:
            self.end(key)

    def end_all(self) -> None:
        """The partition has another owner."""
        self.end_where(lambda _key, _lead: True)
