"""What a processor stands on: its job, the database, the mesh."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from agent99.agent import host_of, link_of
from agent99.envelope import Pattern, parse_topic
from agent99.errors import Agent99Error
from agent99.systems.analytics._jobs import reader_of_job
from agent99.systems.analytics._names import group_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent99 import Agent
    from agent99.store import Store
    from agent99.systems.analytics._pipeline import Job, Pipeline
    from agent99.wire import Subscription

_log = logging.getLogger("agent99.systems.analytics")


class Ground:
    """The parts that whatever a processor does has in common.

    Args:
        agent: The processor, which a mesh hosts.
        job: What it works on.
        store: Its database, open.
    """

    def __init__(self, agent: Agent, job: Job, store: Store) -> None:
        link = link_of(agent)
        self.agent: Final = agent
        self.job: Final = job
        self.store: Final = store
        self.mesh: Final = link.subjects.mesh
        self.group: Final = group_of(job.name, job.version)
        """The name of the group whose members fold the records."""
        self.reader: Final = reader_of_job(self.mesh, job.name, job.version)
        """Under which the database keeps what this version of the job has made."""
        self.instance: Final = host_of(agent).instance
        self.clock: Final = link.clock
        self.deadlines: Final = link.deadlines
        self.journal: Final = link.journal
        self.subjects: Final = link.subjects
        self.streams: Final = link.durable.streams
        self.quarantine: Final = link.durable.quarantine
        self._wire: Final = link.wire
        by_source: dict[str, list[Pipeline]] = {}
        for pipeline in job.pipelines.values():
            by_source.setdefault(pipeline.source.name, []).append(pipeline)
        self.by_source: Final = by_source
        """The pipelines by the names of their sources."""

    def __repr__(self) -> str:
        return f"Ground({self.reader!r})"

    async def tell(self, topic: str, event: Any) -> None:
        """Publish a hint to whoever listens now.

        Delivery: at most once; whoever needs it looks by itself as well, only later.
        """
        try:
            await self.agent.publish(topic, event)
        except Agent99Error as error:
            _log.info("%r could not tell %s: %s", self, topic, error)

    def hear(self, topic: str, call: Callable[[], None]) -> Subscription:
        """Have something called at each hint of a topic, until the subscription is ended."""
        subject = self.subjects.event_listen(Pattern(parse_topic(topic)))
        return self._wire.subscribe(subject, lambda _: call())
