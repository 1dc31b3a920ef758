"""What a member of a group works with, and what its lanes share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from agent99.agent import Agent, link_of
from agent99.clock import Clock, Deadlines
from agent99.envelope import Name, Pattern, Subjects
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
    subjects: Subjects, group: Name, topics: Iterable[str], partition: int | None = None
) -> tuple[str, ...]:
    """Return the subjects of all that is meant for a group, wildcards in them.

    They are those of the log, and those of what the group alone is given once more.

    Args:
        topics: Patterns.
        partition: Of the log; None: all.
    """
    patterns = [Pattern(topic) for topic in topics]
    if partition is None:
        logged = [subjects.log_listen(pattern) for pattern in patterns]
    else:
        logged = [subjects.log_listen_partition(partition, pattern) for pattern in patterns]
    where = "*" if partition is None else str(partition)
    return (*logged, *(subjects.again_listen(group, where, pattern) for pattern in patterns))


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
