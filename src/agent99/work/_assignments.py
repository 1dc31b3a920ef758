"""What a worker works on: the work for a capability, or the events that an agent follows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from agent99.envelope import Kind, Name, Pattern, Subjects, parse_log
from agent99.journal import ConsumerConfig, Delivery
from agent99.work._curve import Curve
from agent99.work._streams import Streams

SPARE = 1_000
"""So often more than it may be tried a message is delivered: given back untried, or buried in vain.
Then the server gives up on it, and says so."""


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What one method of an agent does with stored messages."""

    operation: Name
    """Of an event handler, the method's name."""
    kind: Kind
    """Of the messages that it takes."""
    curve: Curve
    prefetch_max: int
    """Messages in hand at once."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker works on, and how."""

    task: Task
    consumer: ConsumerConfig
    capability: Name
    """Under which it stands in quarantine."""
    ensure: Callable[[], Awaitable[None]]
    """Makes the stream, if it is not there."""
    lane_of: Callable[[Delivery], str] | None = None
    """Names what must be done one after the other; a message that fails is then tried again in
    place, and what is behind it waits. None: any order, and what fails waits elsewhere."""


def jobs_for(capability: Name, task: Task, streams: Streams, subjects: Subjects) -> Assignment:
    """Return the assignment to do what is posted to a capability, or to an agent by its name."""
    consumer = ConsumerConfig(
        stream=streams.jobs(capability),
        name=task.operation,
        subjects=(subjects.job_listen(capability, task.operation),),
        deliveries_max=task.curve.attempts_max + SPARE,
    )
    ensure = partial(streams.ensure_jobs, capability)
    return Assignment(task=task, consumer=consumer, capability=capability, ensure=ensure)


def events_for(
    agent: Name, pattern: Pattern, task: Task, streams: Streams, subjects: Subjects
) -> Assignment:
    """Return the assignment to follow the stored events whose topics match, in order per key."""
    consumer = ConsumerConfig(
        stream=streams.log,
        name=f"{agent}_BY_{task.operation}",  # no name has capitals: nothing can be mixed up
        subjects=(subjects.log_listen(pattern),),
    )
    return Assignment(
        task=task,
        consumer=consumer,
        capability=agent,
        ensure=streams.ensure_log,
        lane_of=_key_of,
    )


def _key_of(delivery: Delivery) -> str:
    return parse_log(delivery.record.subject).key
