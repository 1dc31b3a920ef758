"""Look at the groups of a mesh from outside: who is in them, how far they are, what waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from agent99.agent import Agent
from agent99.envelope import PARTITIONS, Name, parse_name
from agent99.errors import StreamNotFoundError
from agent99.groups._options import GroupOptions
from agent99.groups._parts import Parts, open_bucket, parts_of, subjects_of
from agent99.groups._place import Charter, Place, Progress, decode
from agent99.groups._reset import read_charter
from agent99.groups._watch import PING
from agent99.registry import is_gone

if TYPE_CHECKING:
    from agent99.agent import Mesh


class GroupState(msgspec.Struct, frozen=True, kw_only=True):
    """How a group is just now; what its members have done is up to `commit_s` old."""

    name: str
    topics: tuple[str, ...]
    is_exclusive: bool
    """Whether one member works, and the others stand by."""
    is_in_store: bool
    """Whether the positions that count are in a store of its members: these trail them."""
    members: tuple[str, ...]
    """The ids of those that answer; nobody: what waits goes on waiting."""
    owned: int
    """Partitions that one of them has in hand."""
    partitions: int
    events: int
    """Done since the group was created."""
    failures: int
    """Attempts that failed since then: so often something came again."""
    buried: int
    """Events that went into quarantine since then."""
    held_up: dict[int, str]
    """Partitions in which what comes next cannot be done just now, and why: a handler that fails at
    a batch, a quarantine that is full. Whoever has them tries on; nothing is lost."""
    lag: int
    """Events that are in the log and not done."""
    oldest_us: int | None
    """When the oldest of them was stored, microseconds since the epoch, UTC; None: nothing waits,
    or what waited has gone from the log."""


async def list_groups(of: Mesh | Agent) -> tuple[str, ...]:
    """Return the names of the groups of a mesh, sorted.

    Raises:
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    charters = await (await open_bucket(parts_of(of))).snapshot("*.charter")
    return tuple(sorted(entry.key.partition(".")[0] for entry in charters))


async def inspect_group(of: Mesh | Agent, name: str) -> GroupState:
    """Return how a group is just now.

    Whether a member lives takes 1.5 s to tell where it hangs, else one answer.

    Raises:
        UsageError: there is no such group.
        InvalidNameError: the name breaks the grammar.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    parts, group = parts_of(of), parse_name("group", name)
    bucket = await open_bucket(parts)
    charter = await read_charter(bucket, group)
    entries = {entry.key: entry.value for entry in await bucket.snapshot(f"{group}.>")}
    found = [entries.get(f"{group}.at.{partition}") for partition in range(charter.partitions)]
    unclaimed = Place(progress=Progress(position=charter.start))
    places = [(value and decode(value, Place)) or unclaimed for value in found]
    waiting, members = await asyncio.gather(
        _waiting(parts, group, charter, [place.progress for place in places]),
        _members(parts, group, [key.rpartition(".")[2] for key in entries if ".member." in key]),
    )
    oldest = [each.oldest_us for each in waiting if each.oldest_us is not None]
    return GroupState(
        name=group,
        topics=charter.topics,
        is_exclusive=charter.partitions == 1,
        is_in_store=charter.is_in_store,
        members=members,
        owned=sum(place.owner in members for place in places),
        partitions=charter.partitions,
        events=sum(place.progress.events for place in places),
        failures=sum(place.progress.failures for place in places),
        buried=sum(place.progress.buried for place in places),
        held_up={
            number: place.progress.held_up
            for number, place in enumerate(places)
            if place.progress.held_up
        },
        lag=sum(each.count for each in waiting),
        oldest_us=min(oldest, default=None),
    )


async def _members(parts: Parts, group: Name, entered: list[str]) -> tuple[str, ...]:
    """Return who of those that joined and did not leave is there.

    Of a group that died as a whole the entries stay: nobody is left who would remove them.
    """
    options = GroupOptions()

    async def is_dead(member: str) -> bool:
        subject = parts.subjects.instance(group, Name(member), PING)
        return await is_gone(
            parts.wire,
            subject,
            parts.clock,
            ping_s=options.ping_s,
            lease_s=options.silence_s_max,
        )

    are_dead = await asyncio.gather(*map(is_dead, entered))
    return tuple(sorted(one for one, dead in zip(entered, are_dead, strict=True) if not dead))


class _Waiting(msgspec.Struct, frozen=True):
    count: int
    oldest_us: int | None


async def _waiting(
    parts: Parts, group: Name, charter: Charter, progress: list[Progress]
) -> list[_Waiting]:
    """Return, by partition, what is in the log and not done."""
    try:
        end = (await parts.journal.stream_state(parts.streams.log)).last_sequence
    except StreamNotFoundError:
        return []

    async def one(partition: int, progress: Progress) -> _Waiting:
        behind = max(progress.position, progress.reached)
        first = progress.open[0] if progress.open else 0
        record = await parts.journal.get(parts.streams.log, first) if first else None
        oldest_us = None if record is None else record.stored_us
        if behind >= end:
            return _Waiting(len(progress.open), oldest_us)
        which = partition if charter.partitions == PARTITIONS else None
        subjects = subjects_of(parts.subjects, group, charter.topics, which)
        rest = await parts.journal.backlog(parts.streams.log, subjects, from_sequence=behind + 1)
        return _Waiting(len(progress.open) + rest.count, oldest_us or rest.oldest_us)

    return await asyncio.gather(*(one(number, each) for number, each in enumerate(progress)))
