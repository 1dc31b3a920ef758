"""What an instance works with: the mesh's log, the store, the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from agent99.agent import Agent, link_of
from agent99.envelope import Pattern
from agent99.projections._catch_up import Positions, Settled, lagging
from agent99.projections._moves import Moment

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.journal import StreamState
    from agent99.projections._book import Generation
    from agent99.store import Store


class Parts:
    """The parts of a mesh that a projection needs, and its store.

    Raises:
        ClosedError: the mesh is not open.
        UsageError: no mesh hosts the agent.
    """

    def __init__(self, of: Mesh | Agent, store: Store) -> None:
        link = link_of(of) if isinstance(of, Agent) else of.link
        self.of = of
        self.store = store
        self.clock = link.clock
        self.mesh = link.subjects.mesh
        self._ids = link.ids
        self._journal = link.journal
        self._streams = link.durable.streams
        self._listen = link.subjects.log_listen_partition

    def __repr__(self) -> str:
        return f"Parts({self.mesh!r}, {self.store!r})"

    async def log(self) -> StreamState:
        """Return what the log holds; it is made if it is not there.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        await self._streams.ensure_log()
        return await self._journal.stream_state(self._streams.log)

    async def moment(self, projection: str) -> Moment:
        """Return what has to be known to make a generation.

        Raises:
            as `log`.
        """
        token = self._ids.token().decode()[:12]  # a database that was lost begins at 1 again
        first = (await self.log()).first_sequence
        group = f"proj-{projection}-{{}}-{token}"
        return Moment(self.mesh, group, first, self.clock.wall_us())

    async def backlogs(
        self, topics: Iterable[str], positions: Positions, parts: Iterable[int]
    ) -> dict[int, int]:
        """Count by partition what the log holds behind the positions.

        Raises:
            as `log`.
        """

        async def count(part: int) -> int:
            begun_at = positions.get(part, (0, 0))[1] + 1
            subjects = tuple(self._listen(part, Pattern(topic)) for topic in topics)
            stream = self._streams.log
            return (await self._journal.backlog(stream, subjects, from_sequence=begun_at)).count

        asked = list(parts)
        return dict(zip(asked, await asyncio.gather(*map(count, asked)), strict=True))


def settled(
    building: Generation,
    live: Generation,
    log: StreamState,
    positions: tuple[Positions, Positions],
    backlogs: Mapping[int, int],
) -> Settled:
    """Return of which partitions the log holds nothing more for the generation that is built.

    It is believed only where the position alone cannot tell: of a version with other topics, or
    where the log has dropped what the live one counted last. A replica of the log that is behind
    may not know yet of what the live generation has counted just now.

    Args:
        building: The generation that is built.
        live: The one that is read.
        log: As it was after `positions` were read, and before `backlogs` were counted.
        positions: Of the one that is built, and of the live one.
        backlogs: Of the one that is built, by partition.
    """
    new, old = positions
    is_other = building.topics != live.topics
    done = {
        part: at
        for part, at in lagging(new, old).items()
        if not backlogs[part] and (is_other or old[part][1] < log.first_sequence)
    }
    return Settled(log.last_sequence, done)
