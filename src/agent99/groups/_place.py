"""What stands in the bucket of a group, and what may follow what. Pure.

A partition's entry is the fence: it is written by compare-and-set alone, each claim raises its
epoch, and its position never goes back. So of two members that both believe that a partition is
theirs one is refused at the next thing that it writes.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TypeVar

import msgspec

from agent99.envelope import PARTITIONS
from agent99.groups._assignment import NOBODY

DEATHS_CAREFUL = 2
"""After so many the events are handed out one by one, each noted before: to see which one kills."""
DEATHS_MAX = 4
"""So many, of which the last ones with the same event in hand: it is the one."""
_VICTIMS_MAX = 8


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a partition is."""

    position: int = 0
    """The sequence up to which everything is done; 0: nothing."""
    reached: int = 0
    """Beyond the position, everything up to this sequence is done as well, but what is `open`."""
    open: tuple[int, ...] = ()
    """Sequences, ascending."""
    tries: dict[int, int] = {}
    """How often each of those has failed, where it has."""
    events: int = 0
    """Done here since the group was created."""
    failures: int = 0
    """Attempts that failed since then."""
    buried: int = 0
    """Events that went into quarantine since then."""
    held_up: str = ""
    """Why what comes next cannot be done just now; empty: nothing is in the way."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A partition's entry."""

    epoch: int = 0
    """Of the last claim; starts at 1."""
    owner: str = NOBODY
    """The member that has claimed it and not released it."""
    progress: Progress = Progress()
    victims: tuple[str, ...] = ()
    """Owners in a row that were gone before they had got any further, and did not come back."""
    suspect: int = 0
    """The sequence of the event that is handed out alone, after such deaths; below 0: it was, and
    its owner lived on; 0: none."""


class Charter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a group is, from its creation on."""

    topics: tuple[str, ...]
    """What it reads."""
    start: int
    """The position at which every partition begins."""
    partitions: int = PARTITIONS
    """That are shared; 1: everything is one, and one member owns it."""
    is_in_store: bool = False
    """The positions that count are in a store of its members."""
    is_by_event: bool = False
    """Its members are handed single events, and not batches."""


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


def claimed(place: Place, member: str, alive: Container[str] = ()) -> Place:
    """Return the entry by which a member owns the partition, whoever did before.

    Args:
        alive: The members that are there: who has come back did not die.
    """
    if place.owner == NOBODY:
        return Place(place.epoch + 1, member, place.progress)
    victims = tuple(victim for victim in place.victims if victim not in alive)
    if place.owner != member and place.owner not in alive:
        victims = (*victims, place.owner)[-_VICTIMS_MAX:]
    return Place(place.epoch + 1, member, place.progress, victims, place.suspect)


def committed(place: Place, progress: Progress, suspect: int = 0) -> Place:
    """Return the entry by which its owner says how far it is; the position never goes back.

    Args:
        suspect: The event that is about to be handed out alone; below 0: that was; 0: none.
    """
    if progress.position < place.progress.position:
        progress = place.progress
    victims = place.victims
    if suspect and abs(suspect) != abs(place.suspect):
        victims = victims[-DEATHS_CAREFUL:]
    elif not suspect and progress.events > place.progress.events:
        victims = ()
    return Place(place.epoch, place.owner, progress, victims, suspect)


def released(place: Place, progress: Progress) -> Place:
    """Return the entry by which its owner gives it up: anybody may claim it."""
    return Place(place.epoch, NOBODY, committed(place, progress).progress)


def reset(place: Place, progress: Progress) -> Place:
    """Return the entry by which the partition begins elsewhere, whoever owns it."""
    kept = place.progress
    begun = msgspec.structs.replace(
        progress, events=kept.events, failures=kept.failures, buried=kept.buried
    )
    return Place(place.epoch + 1, NOBODY, begun)


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
