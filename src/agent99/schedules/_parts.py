"""The parts of a mesh that schedules need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from agent99.agent import Agent, link_of
from agent99.clock import Clock
from agent99.envelope import Subjects
from agent99.ids import Ids
from agent99.journal import Journal
from agent99.wire import Wire
from agent99.work import Log, Streams

if TYPE_CHECKING:
    from agent99.agent import Mesh


class Parts(msgspec.Struct, frozen=True):
    """What schedules are made and fired with."""

    wire: Wire
    journal: Journal
    subjects: Subjects
    streams: Streams
    log: Log
    clock: Clock
    ids: Ids
    maker: str
    """Who makes schedules here: the agent's instance, or the connection."""


def parts_of(of: Mesh | Agent) -> Parts:
    """Return the parts of an open mesh, or of the one that hosts an agent.

    Raises:
        ClosedError: the mesh is not open.
        UsageError: no mesh hosts the agent.
    """
    link = link_of(of) if isinstance(of, Agent) else of.link
    durable = link.durable
    return Parts(
        link.wire,
        link.journal,
        link.subjects,
        durable.streams,
        durable.log,
        link.clock,
        link.ids,
        of.instance if isinstance(of, Agent) else link.subjects.sender,
    )
