"""What the owner of a partition does next to get to where it is to be. Pure."""

from __future__ import annotations

import msgspec

from agent99.systems.cache._table import Part


class Bring(msgspec.Struct, frozen=True):
    """Stream the partition to a node, until it is in sync."""

    node: str


class HandOver(msgspec.Struct, frozen=True):
    """Make a node the owner, which is in sync."""

    node: str


class Drop(msgspec.Struct, frozen=True):
    """Tell a node that is in sync to forget its copy."""

    node: str


def next_step(part: Part, me: str) -> Bring | HandOver | Drop | None:
    """Return what the owner does next; None if it has nothing to do, or is not the owner.

    Copies are made before one is dropped, and who hands over stays a copy until its successor drops
    it: only a death leaves fewer copies in sync than there were or are wanted. A node that leaves
    needs no rule of its own, because the goal is without it.
    """
    if part.owner != me or not part.goal:
        return None
    first = part.goal[0]
    if first != me:
        return HandOver(first) if first in part.replicas else Bring(first)
    for node in part.goal[1:]:
        if node not in part.replicas:
            return Bring(node)
    for node in part.replicas:
        if node not in part.goal:
            return Drop(node)
    return None
