"""What one process stores and works off: events, jobs, the quarantine, and outboxes to send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent99.errors import DeadlineExceededError, NoRespondersError
from agent99.work import (
    Jobs,
    Ledger,
    Log,
    Parts,
    Quarantine,
    Relay,
    StreamBounds,
    Streams,
    Tries,
)

if TYPE_CHECKING:
    from agent99.agent._engine import Parts as EngineParts
    from agent99.clock import Clock
    from agent99.envelope import Subjects
    from agent99.ids import Ids
    from agent99.settings import Settings
    from agent99.store import Store
    from agent99.work import NoteFull

HEARD_S = 1.0
"""That an answer may take of somebody who listens."""


class Durable:
    """The parts of durable work that a mesh's callers and instances share.

    Made when it is first needed: most processes never import what is behind it.
    """

    def __init__(
        self,
        engine: EngineParts,
        subjects: Subjects,
        settings: Settings,
        clock: Clock,
        ids: Ids,
        note_full: NoteFull,
    ) -> None:
        self._wire, journal = engine.wire, engine.journal
        bounds = StreamBounds(
            log_bytes_max=settings.log_bytes_max,
            log_age_s_max=settings.log_age_s_max,
            job_bytes_max=settings.job_bytes_max,
            dead_bytes_max=settings.dead_bytes_max,
            saga_bytes_max=settings.saga_bytes_max,
            replicas=settings.replicas,
        )
        self.streams = Streams(journal, subjects, bounds, note_full)
        self.log = Log(subjects, self.streams)
        self.jobs = Jobs(subjects, self.streams)
        self.quarantine = Quarantine(
            journal, subjects, self.streams, clock=clock, is_heard=self._is_heard
        )
        self.ledger = Ledger(journal, subjects, self.streams)
        tries = Tries(journal, subjects, replicas=settings.replicas)
        self.parts = Parts(journal, self.quarantine, tries, clock, ids)
        self.relays: set[Relay] = set()
        """Those that send."""
        self._clock = clock

    def __repr__(self) -> str:
        return f"Durable({self.streams!r})"

    async def _is_heard(self, subject: bytes) -> bool:
        """Tell whether anybody listens on a subject; who is only silent does.

        Raises:
            PermissionDeniedError, TransportError, ClosedError
        """
        deadline_s = self._clock.monotonic_s() + HEARD_S
        try:
            await self._wire.request(subject, b"", deadline_s=deadline_s)
        except NoRespondersError:
            return False
        except DeadlineExceededError:
            pass
        return True

    def look_again(self, state: object) -> None:
        """The link to the server changed: the relays compare what it has before they go on."""
        del state  # away and back alike: what is sent in between is sent before anybody looked
        for relay in tuple(self.relays):
            relay.look_again()

    def relay(self, store: Store, instance: str) -> Relay:
        """Return what sends a store's outbox, not yet started."""
        parts = self.parts
        return Relay(store.outbox, self.log, parts.journal, clock=self._clock, instance=instance)
