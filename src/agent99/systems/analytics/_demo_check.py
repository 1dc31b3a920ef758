"""Whether every window says what it must: a pipeline's rows beside the truth. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from agent99.systems.analytics._delta import WindowRow

ERROR_MAX: Final = 0.01
"""Of a quantile, relative: what Quantiles promises."""
EXAMPLES_MAX: Final = 3
"""Windows of a pipeline that are named where they differ."""
Window: TypeAlias = tuple[int, int, tuple[Any, ...]]
"""Start and end in microseconds since the epoch, and the key."""
Windows: TypeAlias = Mapping[Window, Mapping[str, Any]]
"""What each window must say: figures by their names, an exact one as it is."""


class Ranking(NamedTuple):
    """What a list of the first so many must say: which of equal ones stand in it is free."""

    weights: Mapping[Any, int]
    """Of everything."""
    first: int

    def fits(self, said: Sequence[tuple[Any, int]]) -> bool:
        """Tell whether these are the heaviest, each with its weight, in that order."""
        heaviest = sorted(self.weights.values(), reverse=True)[: self.first]
        is_true = all(self.weights.get(value) == weight for value, weight in said)
        return is_true and heaviest == [weight for _, weight in said]


class Spread(NamedTuple):
    """What quantiles must say: each is between the values of the ranks around it, or near them."""

    bounds: Mapping[str, tuple[float, float]]
    """By fraction: the values of the lower and of the higher rank."""

    def error(self, said: Mapping[str, float]) -> float:
        """Return how far the worst is from there, as a share of the value."""
        return max(
            _error(said.get(fraction, inf), *values) for fraction, values in self.bounds.items()
        )


def _error(said: float, low: float, high: float) -> float:
    if said < low:
        return (low - said) / low
    return (said - high) / high if said > high else 0.0


class Verdict(msgspec.Struct, kw_only=True):
    """What a comparison of a pipeline's windows has found."""

    pipeline: str
    windows: int
    """That there must be."""
    missing: int = 0
    extra: int = 0
    """That there must not be."""
    wrong: int = 0
    """With another figure."""
    error: float = 0.0
    """Of its quantiles, relative, where it is largest."""
    examples: list[str] = []

    @property
    def is_sound(self) -> bool:
        """Whether every window is there, and says what it must."""
        return not (self.missing or self.extra or self.wrong)


def compare(pipeline: str, rows: Iterable[WindowRow], truth: Windows) -> Verdict:
    """Compare the rows of a pipeline, one for each window, with what they must be.

    Rows that were taken back stand for no window.
    """
    verdict = Verdict(pipeline=pipeline, windows=len(truth))
    left = dict(truth)
    examples: list[str] = []
    for row in rows:
        window = (row.start_us, row.end_us, tuple(row.key))
        if row.is_retracted:
            continue
        expected = left.pop(window, None)
        if expected is None:
            verdict.extra += 1
            examples.append(f"{window} must not be there")
        elif differences := _differences(row.values, expected, verdict):
            verdict.wrong += 1
            examples.append(f"{window}: {', '.join(differences)}")
    verdict.missing = len(left)
    examples += [f"{window} is missing" for window in left]
    verdict.examples = examples[:EXAMPLES_MAX]
    return verdict


def _differences(
    said: Mapping[str, Any], expected: Mapping[str, Any], verdict: Verdict
) -> list[str]:
    """Return what a window says that it must not; note how far its estimates are off."""
    found: list[str] = []
    for name, figure in expected.items():
        value = said.get(name)
        if value is None:
            is_right = False
        elif isinstance(figure, Spread):
            error = figure.error(value)
            verdict.error = max(verdict.error, error)
            is_right = error <= ERROR_MAX
        elif isinstance(figure, Ranking):
            is_right = figure.fits(value)
        else:
            is_right = value == figure
        if not is_right:
            found.append(f"{name} is {value!r}")
    return found
