"""Where reading begins: with what there is, what comes, a place, a moment, or what is newest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias

import msgspec

from agent99.clock import Clock
from agent99.envelope import PARTITIONS, parse_log
from agent99.errors import InvalidNameError, UsageError
from agent99.groups._place import Progress
from agent99.journal import Journal

Word = Literal["first", "new", "last", "last-per-key"]
Start: TypeAlias = Word | int | datetime
"""Where reading begins:

- `first`: the oldest event that the log holds;
- `new`: what is appended from now on;
- `last`: the newest event that is there, then what comes;
- `last-per-key`: the newest event of each key, then what comes;
- a sequence of the log: that event, or the next one;
- a moment, with its time zone: the first event that was stored then or later.
"""
WORDS: Final[tuple[Word, ...]] = ("first", "new", "last", "last-per-key")
KEYS_MAX: Final = 10_000
"""Of one partition, from whose last events a group can begin."""
_DIGITS_MAX: Final = 128
"""Of a number in a text; Python reads some thousands, and no more."""
_SHOWN_MAX: Final = 80
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Beginning(msgspec.Struct, frozen=True):
    """From where the partitions are read."""

    position: int
    """Behind this sequence, each of them."""
    open: dict[int, tuple[int, ...]] = {}
    """By partition: before that, these alone."""

    def progress(self, partition: int) -> Progress:
        """Return how far a partition is."""
        still_open = self.open.get(partition, ())
        if not still_open:
            return Progress(position=self.position)
        return Progress(position=still_open[0] - 1, reached=self.position, open=still_open)


def check_start(start: Start) -> None:
    """Refuse what is no place to begin.

    Raises:
        UsageError
    """
    if isinstance(start, bool) or not isinstance(start, (str, int, datetime)):
        raise UsageError(f"start is {start!r}: a word, a sequence or a moment")
    if isinstance(start, str) and start not in WORDS:
        raise UsageError(f"start is {start!r}; there are {', '.join(WORDS)}, and places")
    if isinstance(start, int) and not 1 <= start < 2**63:
        raise UsageError(f"start is {start}: sequences begin with 1")
    if isinstance(start, datetime) and start.tzinfo is None:
        raise UsageError(f"start is {start.isoformat()}: it has no time zone")


def parse_start(text: str, clock: Clock) -> Start:
    """Return a start as a command line or an operation gives it.

    Args:
        text: One of the words, a sequence, a moment in ISO 8601 (without a zone: UTC), or a
            duration before now, such as `-90s`, `-15m`, `-2h`, `-1d`.

    Raises:
        UsageError: it is none.
    """
    if text in WORDS:
        return text
    if len(text) <= _DIGITS_MAX and text.isdecimal() and text.isascii():
        check_start(int(text))
        return int(text)
    unit = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}.get(text[-1:], 0)
    if text.startswith("-") and unit and text[1:-1].isdecimal() and len(text) <= _DIGITS_MAX:
        ago = timedelta(seconds=min(int(text[1:-1]) * unit, 10**9))
        return _EPOCH + timedelta(microseconds=clock.wall_us()) - ago
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        shown = text[:_SHOWN_MAX]
        raise UsageError(
            f"{shown!r} is no place in the log: {', '.join(WORDS)}, a sequence, a moment such as"
            " 2026-03-01T12:00:00Z, or a duration before now such as -15m"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


async def find_beginning(
    journal: Journal,
    stream: str,
    subjects: Sequence[str],
    start: Start,
    *,
    now_us: int,
    partitions: int = PARTITIONS,
) -> Beginning:
    """Return where in the log a start is.

    Args:
        subjects: Of all events that are read.
        partitions: That are shared: 64, or 1 for all in one.
        now_us: The time, microseconds since the epoch.

    Raises:
        UsageError: it lies in the future; or `last-per-key` of more than 10,000 keys of a
            partition.
        JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
    """
    end = (await journal.stream_state(stream)).last_sequence
    if start == "last-per-key":
        last = await _last_per_key(journal, stream, subjects, end)
        still_open: dict[int, list[int]] = defaultdict(list)
        for partition, sequences in last.items():
            still_open[partition % partitions] += sequences
        for partition, sequences in still_open.items():
            if len(sequences) > KEYS_MAX:
                raise UsageError(
                    f"partition {partition} has {len(sequences):,} keys, more than {KEYS_MAX:,}:"
                    " begin elsewhere"
                )
        return Beginning(end, {part: tuple(sorted(each)) for part, each in still_open.items()})
    if isinstance(start, int):
        if start > end + 1:
            raise UsageError(f"start is {start}, in the future: the log ends with {end}")
        return Beginning(start - 1)
    if isinstance(start, datetime):
        return Beginning(await _behind_moment(journal, stream, start, now_us, end))
    if start == "last":
        newest = [await journal.last(stream, subject) for subject in subjects]
        found = [record.sequence - 1 for record in newest if record is not None]
        return Beginning(max(found, default=end))
    return Beginning(0 if start == "first" else end)


async def _behind_moment(
    journal: Journal, stream: str, moment: datetime, now_us: int, end: int
) -> int:
    """Return the sequence before the first event that was stored at a moment or later."""
    moment_us = (moment - _EPOCH) // timedelta(microseconds=1)
    if moment_us > now_us:
        raise UsageError(f"start is {moment.isoformat()}, in the future")
    async for record in journal.read(stream, from_us=max(moment_us, 0)):
        return record.sequence - 1
    return end


async def _last_per_key(
    journal: Journal, stream: str, subjects: Sequence[str], end: int
) -> dict[int, list[int]]:
    """Return, by partition, the sequences of the last events of its keys."""
    last: dict[int, dict[str, int]] = defaultdict(dict)
    for subject in subjects:
        async for record in journal.read(stream, subject):
            if record.sequence > end:
                break
            try:
                place = parse_log(record.subject)
            except InvalidNameError:
                continue  # it has no key that anything could be the last of
            keys = last[place.partition]
            keys[place.key] = max(record.sequence, keys.get(place.key, 0))
    return {partition: list(keys.values()) for partition, keys in last.items()}
