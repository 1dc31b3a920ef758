"""What records add to a pipeline: cells of states by pane and key, merged in any order. Pure."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from agent99.systems.analytics._figures import State

Scalar = int | float | str | bool | None
Key = tuple[Scalar, ...]
Cell = list[State]
"""By the pipeline's measures (`Pipeline.measures`): the first counts the records; of a session and
of a window by count, the next two are the earliest and the latest time."""
Panes = dict[int, dict[Key, Cell]]
"""By pane, then by key.

| window | a pane is |
|---|---|
| Tumbling, Hopping | time // pane_us |
| Sliding | the time itself, microseconds |
| Session | the time of the first record of a fragment: of records less than the gap apart |
| CountOf | which window of the key it is, from 0 on |
"""
_encode_key = msgspec.json.Encoder().encode
_decode_key = msgspec.json.Decoder(Key).decode


class Counts(msgspec.Struct, kw_only=True):
    """What became of the records of a pipeline: `on_time + late + dropped + skipped = records`."""

    records: int = 0
    on_time: int = 0
    late: int = 0
    """Behind the watermark, but taken: they may have corrected a window that was closed."""
    dropped: int = 0
    """Too late: they are in the side stream, and in no window."""
    skipped: int = 0
    """`where` left them out."""

    @property
    def is_closed(self) -> bool:
        """Whether every record is in exactly one count."""
        return self.records == self.on_time + self.late + self.dropped + self.skipped


class WindowRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a window says of one key."""

    pipeline: str
    start_us: int
    """Its beginning, microseconds since the epoch, UTC."""
    end_us: int
    """Its end; the window has what is before it."""
    key: Key
    """In the order of `Pipeline.key`."""
    values: dict[str, Any]
    """By the names of `Pipeline.aggregates`."""
    rows: int
    """Records in it; 0 of a row that is taken back."""
    state: Literal["open", "closed"]
    revision: int = 1
    """1 when it closes; each correction, by records that were late, adds 1. 0 while it is open."""
    is_retracted: bool = False
    """It is no window any more: a late record has made a session longer, or joined it with another,
    which is another window."""
    is_cut: bool = False
    """Its values are more than a message holds, and left out here: the database has them."""
    number: int = 0
    """Of a window by count: which of its key's it is, from 0 on. Two of these may have the same
    times, so (key, start, end, number) names a window for good."""


def key_text(key: Key) -> str:
    """Return a key as a database, a page and a sink name it: JSON."""
    return _encode_key(key).decode()


def key_of(text: str) -> Key:
    """Return the key that a text of `key_text` names."""
    return _decode_key(text)
