"""What stands in the bucket of a group, and what may follow what. Pure.

A partition's entry is the fence: it is written by compare-and-set alone, each claim raises its
epoch, and its position never goes back. So of two members that both believe that a partition is
theirs one is refused at the next thing that it writes.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from agent99.groups._assignment import NOBODY


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A partition's entry."""

    epoch: int = 0
    """Of the last claim; starts at 1."""
    owner: str = NOBODY
    """The member that has claimed it and not released it."""
    position: int = 0
    """The sequence up to which everything is done; 0: nothing."""


class Charter(msgspec.Struct, frozen=True):
    """What a group is, from its creation on."""

    topics: tuple[str, ...]
    """What it reads."""
    start: int
    """The position at which every partition begins."""


class Membership(msgspec.Struct, frozen=True, omit_defaults=True):
    """A member's entry; it is there as long as the member is."""

    joined_us: int
    is_leaving: bool = False
    """It gives everything back, and wants nothing any more."""


class Plan(msgspec.Struct, frozen=True):
    """Who is to own what."""

    members: tuple[str, ...]
    """Among whom the partitions are shared, sorted."""
    owners: tuple[str, ...]
    """By partition."""


def claimed(place: Place, member: str) -> Place:
    """Return the entry by which a member owns the partition, whoever did before."""
    return Place(place.epoch + 1, member, place.position)


def committed(place: Place, position: int) -> Place:
    """Return the entry by which its owner says how far it is; it never goes back."""
    return Place(place.epoch, place.owner, max(position, place.position))


def released(place: Place, position: int) -> Place:
    """Return the entry by which its owner gives it up: anybody may claim it."""
    return Place(place.epoch, NOBODY, max(position, place.position))


def is_same_tenure(place: Place | None, mine: Place) -> bool:
    """Tell whether an entry was written in the tenure in which `mine` was.

    Each claim has an epoch of its own, since it is made by compare-and-set.
    """
    return place is not None and (place.epoch, place.owner) == (mine.epoch, mine.owner)


T = TypeVar("T")
encode = msgspec.json.Encoder().encode


def decode(value: bytes, kind: type[T]) -> T | None:
    """Return what an entry says, or None: it is a stranger's, or a later version's."""
    try:
        return msgspec.json.decode(value, type=kind)
    except msgspec.DecodeError:
        return None
