"""Partitions to nodes that have room for so many, who has one before who has not. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import floor, fsum


def shares(
    total: int, weights: Mapping[str, float], bounds: Mapping[str, int], before: Mapping[str, int]
) -> dict[str, int]:
    """Return how many of `total` each node gets: by weight, by the largest remainder (Hare).

    Args:
        bounds: More than that a node cannot take: the others share the rest. Together they can
            take all.
        before: How many each had: of equal remainders, those who had most are rounded up.
    """
    result: dict[str, int] = {}
    exact = dict(weights)
    while exact:
        unit = total / fsum(weights[node] for node in exact)
        exact = {node: unit * weights[node] for node in exact}
        full = [node for node, share in exact.items() if share >= bounds[node]]
        if not full:
            break
        for node in full:
            result[node] = bounds[node]
            total -= bounds[node]
            del exact[node]
    result |= {node: floor(share) for node, share in exact.items()}
    ranked = sorted(exact, key=lambda node: (result[node] - exact[node], -before[node], node))
    for node in ranked[: total - sum(result[node] for node in exact)]:
        result[node] += 1
    return result


class Placing:
    """The places of partitions while they are given out, first by wish, then wherever is room.

    Invariant: no partition has a node twice, one that is barred to it, or more than are wanted;
    what a node was given and what room it has are together what room it had.

    Args:
        room: How many partitions each node takes, all told as many as are wanted.
        barred: By partition, the node that must not get it; empty for none.
        wanted: How many nodes each partition gets.
    """

    def __init__(self, room: Mapping[str, int], barred: Sequence[str], wanted: int) -> None:
        self._room = dict(room)
        self._barred = barred
        self._wanted = wanted
        self.placed: list[list[str]] = [[] for _ in barred]

    def __repr__(self) -> str:
        return f"Placing(wanted={self._wanted}, room={self._room})"

    def wish(self, wishes: Iterable[Iterable[str]]) -> None:
        """Give each partition those of its nodes that have room, while it wants more."""
        for partition, nodes in enumerate(wishes):
            for node in nodes:
                if self._wants(partition) and self._may(partition, node) and self._room[node]:
                    self.placed[partition].append(node)
                    self._room[node] -= 1

    def fill(self, orders: Sequence[Sequence[str]]) -> None:
        """Give each partition all that it wants, the first with room in its order.

        Where none that it may have has room, others move along: the shortest augmenting path
        (Ford and Fulkerson 1956). There is one as long as no node has more room than partitions
        that it may get.
        """
        for partition, order in enumerate(orders):
            while self._wants(partition):
                self._augment(partition, order)

    def _wants(self, partition: int) -> bool:
        return len(self.placed[partition]) < self._wanted

    def _may(self, partition: int, node: str) -> bool:
        return (
            node in self._room
            and node != self._barred[partition]
            and node not in self.placed[partition]
        )

    def _augment(self, partition: int, order: Sequence[str]) -> None:
        """Place the partition once more; whom it pushes aside goes where is room."""
        # By node: what it is to get, and from whom; from nobody it is the new one.
        path: dict[str, tuple[int, str]] = {}
        queue: deque[str] = deque()
        moves: Iterator[tuple[int, str, str]] = ((partition, "", node) for node in order)
        while True:
            for moved, source, node in moves:
                if node in path or not self._may(moved, node):
                    continue
                path[node] = moved, source
                if self._room[node]:
                    self._follow(path, node)
                    return
                queue.append(node)
            moves = self._moves(queue.popleft())

    def _moves(self, source: str) -> Iterator[tuple[int, str, str]]:
        for partition, nodes in enumerate(self.placed):
            if source in nodes:
                yield from ((partition, source, node) for node in self._room)

    def _follow(self, path: Mapping[str, tuple[int, str]], node: str) -> None:
        self._room[node] -= 1
        while node:
            partition, source = path[node]
            if source:
                self.placed[partition].remove(source)
            self.placed[partition].append(node)
            node = source
