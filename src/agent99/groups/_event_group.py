"""A group that is handed single events: again where they fail, then into quarantine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from agent99.agent import Agent
from agent99.groups._burial import Burial
from agent99.groups._event_lane import EventHandler, EventLane
from agent99.groups._lane import Hold, Lane
from agent99.groups._member import Member
from agent99.groups._options import EventOptions
from agent99.groups._place import Progress
from agent99.journal import Record
from agent99.work import Outcome, Reason

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.store import Store


class EventGroup(Member):
    """One member of a group whose handler takes one event at a time, in order per key.

    As `Group`, but what fails holds up its own key alone: it is tried again after a pause that
    doubles, while other keys go on, and then moved to quarantine, and its key goes on.

        async with EventGroup(mesh, "mails", ("order.*",), send):
            ...

    Args:
        of: The open mesh, or an agent that runs on it.
        name: The group's, by the grammar of names.
        topics: As of `Group`.
        handler: Is given an `Event`; returned = done. Events of different keys are handed to it
            side by side. Raises it `Failure` with `retryable=False`, or cannot decode the event
            (`Event.decode`), the event goes into quarantine at once.
        store: Where the effects are: `Event.is_new` tells there what has its effect already.
        options: The bounds; `curve` says how often an event is tried. With one active member it
            works on one event at a time, in the order of the log but for what fails.

    Delivery: at least once, in order per key. An event that fails for good stands in quarantine
        (`agent99 quarantine`) before its key goes on; redriven, it comes to this group alone, once
        more, behind what its key has by then. One that kills its process, within 2 s, four times
        in a row is taken for the cause and goes there, too. An effect in the store takes place
        once.

    Raises:
        UsageError, InvalidNameError: the name or the topics; nothing was sent.
        ClosedError: the mesh is not open.
    """

    is_by_event = True

    def __init__(
        self,
        of: Mesh | Agent,
        name: str,
        topics: Iterable[str],
        handler: EventHandler,
        *,
        store: Store | None = None,
        options: EventOptions | None = None,
    ) -> None:
        chosen = options or EventOptions()
        if chosen.active == "one":
            chosen = msgspec.structs.replace(chosen, keys_max=1)
        super().__init__(of, name, topics, store=store, options=chosen)
        self._event_options = chosen
        self.handler = handler
        """What it hands events to."""

    @property
    def options(self) -> EventOptions:
        """The bounds."""
        return self._event_options

    def lane(self, partition: int, tenure: Hold, progress: Progress) -> Lane:
        """Private to the room: return what works off a partition."""
        return EventLane(self, partition, tenure, progress, self.handler)

    async def bury(self, record: Record, outcome: Outcome, reason: Reason, attempts: int) -> None:
        """Private to the room: move an event to quarantine."""
        burial = Burial(self.parts, self.name, "group")
        await burial.bury(record, outcome, reason, attempts)
