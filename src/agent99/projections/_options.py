"""The bounds of an instance that keeps a projection, and what it says of its state."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent99.errors import UsageError

State = Literal["building", "live", "retired", "failed"]


class ProjectionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one instance; the defaults suit most.

    Raises:
        UsageError: a number below 1, a duration that is not above 0.
    """

    batch_max: int = 256
    """Events of one transaction."""
    poll_s: float = 0.5
    """Seconds between two looks at the generations: whether there is another one, and how far."""
    hold_events_max: int = 1_000
    """A new generation that has so few events to catch up with has the live one wait for it."""
    hold_s_max: float = 2.0
    """Seconds that the live one waits at most. If that is not enough, it goes on for ten times as
    long before it waits again."""
    grace_s: float = 60.0
    """Seconds for which the tables of a generation are kept that nobody is pointed to any more."""
    set_aside_max: int = 1_000
    """Events of one generation that are set aside; beyond it they wait."""

    def __post_init__(self) -> None:
        for name in ("batch_max", "hold_events_max", "set_aside_max"):
            if getattr(self, name) < 1:
                raise UsageError(f"ProjectionOptions.{name} is {getattr(self, name)}; at least 1")
        for name in ("poll_s", "hold_s_max", "grace_s"):
            if not getattr(self, name) > 0:
                raise UsageError(f"ProjectionOptions.{name} is {getattr(self, name)}; more than 0")


class EventFailure(msgspec.Struct, frozen=True, kw_only=True):
    """An event at which `apply` raised."""

    sequence: int
    """Its place in the log."""
    event_id: str
    """Empty: nobody can read it."""
    type: str
    error: str
    is_set_aside: bool
    """It is left out; else it comes again, and its partition waits."""


class GenerationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One build of the tables."""

    generation: int
    """Starts at 1."""
    version: int
    """Of the code that makes it."""
    state: State
    """`building`: nobody reads it yet. `live`: it is read. `retired`, `failed`: its tables go."""
    backlog: int
    """Events that it has still to count; those of one that is retired or failed: 0."""
    progress: float
    """How far it is in the log, 0 to 1, about."""
    first_sequence: int | None
    """Of the first event that it counted; None: there is none."""
    gap: tuple[int, int] | None
    """Between these places the log has dropped events before they were counted, since nobody was at
    work for too long; None: it has not."""
    set_aside: int
    """Events that were left out, since `apply` raised."""
    failures: tuple[EventFailure, ...] = ()
    """The newest, those that wait first; at most 20."""


class ProjectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A projection, as all its instances keep it."""

    name: str
    live: GenerationStatus
    """What is read."""
    building: GenerationStatus | None
    """What will be read next."""
    others: tuple[GenerationStatus, ...] = ()
    """Those whose tables go."""

    @property
    def is_rebuilding(self) -> bool:
        """Whether a new generation is under way."""
        return self.building is not None
