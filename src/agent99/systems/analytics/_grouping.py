"""Which records of a batch go into which cell: by pane and key. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from agent99.systems.analytics._compute import Table
from agent99.systems.analytics._delta import Key
from agent99.systems.analytics._pipeline import Pipeline
from agent99.systems.analytics._windows import CountOf, Hopping, Session, Sliding, Tumbling, Window

Group = tuple[int, Key, Sequence[int]]
"""The records of a cell: its pane, its key, and their places in the table, rising; at least one."""


def groups_of(
    pipeline: Pipeline, table: Table, rows: int, ordinals: Mapping[Key, int]
) -> Iterator[Group]:
    """Yield the records of each cell; together they are all, each once.

    Args:
        pipeline: By whose window and key.
        table: The columns, in the order of the time, or with panes that `are_parted`; for windows
            by count in that in which they are stored.
        rows: How many records it has, at least one.
        ordinals: How many records each key had so far, for windows by count.
    """
    window = pipeline.window
    times = table[pipeline.source.time]
    if isinstance(window, CountOf):
        for key, places in _by_key(pipeline, table, 0, rows):
            yield from _counted(window.records, ordinals.get(key, 0), key, places)
    elif isinstance(window, Session):
        for key, places in _by_key(pipeline, table, 0, rows):
            yield from _fragments(window.gap_us, times, key, places)
    else:
        pane_us = 1 if isinstance(window, Sliding) else window.pane_us
        first = 0
        while first < rows:
            pane = times[first] // pane_us
            end = bisect_left(times, (pane + 1) * pane_us, first)
            for key, places in _by_key(pipeline, table, first, end):
                yield pane, key, places
            first = end


def are_parted(window: Window, times: Sequence[int]) -> bool:
    """Tell whether the records of each pane stand together, pane after pane, in whatever order.

    Where records are out of order by little they do, and need not be put in order: that would cost
    as much as all the rest. `groups_of` bisects the same times, and so finds the same ends; what is
    in no order may lie on either side of them, and is looked at here.
    """
    if not isinstance(window, Tumbling | Hopping):
        return False
    pane_us, first = window.pane_us, 0
    while first < len(times):
        start_us = times[first] // pane_us * pane_us
        end = bisect_left(times, start_us + pane_us, first)
        within = times[first:end]
        if min(within) < start_us or max(within) >= start_us + pane_us:
            return False
        first = end  # of a later pane: an end that is no end of all is a time that is not before it
    return True


def _by_key(
    pipeline: Pipeline, table: Table, first: int, end: int
) -> Iterable[tuple[Key, Sequence[int]]]:
    """Return where the records of each key are, from the place `first` on, before `end`."""
    if not pipeline.key:
        return [((), range(first, end))]
    columns = [table[name][first:end] for name in pipeline.key]
    if len(columns) > 1:
        return _places(zip(*columns, strict=True), first).items()
    (values,) = columns
    if values.count(values[0]) == len(values):  # one key has them all, as one often has
        return [((values[0],), range(first, end))]
    # A tuple for each key, not for each record.
    return [((value,), places) for value, places in _places(values, first).items()]


def _places(values: Iterable[Any], first: int) -> dict[Any, list[int]]:
    places: dict[Any, list[int]] = defaultdict(list)
    for place, value in enumerate(values, first):
        places[value].append(place)
    return places


def _fragments(
    gap_us: int, times: Sequence[int], key: Key, places: Sequence[int]
) -> Iterator[Group]:
    """Cut the records of a key where the next one is a gap or more away."""
    first = 0
    for last, (place, following) in enumerate(pairwise(places)):
        if times[following] - times[place] >= gap_us:
            yield times[places[first]], key, places[first : last + 1]
            first = last + 1
    yield times[places[first]], key, places[first:]


def _counted(records: int, before: int, key: Key, places: Sequence[int]) -> Iterator[Group]:
    """Cut the records of a key, which had some before, where a window of so many is full."""
    first = 0
    while first < len(places):
        end = first + records - (before + first) % records
        yield (before + first) // records, key, places[first:end]
        first = end
