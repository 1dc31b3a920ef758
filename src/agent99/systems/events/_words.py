"""What the event bus is asked for, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from agent99 import Failure
from agent99.groups import CloudEvent

HANDLE_EVENT: Final = "handle_event"
"""The operation by which a subscriber is given an event: a `CloudEvent`."""
INVALID_ACTION: Final = "INVALID_ACTION"
INVALID_EVENT: Final = "INVALID_EVENT"
INVALID_SUBSCRIPTION: Final = "INVALID_SUBSCRIPTION"
INVALID_SCHEDULE: Final = "INVALID_SCHEDULE"
INVALID_QUERY: Final = "INVALID_QUERY"
EVENT_TOO_LARGE: Final = "EVENT_TOO_LARGE"
"""Of a stored event that no answer can hold; the failure's details have its `sequence`."""

Mode = Literal["group", "every", "one"]
"""Who is given an event:

- `group`: any one instance of the subscriber, in order per key;
- `every`: each instance that is there, those that pause too, once they go on;
- `one`: the instance that started first, as long as it lives and answers, in the order of the log;
  the others stand by.
"""


class Publish(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be stored, in the terms of CloudEvents."""

    type: str = ""
    """Its topic, such as `order.placed`."""
    event_type: str = ""
    """Agent99's word for the same."""
    data: dict[str, Any] = {}
    subject: str | None = None
    """Its key: of one key the events are in order."""
    id: str | None = None
    """Given by who publishes: what is published again under the same id is stored once."""
    time: datetime | None = None
    """When it happened, not before 1970; None: now."""


class Published(msgspec.Struct, frozen=True):
    """The event is stored."""

    event_id: str
    published: bool
    subscribers_notified: int
    """Subscriptions that it matches: each will be given it."""


class Subscribe(msgspec.Struct, frozen=True, kw_only=True):
    """Who wants which events, and how."""

    event_type: str
    """A pattern of topics, such as `order.*`."""
    subscriber: str
    """A capability; whoever offers it has the operation `handle_event`."""
    mode: Mode = "group"
    start: str = "new"
    """Where it begins, if there is no such subscription yet: `first`, `new`, `last`,
    `last-per-key`, a sequence, a moment, or a duration before now (`-15m`)."""


class Subscribed(msgspec.Struct, frozen=True):
    """A subscription, which lasts until it is taken back."""

    subscribed: bool
    event_type: str
    subscriber: str
    mode: Mode
    subscription: str
    """Its id, which is the name of its group: `agent99 events groups` shows how far it is."""


class Unsubscribe(msgspec.Struct, frozen=True, kw_only=True):
    """Which subscription is taken back."""

    subscription: str


class Unsubscribed(msgspec.Struct, frozen=True):
    """Whether it was there."""

    unsubscribed: bool


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """A subscription as it is kept."""

    group: str
    """That works it off: its id for everybody else."""
    event_type: str
    subscriber: str
    mode: Mode
    start: str


class Subscriptions(msgspec.Struct, frozen=True):
    """All that there are."""

    subscriptions: tuple[Subscription, ...]
    count: int


class GetEvents(msgspec.Struct, frozen=True, kw_only=True):
    """Which stored events."""

    event_type: str = ">"
    """A pattern of topics."""
    since: datetime | None = None
    """Stored then or later; None: an hour ago."""
    subject: str = ""
    """Of this key alone."""
    after: int = 0
    """Behind this sequence, instead of `since`: the last one of the page before."""
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class Events(msgspec.Struct, frozen=True):
    """A page of stored events, the oldest first."""

    events: tuple[CloudEvent, ...]
    count: int
    more: bool = False
    """There may be more: ask again, with the last `sequence` as `after`."""


class ScheduleEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event to be stored later: at a moment, every so often, or by cron. One of the three."""

    event_type: str
    data: dict[str, Any] = {}
    subject: str | None = None
    at: datetime | None = None
    """With its time zone; what is past is due at once."""
    every_s: float | None = None
    """From 1 second on, first that long from now."""
    cron: str | None = None
    """Five fields, such as `0 9 * * mon`."""
    zone: str = "UTC"
    """Of `cron`: such as `Europe/London`."""
    id: str | None = None
    """Given by who makes it: the same schedule under the same id again is no other."""


class Scheduled(msgspec.Struct, frozen=True):
    """The schedule is stored."""

    schedule: str
    """Its id."""


class Unschedule(msgspec.Struct, frozen=True, kw_only=True):
    """Which schedule is cancelled."""

    schedule: str


class Unscheduled(msgspec.Struct, frozen=True):
    """Whether it was there."""

    unscheduled: bool


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """Which group goes on from where."""

    group: str
    """Its name; of a subscription, its id."""
    start: str


class WasReset(msgspec.Struct, frozen=True):
    """The group goes on from elsewhere."""

    group: str
    position: int
    """Behind this sequence."""


def refusal(action: str, known: Sequence[str]) -> Failure:
    """Return the answer to a request that names no operation."""
    return Failure(
        f"there is no action {action!r}; there are: {', '.join(known)}",
        code=INVALID_ACTION,
        details={"action": action, "actions": list(known)},
    )
