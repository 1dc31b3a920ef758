"""Windows by definition: over all records at once, by loops that nobody could get wrong."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from agent99.systems.analytics import CountOf, Hopping, Pipeline, Session, Sliding, Tumbling
from agent99.systems.analytics._delta import Cell, Key, Panes, WindowRow
from agent99.systems.analytics._windows import Window


class Tick(msgspec.Struct, frozen=True):
    """A record of the tests: `number` tells it from all others."""

    at_us: int
    who: str
    number: int


class Bag(msgspec.Struct, frozen=True):
    """The aggregate that shows everything: which values a window has, each as often as it came."""

    column: str = "number"

    @property
    def columns(self) -> tuple[str, ...]:
        """The one column."""
        return (self.column,)

    def misfit(self, _column: str, _kind: type, /) -> str:
        """It takes every column."""
        return ""

    def fold(self, _rows: int, /, *values: Sequence[Any]) -> tuple[Any, ...]:
        """Return the values, sorted."""
        return tuple(sorted(values[0]))

    def merge(self, states: Sequence[tuple[Any, ...]], /) -> tuple[Any, ...]:
        """Return all values, sorted."""
        return tuple(sorted(value for state in states for value in state))

    def show(self, state: tuple[Any, ...], _size_s: float, /) -> list[Any]:
        """Return the values, sorted."""
        return list(state)


class Name(NamedTuple):
    """Which window: what tells it from all others of its pipeline."""

    key: Key
    start_us: int
    end_us: int
    number: int


def name_of(row: WindowRow) -> Name:
    """Return which window a row is of."""
    return Name(row.key, row.start_us, row.end_us, row.number)


Ordinals = dict[int, int]
"""Of windows by count: for each record (by number), how many of its key came before it."""


def ordinals_of(ticks: Iterable[Tick]) -> Ordinals:
    """Number the records of each key in the order in which they come."""
    seen: dict[str, int] = {}
    found: Ordinals = {}
    for tick in ticks:
        found[tick.number] = seen.get(tick.who, 0)
        seen[tick.who] = found[tick.number] + 1
    return found


def windows_of(window: Window, ticks: Iterable[Tick], ordinals: Ordinals) -> dict[Name, list[int]]:
    """Return the numbers of the records in each window that has some."""
    by_key: dict[Key, list[Tick]] = {}
    for tick in ticks:
        by_key.setdefault((tick.who,), []).append(tick)
    return {
        Name(key, *span): sorted(tick.number for tick in inside)
        for key, mine in by_key.items()
        for span, inside in _of_key(window, sorted(mine, key=_time), ordinals)
    }


def _time(tick: Tick) -> int:
    return tick.at_us


def _of_key(
    window: Window, ticks: list[Tick], ordinals: Ordinals
) -> list[tuple[tuple[int, int, int], list[Tick]]]:
    if isinstance(window, Session):
        return _sessions(window.gap_us, ticks)
    if isinstance(window, CountOf):
        return _by_count(window.records, ticks, ordinals)
    if isinstance(window, Sliding):
        spans = {(tick.at_us - window.size_us + 1, tick.at_us + 1) for tick in ticks}
    else:
        every_us = window.every_us if isinstance(window, Hopping) else window.size_us
        first_us = (ticks[0].at_us - window.size_us) // every_us * every_us
        starts = range(first_us, ticks[-1].at_us + 1, every_us)
        spans = {(start, start + window.size_us) for start in starts}
    times = [tick.at_us for tick in ticks]
    found = [
        ((start, end, 0), ticks[bisect_left(times, start) : bisect_left(times, end)])
        for start, end in sorted(spans)
    ]
    return [(span, inside) for span, inside in found if inside]


def _sessions(gap_us: int, ticks: list[Tick]) -> list[tuple[tuple[int, int, int], list[Tick]]]:
    sessions: list[list[Tick]] = []
    for tick in ticks:
        if sessions and tick.at_us - sessions[-1][-1].at_us < gap_us:
            sessions[-1].append(tick)
        else:
            sessions.append([tick])
    return [((one[0].at_us, one[-1].at_us + gap_us, 0), one) for one in sessions]


def _by_count(
    records: int, ticks: list[Tick], ordinals: Ordinals
) -> list[tuple[tuple[int, int, int], list[Tick]]]:
    several: dict[int, list[Tick]] = {}
    for tick in ticks:
        several.setdefault(ordinals[tick.number] // records, []).append(tick)
    return [((one[0].at_us, one[-1].at_us + 1, number), one) for number, one in several.items()]


def delta_of(pipeline: Pipeline, ticks: Iterable[Tick], ordinals: Ordinals) -> Panes:
    """Fold records one by one: each makes a pane of its own, which is merged to those before."""
    panes: Panes = {}
    for tick in ticks:
        pane, cell = _pane_of(pipeline.window, tick, ordinals), _cell_of(pipeline, tick)
        cells = panes.setdefault(pane, {})
        known = cells.get((tick.who,))
        cells[tick.who,] = cell if known is None else _merged(pipeline, known, cell)
    return panes


def _pane_of(window: Window, tick: Tick, ordinals: Ordinals) -> int:
    if isinstance(window, Tumbling | Hopping):
        return tick.at_us // window.pane_us
    if isinstance(window, CountOf):
        return ordinals[tick.number] // window.records
    return tick.at_us


def _cell_of(pipeline: Pipeline, tick: Tick) -> Cell:
    has_times = isinstance(pipeline.window, Session | CountOf)
    times = [tick.at_us, tick.at_us] if has_times else []
    figures = [
        one.fold(1, *([getattr(tick, column)] for column in one.columns))
        for one in pipeline.aggregates.values()
    ]
    return [1, *times, *figures]


def _merged(pipeline: Pipeline, one: Cell, other: Cell) -> Cell:
    return [
        measure.merge(states)
        for measure, *states in zip(pipeline.measures, one, other, strict=True)
    ]
