"""The streams of one mesh: what they are called, what they hold, and that they are there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

import msgspec

from agent99.envelope import Name, Subjects
from agent99.errors import StreamFullError, StreamNotFoundError
from agent99.journal import BucketConfig, Journal, Stored, StreamConfig

ADVISORIES = "A99_ADVISORIES"
"""Keeps the server's notices of messages that were delivered too often; all meshes share it."""
ADVISORY_SUBJECT = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES"
GROUPS_BYTES_MAX = 256 * 1024**2
"""Of the entries of all groups of a mesh."""
_ADVISORIES_BYTES_MAX = 16 * 1024**2
_ADVISORIES_AGE_S = 7 * 86_400.0


class NoteFull(Protocol):
    """Is told of each stream that refuses a message, or takes one."""

    def __call__(self, stream: str, *, is_full: bool) -> None:
        """Note it."""
        ...


class StreamBounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much the streams of a mesh may hold; a full one refuses."""

    log_bytes_max: int = 1024**3
    log_age_s_max: float = 7 * 86_400.0
    """Seconds for which an event is kept, read or not."""
    job_bytes_max: int = 256 * 1024**2
    """Of the work for one capability: one that nobody serves fills its own bound alone."""
    dead_bytes_max: int = 256 * 1024**2
    """Of the quarantine of one capability."""
    saga_bytes_max: int = 1024**3
    """Of the journals of all sagas."""
    replicas: int = 1


class Streams:
    """Makes each stream when it is first needed."""

    def __init__(
        self,
        journal: Journal,
        subjects: Subjects,
        bounds: StreamBounds,
        note_full: NoteFull | None = None,
    ) -> None:
        self._journal = journal
        self._note_full = note_full
        self._subjects = subjects
        self._bounds = bounds
        self._root = f"A99_{subjects.mesh}"  # no name has capitals: nothing can be mixed up
        self.log = f"{self._root}_LOG"
        """The stream of all stored events."""
        self.sagas = f"{self._root}_SAGA"
        """The stream of the journals of all sagas."""

    def __repr__(self) -> str:
        return f"Streams({self._root!r})"

    @property
    def replicas(self) -> int:
        """Copies that a cluster keeps of each of them."""
        return self._bounds.replicas

    @property
    def groups(self) -> BucketConfig:
        """The bucket of all groups that read the events: who they are, and how far."""
        return BucketConfig(
            name=f"a99_{self._subjects.mesh}_groups",
            bytes_max=GROUPS_BYTES_MAX,
            replicas=self.replicas,
        )

    def jobs(self, capability: Name) -> str:
        """Return the stream of the work for a capability, or for an agent by its name."""
        return f"{self._root}_JOB_{capability}"

    def dead(self, capability: Name) -> str:
        """Return the stream of what is in quarantine of a capability."""
        return f"{self._root}_DEAD_{capability}"

    @property
    def jobs_prefix(self) -> str:
        """What the names of all streams of work begin with."""
        return f"{self._root}_JOB_"

    @property
    def dead_prefix(self) -> str:
        """What the names of all streams of the quarantine begin with."""
        return f"{self._root}_DEAD_"

    async def append(
        self,
        stream: str,
        subject: str,
        message: bytes,
        *,
        message_id: str,
        ensure: Callable[[], Awaitable[None]],
    ) -> Stored:
        """Store a message, in a stream that is made if it is not there yet.

        Raises:
            as `Journal.append`.
        """
        journal = self._journal
        try:
            try:
                stored = await journal.append(subject, message, message_id=message_id)
            except StreamNotFoundError:
                await ensure()
                stored = await journal.append(subject, message, message_id=message_id)
        except StreamFullError:
            self._note(stream, is_full=True)
            raise
        self._note(stream, is_full=False)
        return stored

    def _note(self, stream: str, *, is_full: bool) -> None:
        if self._note_full is not None:
            self._note_full(stream, is_full=is_full)

    async def ensure_log(self) -> None:
        """Have the stream of events."""
        bounds = self._bounds
        await self._ensure(
            self.log,
            self._subjects.log_listen(),
            self._subjects.again_listen(),
            bytes_max=bounds.log_bytes_max,
            age_s_max=bounds.log_age_s_max,
        )

    async def ensure_jobs(self, capability: Name) -> None:
        """Have the stream of the work for a capability; what is done leaves it."""
        await self._ensure(
            self.jobs(capability),
            self._subjects.job_listen(capability),
            bytes_max=self._bounds.job_bytes_max,
            retention="work",
        )

    async def ensure_dead(self, capability: Name) -> None:
        """Have the quarantine of a capability."""
        subject = self._subjects.dead_listen(capability)
        await self._ensure(self.dead(capability), subject, bytes_max=self._bounds.dead_bytes_max)

    async def ensure_sagas(self) -> None:
        """Have the stream of the journals of sagas."""
        subject = self._subjects.saga_listen()
        await self._ensure(self.sagas, subject, bytes_max=self._bounds.saga_bytes_max)

    async def ensure_advisories(self) -> None:
        """Have the stream of the server's notices."""
        await self._ensure(
            ADVISORIES,
            f"{ADVISORY_SUBJECT}.*.*",
            bytes_max=_ADVISORIES_BYTES_MAX,
            age_s_max=_ADVISORIES_AGE_S,
        )

    async def _ensure(
        self,
        name: str,
        *subjects: str,
        bytes_max: int,
        age_s_max: float = 0.0,
        retention: Literal["limits", "work"] = "limits",
    ) -> None:
        config = StreamConfig(
            name=name,
            subjects=subjects,
            retention=retention,
            bytes_max=bytes_max,
            age_s_max=age_s_max,
            replicas=self._bounds.replicas,
        )
        await self._journal.ensure_stream(config)
