"""What a member of a group works with, and what its lanes share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from agent99.agent import Agent, link_of
from agent99.clock import Clock, Deadlines
from agent99.envelope import PARTITIONS, Name, Pattern, Subjects
from agent99.ids import Ids
from agent99.journal import Bucket, Journal
from agent99.wire import Wire
from agent99.work import Quarantine, Streams

if TYPE_CHECKING:
    from agent99.agent import Mesh


class Parts(msgspec.Struct, frozen=True):
    """The parts of a mesh that a group needs."""

    wire: Wire
    journal: Journal
    subjects: Subjects
    streams: Streams
    quarantine: Quarantine
    clock: Clock
    deadlines: Deadlines
    ids: Ids


def reader_name(mesh: str, group: str) -> str:
    """Return the name under which a store keeps the positions of a mesh's group."""
    return f"{mesh}/{group}"


def subjects_of(
    subjects: Subjects, group: Name, topics: Iterable[str], partition: int, partitions: int
) -> tuple[str, ...]:
    """Return the subjects of what a group reads of a partition, wildcards in them.

    They are those of the log, and that of what is given to the group alone once more, whatever kind
    of handler it has: nobody else reads that.

    Args:
        topics: Patterns.
        partitions: That the group has: 64, or 1 for all in one.
    """
    patterns = map(Pattern, topics)
    if partitions != PARTITIONS:
        return (*map(subjects.log_listen, patterns), subjects.again_listen(group))
    logged = (subjects.log_listen_partition(partition, pattern) for pattern in patterns)
    return (*logged, subjects.again_listen(group, str(partition)))


def parts_of(of: Mesh | Agent) -> Parts:
    """Return the parts of an open mesh, or of the one that hosts an agent.

    Raises:
        ClosedError: the mesh is not open.
        UsageError: no mesh hosts the agent.
    """
    link = link_of(of) if isinstance(of, Agent) else of.link
    return Parts(
        wire=link.wire,
        journal=link.journal,
        subjects=link.subjects,
        streams=link.durable.streams,
        quarantine=link.durable.quarantine,
        clock=link.clock,
        deadlines=link.deadlines,
        ids=link.ids,
    )


async def open_bucket(parts: Parts) -> Bucket:
    """Return the bucket of all groups of a mesh; it is made if it is not there.

    Raises:
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    return await parts.journal.bucket(parts.streams.groups)
