"""A ring of points at which names have places: who comes or goes moves only what is his. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from hashlib import blake2b

PLACES = 128
"""Of a node of weight 1."""


def point_of(text: str) -> int:
    """Return the text's point on the ring, 0..2**64 - 1: the same in every process."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


class Ring:
    """Consistent hashing (Karger and others 1997), each node at many places.

    Invariant: the places are in the order of their points; a node has as many as its weight says.
    """

    def __init__(self) -> None:
        self._places: list[tuple[int, str]] = []
        self._weights: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"Ring({self._weights})"

    def add(self, node: str, weight: float = 1.0) -> None:
        """Give the node its places; one that has some already gets those of the new weight.

        Args:
            weight: Its share in relation to the others'; every node has one place at least.
        """
        self.remove(node)
        self._weights[node] = weight
        numbers = range(max(1, round(PLACES * weight)))
        self._places.extend((point_of(f"{node}#{number}"), node) for number in numbers)
        self._places.sort()

    def remove(self, node: str) -> None:
        """Take the node off the ring, if it is there."""
        if self._weights.pop(node, None) is not None:
            self._places = [place for place in self._places if place[1] != node]

    def order(self, point: int) -> Iterator[str]:
        """Yield each node once, as their places come from that point onwards."""
        places = self._places
        start = bisect_left(places, (point, ""))
        seen: set[str] = set()
        for index in range(start, start + len(places)):
            node = places[index % len(places)][1]
            if node not in seen:
                seen.add(node)
                yield node
                if len(seen) == len(self._weights):
                    return
