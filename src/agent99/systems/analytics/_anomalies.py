"""Windows whose figure is far from what their key had before, by an exponentially weighted mean.

Pure: a function of the latest rows of closed windows, in the order of their ends. In which order
they came, and how often they were corrected, does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf, sqrt
from typing import Any, Final, cast

import msgspec

from agent99.errors import UsageError
from agent99.systems.analytics._board import row_order
from agent99.systems.analytics._delta import Key, WindowRow

CLAMP: Final = 3.0
"""So many deviations from the mean a value moves it, at most."""
VALUE_MAX: Final = 1e150
"""By size: the square of a larger one is no float."""
_SHOWN_CHARACTERS: Final = 60


class Ewma(msgspec.Struct, frozen=True, kw_only=True):
    """Which values are anomalies: those far from the weighted mean of their key's earlier windows.

    Of the windows of a key before one, in the order of their ends, each has the weight
    2^(-age / `half_life`); the age of the last one is 0. With their mean and their deviation (the
    square root of their variance), the score of a value is (value - mean) / deviation, and it is an
    anomaly if that is more than `threshold` by size.

    Where all before had one value the deviation is 0, and any other value an anomaly, with an
    infinite score. It comes in whole. Otherwise a value that is more than 3 deviations from the
    mean counts as one of 3 deviations for what follows: one anomaly hides no other behind it, and a
    level that stays becomes usual all the same, within some windows (of a normal series, a level
    of 10 deviations off within about 11, and of 100 within about 34).

    Sources: S. W. Roberts, "Control Chart Tests Based on Geometric Moving Averages", Technometrics
    1(3), 1959; T. Finch, "Incremental calculation of weighted mean and variance", University of
    Cambridge, 2009, section 9; the clamp is that of S. Gelper, R. Fried and C. Croux, "Robust
    forecasting with exponential and Holt-Winters smoothing", Journal of Forecasting 29(3), 2010.

    Raises:
        UsageError: one of these is out of its range.
    """

    threshold: float = 3.0
    """In deviations; more than 0."""
    half_life: float = 24.0
    """After so many windows a window counts half; more than 0. They are windows in which the key
    has records, whatever time lies between them."""
    warm_up: int = 20
    """So many windows of a key come first, of which none is an anomaly; 2 or more."""

    def __post_init__(self) -> None:
        for name in ("threshold", "half_life"):
            number = getattr(self, name)
            if type(number) not in (int, float) or not 0 < number < inf:
                raise UsageError(f"{name} is {number!r}; a number above 0")
        if type(self.warm_up) is not int or self.warm_up < 2:
            raise UsageError(f"warm_up is {self.warm_up!r}; 2 windows or more")


USUAL: Final = Ewma()


class Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    """A window whose figure is far from what its key had before."""

    pipeline: str
    figure: str
    key: Key
    start_us: int
    """Of the window, as `end_us` and `number`: as its row has them."""
    end_us: int
    number: int = 0
    value: float | None
    """Of the figure. None: the window was taken back, so that it is cleared."""
    expected: float
    """The mean of the earlier windows."""
    deviation: float
    """That of the earlier windows from this mean; 0: they all had one value."""
    score: float
    """How many deviations the value is above the mean, or below it, with a minus; infinite where
    the deviation is 0, which JSON says as null."""
    revision: int
    """Of the row: more than 1 where the window was corrected."""
    is_cleared: bool = False
    """It was told as an anomaly, and is none any more: it, or a window before it, was corrected."""


class Baseline(msgspec.Struct, frozen=True):
    """What the earlier windows of a key had. Private to the room."""

    windows: int = 0
    weight: float = 0.0
    """The sum of their weights."""
    mean: float = 0.0
    variance: float = 0.0

    @property
    def deviation(self) -> float:
        """How far they are from their mean."""
        return sqrt(self.variance)


FIRST: Final = Baseline()


class Figure(msgspec.Struct, frozen=True):
    """The number that a window gives to a series. Private to the room."""

    start_us: int
    end_us: int
    number: int
    revision: int
    value: float | None
    """None: there is none, and the window is passed over."""


def find_anomalies(rows: Iterable[WindowRow], figure: str, rule: Ewma = USUAL) -> list[Anomaly]:
    """Return the windows whose figure is an anomaly; by their ends, then their keys.

    Args:
        rows: Closed windows, from the first one on, in any order: `Run.result`, what
            `Analytics.query` returns, or `rows_of` events. Of several rows of one window the latest
            counts. Open ones are left out, and those without a value, or whose values were cut.
        figure: An aggregate whose values are numbers; one of the quantiles as `"quantiles.0.99"`.
        rule: What an anomaly is.

    Raises:
        UsageError: the rows have no such figure, or it is no number.
    """
    baselines: dict[tuple[str, Key], Baseline] = {}
    found: list[Anomaly] = []
    for row in _latest(rows):
        one = figure_of(row, figure)
        if one.value is None:
            continue
        series = row.pipeline, row.key
        before = baselines.get(series, FIRST)
        if is_far(one, before, rule):
            found.append(anomaly_of(row.pipeline, figure, row.key, one, before))
        baselines[series] = after(one, before, rule)
    return found


def ending_after(time_us: int | None, found: list[Anomaly]) -> list[Anomaly]:
    """Return those of windows that end after a moment, microseconds since the epoch; None: all."""
    return [one for one in found if time_us is None or one.end_us > time_us]


def figure_of(row: WindowRow, figure: str) -> Figure:
    """Return what a row gives to the series of its key.

    Raises:
        UsageError: it has no such figure, or it is no number.
    """
    value = None if row.is_retracted or row.is_cut else _number(row, figure)
    return Figure(row.start_us, row.end_us, row.number, row.revision, value)


def after(one: Figure, before: Baseline, rule: Ewma) -> Baseline:
    """Return the baseline of the windows behind one: by Finch's recurrence, with a falling share.

    It is the same as all weights anew: this window has its share of the sum of the weights, which
    falls from 1 to that of an endless series.
    """
    value = one.value
    if value is None:
        return before
    if before.windows >= rule.warm_up and before.variance > 0:
        reach = CLAMP * before.deviation
        value = min(max(value, before.mean - reach), before.mean + reach)
    weight = 1 + before.weight * 0.5 ** (1 / rule.half_life)
    difference, share = value - before.mean, 1 / weight
    mean = before.mean + share * difference
    variance = (1 - share) * (before.variance + share * difference * difference)
    return Baseline(before.windows + 1, weight, mean, variance)


def is_far(one: Figure, before: Baseline, rule: Ewma) -> bool:
    """Tell whether a window is an anomaly."""
    return before.windows >= rule.warm_up and abs(_score(one, before)) > rule.threshold


def anomaly_of(pipeline: str, figure: str, key: Key, one: Figure, before: Baseline) -> Anomaly:
    """Return what is told of a window."""
    return Anomaly(
        pipeline=pipeline,
        figure=figure,
        key=key,
        start_us=one.start_us,
        end_us=one.end_us,
        number=one.number,
        value=one.value,
        expected=before.mean,
        deviation=before.deviation,
        score=_score(one, before),
        revision=one.revision,
    )


def _score(one: Figure, before: Baseline) -> float:
    difference = 0.0 if one.value is None else one.value - before.mean
    if difference == 0:
        return 0.0
    if before.variance == 0:
        return inf if difference > 0 else -inf
    return difference / before.deviation


def _latest(rows: Iterable[WindowRow]) -> Iterator[WindowRow]:
    """Return the latest row of each closed window, in order."""
    latest: dict[tuple[object, ...], WindowRow] = {}
    for row in rows:
        name = (row.pipeline, row.key, row.start_us, row.end_us, row.number)
        known = latest.get(name)
        if row.state == "closed" and (known is None or row.revision > known.revision):
            latest[name] = row
    return iter(sorted(latest.values(), key=row_order))


def _number(row: WindowRow, figure: str) -> float | None:
    value = row.values[figure] if figure in row.values else _part(row, figure)
    if value is None:
        return None
    if _parts(value):
        names = ", ".join(_names({figure: value}))
        raise UsageError(f"{_what(row, figure)} has several numbers; say one of {names}")
    if type(value) not in (int, float):
        raise UsageError(f"{_what(row, figure)} is no number, but {value!r:.{_SHOWN_CHARACTERS}}")
    return value if abs(value) <= VALUE_MAX else None


def _part(row: WindowRow, figure: str) -> Any:
    """Return one of the numbers of a figure that has several."""
    for name, value in row.values.items():
        part = figure.removeprefix(f"{name}.")
        if part == figure:
            continue
        if value is None:
            return None
        if part in (parts := _parts(value)):
            return parts[part]
    names = ", ".join(_names(row.values))
    raise UsageError(f"pipeline {row.pipeline!r} has no figure {figure!r}; it has {names}")


def _names(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        parts = _parts(value)
        yield from (f"{name}.{part}" for part in parts) if parts else (name,)


def _parts(value: Any) -> Mapping[str, Any]:
    """Return the numbers of a figure that has several; none: it has one, or is none."""
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _what(row: WindowRow, figure: str) -> str:
    return f"figure {figure!r} of pipeline {row.pipeline!r}"
