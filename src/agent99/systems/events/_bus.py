"""The event bus: an agent by which others publish, subscribe and look back, without a library.

Everything is an event of the mesh's log, so that what agents `append` themselves, and what groups
read, is the same; the bus adds no hop to them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import datetime, timedelta
from typing import Any

import msgspec

from agent99 import Agent, Failure, operation
from agent99.agent import link_of
from agent99.clock import Clock, SystemClock
from agent99.envelope import (
    ENVELOPE_BYTES,
    Header,
    Key,
    Topic,
    encode_body,
    encode_message,
    parse_event_id,
    parse_key,
    parse_log,
    parse_topic,
    split_message,
)
from agent99.errors import (
    Agent99Error,
    BadRequestError,
    InvalidNameError,
    PayloadTooLargeError,
    UsageError,
)
from agent99.groups import CloudEvent, Event, Start, parse_start, read_events, reset_group
from agent99.journal import Record
from agent99.schedules import Schedules
from agent99.systems.events._moments import micros_of, moment_of
from agent99.systems.events._subscriptions import Board
from agent99.systems.events._words import (
    EVENT_TOO_LARGE,
    INVALID_EVENT,
    INVALID_QUERY,
    INVALID_SCHEDULE,
    INVALID_SUBSCRIPTION,
    Events,
    GetEvents,
    Publish,
    Published,
    Reset,
    Scheduled,
    ScheduleEvent,
    Subscribe,
    Subscribed,
    Subscriptions,
    Unschedule,
    Unscheduled,
    Unsubscribe,
    Unsubscribed,
    WasReset,
    refusal,
)

HOUR = timedelta(hours=1)
ANSWER_BYTES_MAX = 512 * 1024
"""Of a page of events, unless its first one alone is larger."""
FRAME_BYTES = 64
"""Of such a page without its events, at most."""
_MOST = "x" * 128
"""An id, or a name, that is as long as any may be."""
_decode = msgspec.json.Decoder().decode
ACTIONS = (
    *("publish", "subscribe", "unsubscribe", "subscriptions", "get_events", "reset"),
    *("schedule", "unschedule"),
)


class EventBusAgent(Agent):
    """Stores events for others, brings them to who subscribed, and answers for what happened.

    Any number of instances may run: they share the work. Subscriptions outlast them all.

    Args:
        clock: The source of time.
    """

    capabilities = ("event_bus", "pub_sub", "messaging")

    _board: Board
    _schedules: Schedules

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Read the subscriptions and the schedules, and work them off."""
        await link_of(self).durable.streams.ensure_log()
        self._board = Board(self, self._clock)
        self._schedules = Schedules(self)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._schedules)
            await self._board.start()
            stack.push_async_callback(self._board.stop)
            self._stack = stack.pop_all()

    async def stop(self) -> None:
        """Hand over what is in hand."""
        await self._stack.aclose()

    async def process_request(self, action: str = "", operation: str = "") -> None:
        """Refuse what names none of the operations."""
        raise refusal(operation or action, ACTIONS)

    @operation(name="publish")
    async def publish_event(self, event: Publish) -> Published:
        """Store an event; answered = stored. The same one within two minutes is stored once."""
        try:
            topic = _topic_of(event)
            event_id = await self._store(topic, event)
        except (UsageError, InvalidNameError, PayloadTooLargeError) as error:
            raise Failure(str(error), code=INVALID_EVENT) from error
        except Agent99Error as error:
            raise Failure(str(error), code=error.code, retryable=error.retryable) from error
        return Published(event_id, published=True, subscribers_notified=self._board.count(topic))

    @operation(idempotent=True)
    async def subscribe(self, request: Subscribe) -> Subscribed:
        """Have a capability be given events by its operation `handle_event`, from now on."""
        try:
            kept = await self._board.add(request)
        except (UsageError, InvalidNameError) as error:
            raise Failure(str(error), code=INVALID_SUBSCRIPTION) from error
        return Subscribed(
            subscribed=True,
            event_type=kept.event_type,
            subscriber=kept.subscriber,
            mode=kept.mode,
            subscription=kept.group,
        )

    @operation(idempotent=True)
    async def unsubscribe(self, request: Unsubscribe) -> Unsubscribed:
        """Take a subscription back: what it has not been given yet, it is not given."""
        return Unsubscribed(await self._board.remove(request.subscription))

    @operation(idempotent=True)
    async def subscriptions(self) -> Subscriptions:
        """Return all subscriptions."""
        known = tuple(self._board.known.values())
        return Subscriptions(known, len(known))

    @operation
    async def schedule(self, request: ScheduleEvent) -> Scheduled:
        """Store an event later: at a moment, every so often, or by cron; it outlasts all of us."""
        try:
            return Scheduled(await self._make(request))
        except (UsageError, InvalidNameError, PayloadTooLargeError) as error:
            raise Failure(str(error), code=INVALID_SCHEDULE) from error

    @operation(idempotent=True)
    async def unschedule(self, request: Unschedule) -> Unscheduled:
        """Cancel a schedule; what is being stored just now may still come."""
        try:
            return Unscheduled(await self._schedules.cancel(request.schedule))
        except InvalidNameError as error:
            raise Failure(str(error), code=INVALID_SCHEDULE) from error

    @operation(idempotent=True)
    async def get_events(self, request: GetEvents) -> Events:
        """Return stored events, the oldest first, a page at a time."""
        try:
            events = read_events(self, request.event_type, start=self._start(request))
            async with aclosing(events):
                return await _page_of(events, request, self._event_bytes_max())
        except (UsageError, InvalidNameError) as error:
            raise Failure(str(error), code=INVALID_QUERY) from error

    @operation(idempotent=True)
    async def reset(self, request: Reset) -> WasReset:
        """Have a group, or a subscription, go on from elsewhere; others notice nothing."""
        try:
            start = parse_start(request.start, self._clock)
            return WasReset(request.group, await reset_group(self, request.group, start))
        except (UsageError, InvalidNameError) as error:
            raise Failure(str(error), code=INVALID_SUBSCRIPTION) from error

    # --- inside -----------------------------------------------------------------------------------

    def _event_bytes_max(self) -> int:
        """Return what an event may be long, as it is delivered and looked at."""
        return link_of(self).wire.payload_bytes_max - ENVELOPE_BYTES - FRAME_BYTES

    def _check_size(self, header: Header, key: str, body: bytes) -> None:
        """Refuse what could be stored, but neither be delivered nor be looked at.

        Raises:
            PayloadTooLargeError
        """
        written = Event(
            id=header.event_uuid,
            source=header.from_uuid,
            type=header.to_uuid,
            subject=key,
            time_us=header.timestamp,
            data=msgspec.Raw(body),
            traceparent=header.traceparent or "",
            sequence=2**63 - 1,
            partition=0,
            stored_us=0,
        )
        size, size_max = len(written.cloud_event()), self._event_bytes_max()
        if size > size_max:
            raise PayloadTooLargeError("the event, as subscribers are given it,", size, size_max)

    def _start(self, request: GetEvents) -> Start:
        if request.after:
            return request.after + 1
        if request.since is not None:
            return moment_of(max(micros_of(request.since), 0))
        return moment_of(self._clock.wall_us()) - HOUR

    async def _make(self, request: ScheduleEvent) -> str:
        """Make a schedule.

        Raises:
            UsageError, InvalidNameError, PayloadTooLargeError: it is none.
        """
        schedules, topic, data = self._schedules, request.event_type, request.data
        header = Header(
            type="event",
            from_uuid=_MOST,
            to_uuid=topic,
            event_uuid=_MOST,
            timestamp=self._clock.wall_us(),
        )
        self._check_size(header, request.subject or _MOST, encode_body(data))
        how: dict[str, Any] = {"key": request.subject, "id": request.id}
        match request.at, request.every_s, request.cron:
            case datetime() as at, None, None:
                return await schedules.at(at, topic, data, **how)
            case None, float() as seconds, None:
                return await schedules.every(seconds, topic, data, **how)
            case None, None, str() as expression:
                return await schedules.cron(expression, topic, data, zone=request.zone, **how)
            case _:
                raise UsageError("a schedule has one of at, every_s and cron")

    async def _store(self, topic: Topic, event: Publish) -> str:
        """Store an event in the name of who publishes it."""
        link, context = link_of(self), self.context
        event_id = parse_event_id(event.id) if event.id is not None else link.ids.uuid()
        key = parse_key(event_id if event.subject is None else event.subject)
        when_us = self._clock.wall_us() if event.time is None else micros_of(event.time)
        if when_us < 0:
            raise UsageError(f"time is {event.time}: no event is of before 1970")
        header = Header(
            type="event",
            from_uuid=context.request.from_uuid,
            to_uuid=topic,
            event_uuid=event_id,
            timestamp=when_us,
            traceparent=context.trace.traceparent,
        )
        body = encode_body(event.data)
        self._check_size(header, event.subject or event.id or "", body)
        message = encode_message(header, body)
        stored = await link.durable.log.append(topic, key, message, message_id=event_id)
        if stored.duplicate:
            record = await link.journal.get(link.durable.streams.log, stored.sequence)
            if record is not None and not _is_repeat(record, topic, key, body):
                raise UsageError(
                    f"another event was published under this id: {event_id!r} is event"
                    f" {stored.sequence}"
                )
        return event_id


