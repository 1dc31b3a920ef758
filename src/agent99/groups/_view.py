"""A group as one member knows it: its bucket, folded. Pure."""

from __future__ import annotations

from typing import NamedTuple

from agent99.envelope import PARTITIONS
from agent99.groups._assignment import NOBODY, assign
from agent99.groups._place import Membership, Place, Plan, Progress, decode
from agent99.journal import Change, Entry, Snapshot

_PARTITIONS = {str(partition): partition for partition in range(PARTITIONS)}


class Keys(NamedTuple):
    """The keys of one group in the bucket of all."""

    group: str

    @property
    def everything(self) -> str:
        """The pattern of all of them."""
        return f"{self.group}.>"

    @property
    def charter(self) -> str:
        """What the group is."""
        return f"{self.group}.charter"

    @property
    def plan(self) -> str:
        """Who is to own what."""
        return f"{self.group}.plan"

    def member(self, member: str) -> str:
        """A member."""
        return f"{self.group}.member.{member}"

    def place(self, partition: int) -> str:
        """A partition."""
        return f"{self.group}.at.{partition}"


class Known(NamedTuple):
    """A partition's entry, as it was last heard of."""

    place: Place
    revision: int
    """0: there is none yet."""


class View:
    """Who is in the group, who is to own what, and how far each partition is.

    Invariant: it says of each key what the last change that was applied said.
    """

    def __init__(self, keys: Keys, start: int, partitions: int = PARTITIONS) -> None:
        self._keys = keys
        self._unclaimed = Known(Place(progress=Progress(position=start)), 0)
        self._no_plan = Plan((), (NOBODY,) * partitions)
        self.members: dict[str, tuple[Membership, int]] = {}
        """By id, with the revisions of their entries."""
        self.plan = self._no_plan
        self.plan_revision = 0
        """0: there is none yet."""
        self._places: dict[int, Known] = {}

    def __repr__(self) -> str:
        return f"View({self._keys.group!r}, members={len(self.members)})"

    def apply(self, news: Snapshot | Change) -> None:
        """Take note of what was heard of the bucket."""
        if isinstance(news, Snapshot):
            self.members.clear()
            self._places.clear()
            self.plan, self.plan_revision = self._no_plan, 0
            for entry in news.entries:
                self._put(entry)
        elif news.kind == "put":
            self._put(Entry(news.key, news.value, news.revision))
        else:
            self._remove(news.key)

    def place(self, partition: int) -> Known:
        """Return a partition's entry."""
        return self._places.get(partition, self._unclaimed)

    def note(self, partition: int, place: Place, revision: int) -> None:
        """Take note of what was written here; what was heard may be newer already."""
        if revision > self.place(partition).revision:
            self._places[partition] = Known(place, revision)

    @property
    def sharers(self) -> tuple[str, ...]:
        """The members that want partitions, sorted."""
        return tuple(sorted(name for name, (one, _) in self.members.items() if not one.is_leaving))

    @property
    def is_planned(self) -> bool:
        """Whether the plan is made for those who are there."""
        return self.plan_revision > 0 and self.plan.members == self.sharers

    def next_plan(self) -> Plan:
        """Return the plan for those who are there: as the one before, with the fewest moves."""
        return Plan(self.sharers, assign(self.sharers, self.plan.owners))

    def wanted_by(self, member: str) -> frozenset[int]:
        """Return the partitions that a member is to own."""
        return frozenset(
            partition for partition, owner in enumerate(self.plan.owners) if owner == member
        )

    def owned_by(self, member: str) -> frozenset[int]:
        """Return the partitions whose entries name a member as their owner."""
        return frozenset(
            partition for partition, known in self._places.items() if known.place.owner == member
        )

    def is_free(self, partition: int, member: str) -> bool:
        """Tell whether a member may claim a partition: its owner has released it, or is gone."""
        owner = self.place(partition).place.owner
        return owner in {NOBODY, member} or owner not in self.members

    def _put(self, entry: Entry) -> None:
        kind, _, name = entry.key.removeprefix(f"{self._keys.group}.").partition(".")
        if kind == "member" and (member := decode(entry.value, Membership)) is not None:
            self.members[name] = member, entry.revision
        elif kind == "plan" and (plan := decode(entry.value, Plan)) is not None:
            if len(plan.owners) == len(self.plan.owners):
                self.plan, self.plan_revision = plan, entry.revision
        elif kind == "at" and (partition := _PARTITIONS.get(name)) is not None:
            place = decode(entry.value, Place)
            if place is not None:
                self.note(partition, place, entry.revision)

    def _remove(self, key: str) -> None:
        kind, _, name = key.removeprefix(f"{self._keys.group}.").partition(".")
        if kind == "member":
            self.members.pop(name, None)
        elif kind == "plan":
            self.plan_revision = 0
        elif kind == "at":
            self._places.pop(_PARTITIONS.get(name, -1), None)
