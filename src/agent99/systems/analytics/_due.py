"""Numbers that wait until a limit has passed them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

T = TypeVar("T")


class Due(Generic[T]):
    """Things by the number at which they are due, given out by rising number."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._things: dict[int, list[T]] = {}

    def __repr__(self) -> str:
        return f"Due({len(self._numbers)} numbers)"

    def __contains__(self, number: int) -> bool:
        return number in self._things

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers that wait, in no order."""
        return iter(self._things)

    def rising(self) -> Iterator[tuple[int, list[T]]]:
        """Yield the numbers that wait by rising number, each with its things; nothing is taken.

        The first k cost k log k: a heap's least ones are found from its top down.
        """
        found = [(number, 0) for number in self._numbers[:1]]
        while found:
            number, at = heappop(found)
            yield number, self._things[number]
            for below in (2 * at + 1, 2 * at + 2):
                if below < len(self._numbers):
                    heappush(found, (self._numbers[below], below))

    def add(self, number: int, things: Iterable[T] = ()) -> None:
        """Let things wait for a limit above `number`; without things only the number waits."""
        if number not in self._things:
            heappush(self._numbers, number)
            self._things[number] = []
        self._things[number].extend(things)

    def take_before(self, limit: int) -> Iterator[tuple[int, list[T]]]:
        """Yield the numbers below the limit, each with its things, and forget them."""
        while self._numbers and self._numbers[0] < limit:
            number = heappop(self._numbers)
            yield number, self._things.pop(number)
