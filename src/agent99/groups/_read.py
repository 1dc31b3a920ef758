"""Read stored events from a place on, without a group: nobody's position moves."""

from __future__ import annotations

import heapq
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from agent99.agent import Agent
from agent99.envelope import Pattern, parse_pattern
from agent99.errors import BadRequestError, UsageError
from agent99.groups._event import Event, event_of
from agent99.groups._parts import parts_of
from agent99.groups._start import Beginning, Start, check_start, find_beginning
from agent99.journal import Record

if TYPE_CHECKING:
    from agent99.agent import Mesh
    from agent99.groups._parts import Parts

Wanted = Callable[[Record], bool]
PREFETCH_MAX = 1_024
BATCH_MAX = 256

_log = logging.getLogger("agent99.groups")


async def read_events(
    of: Mesh | Agent, topics: str | Iterable[str] = ">", *, start: Start = "first"
) -> AsyncGenerator[Event, None]:
    """Yield the stored events of some topics that the log holds now, in its order, then end.

    Args:
        of: The open mesh, or an agent that runs on it.
        topics: A pattern of topics, or several, which must not overlap: the server filters.
        start: Where to begin.

    Delivery: each event once. What is no event is left out, with a warning in the log.

    Raises:
        UsageError, InvalidNameError: the patterns, or the start.
        StreamNotFoundError: nothing was ever appended on this mesh.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    parts = parts_of(of)
    subjects = _subjects(parts, (topics,) if isinstance(topics, str) else topics)
    check_start(start)
    beginning = await _beginning(parts, subjects, start)
    first, wanted = _first(beginning)
    async for record in _records(parts, subjects, first):
        for event in _events((record,), wanted):
            yield event


async def follow_events(
    of: Mesh | Agent, topics: Iterable[str] = (">",), *, start: Start = "new"
) -> AsyncGenerator[Event, None]:
    """Yield stored events as they come, in the log's order, for ever; wrap it in `aclosing`.

    Args:
        of: The open mesh, or an agent that runs on it.
        topics: Patterns of topics, which must not overlap: the server filters.
        start: Where to begin.

    Delivery: each event once, across restarts of the server and losses of the link. What is no
        event is left out, with a warning in the log.

    Raises:
        as `read_events`, but that an empty log is waited on.
    """
    parts = parts_of(of)
    subjects = _subjects(parts, topics)
    check_start(start)
    await parts.streams.ensure_log()
    beginning = await _beginning(parts, subjects, start)
    first, wanted = _first(beginning)
    tail = parts.journal.tail(
        parts.streams.log, subjects, from_sequence=first, prefetch_max=PREFETCH_MAX
    )
    async with tail as records:
        while True:
            for event in _events(await records.read(BATCH_MAX), wanted):
                yield event


def _subjects(parts: Parts, topics: Iterable[str]) -> tuple[str, ...]:
    patterns = tuple(Pattern(parse_pattern(topic)) for topic in topics)
    if not patterns:
        raise UsageError("no topics: say what is read, `>` for everything")
    subjects = tuple(map(parts.subjects.log_listen, patterns))
    try:
        parts.journal.tail(parts.streams.log, subjects)
    except UsageError:
        raise UsageError(f"the topics {', '.join(patterns)} overlap") from None
    return subjects


async def _records(
    parts: Parts, subjects: tuple[str, ...], from_sequence: int
) -> AsyncGenerator[Record, None]:
    """Yield what the log holds now of several subjects, in its order."""
    log = parts.streams.log
    end = (await parts.journal.stream_state(log)).last_sequence
    readers = [parts.journal.read(log, one, from_sequence=from_sequence) for one in subjects]
    heads: list[tuple[int, int, Record]] = []
    for at, reader in enumerate(readers):
        record = await anext(reader, None)
        if record is not None:
            heapq.heappush(heads, (record.sequence, at, record))
    while heads and heads[0][0] <= end:
        _, at, record = heads[0]
        yield record
        following = await anext(readers[at], None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following.sequence, at, following))


async def _beginning(parts: Parts, subjects: tuple[str, ...], start: Start) -> Beginning:
    return await find_beginning(
        parts.journal,
        parts.streams.log,
        subjects,
        start,
        now_us=parts.clock.wall_us(),
        partitions=1,
    )


def _first(beginning: Beginning) -> tuple[int, Wanted]:
    """Return from which sequence to read, and which records of those that come are wanted."""
    progress = beginning.progress(0)
    still_open = frozenset(progress.open)
    return (
        progress.position + 1,
        lambda record: record.sequence > progress.reached or record.sequence in still_open,
    )


def _events(records: Iterable[Record], wanted: Wanted) -> Iterator[Event]:
    """Yield what is wanted of some records, and is an event."""
    for record in filter(wanted, records):
        try:
            yield event_of(record)
        except BadRequestError as error:
            _log.warning("record %d of the log is no event: %s", record.sequence, error)
