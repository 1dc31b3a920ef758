"""Which subscriptions a subject concerns: pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

Target = TypeVar("Target")


def subject_matches(pattern: bytes, subject: bytes) -> bool:
    """Return whether a subject fits a pattern: `*` is one token, a final `>` one or more."""
    wanted, tokens = pattern.split(b"."), subject.split(b".")
    if wanted[-1] == b">":
        del wanted[-1]
        if len(tokens) <= len(wanted):
            return False
        del tokens[len(wanted) :]
    return len(wanted) == len(tokens) and all(
        want in (b"*", token) for want, token in zip(wanted, tokens, strict=True)
    )


class InterestTable(Generic[Target]):
    """Who is interested in what, in the order of subscribing; chooses one member of a queue group.

    Invariant: no list in `_literal` is empty.
    """

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._literal: dict[bytes, list[tuple[bytes, Target]]] = {}
        self._wild: list[tuple[bytes, bytes, bytes, Target]] = []
        """Each begins with what its pattern begins with: that alone rules out nearly all."""

    def __repr__(self) -> str:
        return f"InterestTable(literal={len(self._literal)}, wild={len(self._wild)})"

    def add(self, pattern: bytes, queue: bytes, target: Target) -> None:
        """Enter an interest."""
        if b"*" in pattern or b">" in pattern:
            head = pattern.partition(b"*")[0].partition(b">")[0]
            self._wild.append((head, pattern, queue, target))
        else:
            self._literal.setdefault(pattern, []).append((queue, target))

    def remove(self, pattern: bytes, target: Target) -> None:
        """Take an interest out; does nothing when it is not there."""
        self._wild = [row for row in self._wild if row[1] != pattern or row[3] != target]
        rows = [row for row in self._literal.pop(pattern, []) if row[1] != target]
        if rows:
            self._literal[pattern] = rows

    def find(self, subject: bytes) -> list[Target]:
        """Return everybody without a queue group, and one of each group by name."""
        targets: list[Target] = []
        groups: dict[bytes, list[Target]] = {}
        rows = list(self._literal.get(subject, ()))
        rows += [
            (queue, target)
            for head, pattern, queue, target in self._wild
            if subject.startswith(head) and subject_matches(pattern, subject)
        ]
        for queue, target in rows:
            if queue:
                groups.setdefault(queue, []).append(target)
            else:
                targets.append(target)
        targets += [members[int(self._draw() * len(members))] for members in groups.values()]
        return targets
