"""Follows the windows of a pipeline as they close, and tells which are anomalies. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from agent99.systems.analytics._anomalies import (
    FIRST,
    Anomaly,
    Baseline,
    Ewma,
    Figure,
    after,
    anomaly_of,
    figure_of,
    is_far,
)
from agent99.systems.analytics._board import key_order
from agent99.systems.analytics._changes import Change
from agent99.systems.analytics._delta import Key, WindowRow

KEPT_MAX: Final = 1_000
"""Windows of each key that are kept, to be looked at again where one is corrected."""

Place = tuple[int, int, int]
"""Of a window in the series of its key: its end, its start, its number."""


class _Seen(msgspec.Struct):
    """A window that has closed."""

    figure: Figure
    after: Baseline = FIRST
    """Of it and all before it."""
    told: Anomaly | None = None
    """What was told of it last; None: nothing, or that it is cleared."""


class _Series:
    """The windows of a key, in order.

    Invariant: places grow; each window's baseline is made of all before it, and of itself.
    """

    def __init__(self) -> None:
        self.seen: Final[list[_Seen]] = []
        self._forgotten: Place | None = None
        """Of the last window that is not kept any more."""
        self._before = FIRST
        """Of the windows that are not kept any more."""

    def __repr__(self) -> str:
        return f"_Series({len(self.seen)})"

    def put(self, figure: Figure) -> int | None:
        """Put a window in its place; returns where that is, None if nothing changes by it."""
        place = _place(figure)
        if self._forgotten is not None and place <= self._forgotten:
            return None
        at = bisect_left(self.seen, place, key=lambda one: _place(one.figure))
        if at == len(self.seen) or _place(self.seen[at].figure) != place:
            self.seen.insert(at, _Seen(figure))
        elif figure.revision > self.seen[at].figure.revision:
            self.seen[at].figure = figure
        else:
            return None
        return at

    def since(self, first: int) -> Iterator[tuple[_Seen, Baseline]]:
        """Yield the windows from one on, with what was before each."""
        before = self.seen[first - 1].after if first else self._before
        for one in self.seen[first:]:
            yield one, before
            before = one.after

    def forget(self) -> None:
        """Keep no more than there may be."""
        excess = len(self.seen) - KEPT_MAX
        if excess > 0:
            self._before = self.seen[excess - 1].after
            self._forgotten = _place(self.seen[excess - 1].figure)
            del self.seen[:excess]


class Detector:
    """Tells what becomes an anomaly, and what is none any more.

    Invariant: what it has told, each window by its last word, is what `find_anomalies` says of all
    rows so far; but for windows that were corrected when 1,000 later ones of their key were closed.

    Args:
        figure: As `find_anomalies` is given it.
        rule: What an anomaly is.
        key: Of which key alone; None: of all.
    """

    def __init__(self, figure: str, rule: Ewma, key: Key | None = None) -> None:
        self._figure: Final = figure
        self._rule: Final = rule
        self._key: Final = key
        self._series: dict[Key, _Series] = {}

    def __repr__(self) -> str:
        return f"Detector({self._figure!r}, {self._rule!r}, keys={len(self._series)})"

    def take(self, change: Change) -> list[Anomaly]:
        """Return what has become an anomaly, or is one in another revision, and what is cleared.

        A snapshot takes the place of all rows before it: what is no anomaly by it is cleared, and
        what is one is told again.

        Raises:
            UsageError: the rows have no such figure, or it is no number.
        """
        if not change.is_snapshot:
            return self._take(change.rows)
        known = {_name(one): one for one in self._told()}
        self._series = {}
        told = self._take(change.rows)
        for one in told:
            known.pop(_name(one), None)
        return [*map(_cleared, known.values()), *told]

    def _take(self, rows: Iterable[WindowRow]) -> list[Anomaly]:
        of_keys: dict[Key, list[WindowRow]] = {}
        for row in rows:
            if self._key is None or row.key == self._key:
                of_keys.setdefault(row.key, []).append(row)
        found = [one for key, several in of_keys.items() for one in self._look(key, several)]
        return sorted(found, key=lambda one: (one.end_us, key_order(one.key), one.start_us))

    def _look(self, key: Key, rows: list[WindowRow]) -> Iterator[Anomaly]:
        """Look at the windows of a key again, from the first one that has changed."""
        series = self._series.setdefault(key, _Series())
        rows.sort(key=lambda row: (row.end_us, row.start_us, row.number, row.revision))
        places = [series.put(figure_of(row, self._figure)) for row in rows]
        changed = [place for place in places if place is not None]
        if not changed:
            return
        for seen, before in series.since(min(changed)):
            seen.after = after(seen.figure, before, self._rule)
            was, seen.told = seen.told, None
            is_anomaly = is_far(seen.figure, before, self._rule)
            if was is None and not is_anomaly:
                continue
            found = anomaly_of(rows[0].pipeline, self._figure, key, seen.figure, before)
            if not is_anomaly:
                yield _cleared(found)
                continue
            seen.told = found
            if was is None or was.revision != found.revision:
                yield found
        series.forget()

    def _told(self) -> Iterator[Anomaly]:
        for series in self._series.values():
            yield from (one.told for one in series.seen if one.told is not None)


def _place(figure: Figure) -> Place:
    return figure.end_us, figure.start_us, figure.number


def _name(one: Anomaly) -> tuple[object, ...]:
    return one.key, one.start_us, one.end_us, one.number


def _cleared(one: Anomaly) -> Anomaly:
    return msgspec.structs.replace(one, is_cleared=True)