def _is_repeat(record: Record, topic: Topic, key: Key, body: bytes) -> bool:
    """Tell whether what is stored is the same event, whenever and by whomever it was published."""
    try:
        of = parse_log(record.subject)
        _, there = split_message(record.payload)
    except (InvalidNameError, BadRequestError):  # a stranger's
        return False
    return (of.topic, of.key) == (topic, key) and _decode(there) == _decode(body)


async def _page_of(events: AsyncIterator[Event], request: GetEvents, bytes_max: int) -> Events:
    """Return as many events as are wanted, and as an answer can hold; at least one.

    Raises:
        Failure: no answer can hold the first one.
    """
    found: list[CloudEvent] = []
    held = 0
    async for event in events:
        if request.subject and event.subject != request.subject:
            continue
        size = len(event.cloud_event())
        held += size + 1
        if len(found) == request.limit or (found and held > min(ANSWER_BYTES_MAX, bytes_max)):
            return Events(tuple(found), len(found), more=True)
        if size > bytes_max:
            raise Failure(
                f"event {event.id} has {size:,} bytes, and an answer at most {bytes_max:,}: ask"
                f" with after={event.sequence} for those behind it",
                code=EVENT_TOO_LARGE,
                details={"sequence": event.sequence, "bytes": size, "bytes_max": bytes_max},
            )
        found.append(event.as_cloud_event())
    return Events(tuple(found), len(found))


def _topic_of(event: Publish) -> Topic:
    """Return the topic of an event that is to be stored.

    Raises:
        UsageError, InvalidNameError: it has none, or two, or a pattern.
    """
    if not event.type and not event.event_type:
        raise UsageError("the event has no type")
    if event.type and event.event_type and event.type != event.event_type:
        raise UsageError(f"the event has two types: {event.type!r} and {event.event_type!r}")
    return parse_topic(event.type or event.event_type)
