"""What a bench reports: rows of figures, as a table or as JSON, and where it stands meanwhile."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from statistics import median
from types import TracebackType
from typing import Self

import msgspec

TOLERANCE = 0.1
"""A budget is met within a tenth of it: the machine drifts."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """One figure."""

    name: str
    value: float | None
    unit: str
    budget: float | None
    """None: a figure without a bound of its own."""
    met: bool | None
    why: str = ""
    """Why there is no value."""


def at_least(name: str, values: Sequence[float], unit: str, budget: float) -> Row:
    """Return the row of a budget from below; the median counts."""
    value = median(values)
    return Row(name, value, unit, budget, value >= budget * (1 - TOLERANCE))


def at_most(name: str, values: Sequence[float], unit: str, budget: float) -> Row:
    """Return the row of a budget from above; the median counts."""
    value = median(values)
    return Row(name, value, unit, budget, value <= budget * (1 + TOLERANCE))


def figure(name: str, values: Sequence[float], unit: str) -> Row:
    """Return the row of a figure that has no budget: the median."""
    return Row(name, median(values), unit, None, None)


def absent(name: str, unit: str, why: str) -> Row:
    """Return the row of what cannot be compared, because its peer is absent."""
    return Row(name, None, unit, None, None, why)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of each round: the machine drifts between rounds, not within one."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def print_json(rows: Sequence[Row]) -> None:
    """Print the rows as a JSON array, alone on standard output."""
    plain = [msgspec.to_builtins(row) for row in rows]
    print(msgspec.json.format(msgspec.json.encode(plain)).decode())


def print_table(rows: Sequence[Row]) -> None:
    """Print the rows for people."""
    lines = [("what", "measured", "must reach", "")]
    lines += [(row.name, _value(row), _budget(row), _verdict(row)) for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    for name, value, budget, verdict in lines:
        print(
            f"{name:<{widths[0]}}  {value:>{widths[1]}}  {budget:>{widths[2]}}  {verdict}".rstrip()
        )


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _value(row: Row) -> str:
    return "-" if row.value is None else f"{_number(row.value)} {row.unit}"


def _budget(row: Row) -> str:
    return "" if row.budget is None else _number(row.budget)


def _verdict(row: Row) -> str:
    if row.met is None:
        return row.why
    return "met" if row.met else "MISSED"


class Progress:
    """Where the bench stands: one line on standard error, by rich where it is installed."""

    def __init__(self) -> None:
        self._status: contextlib.AbstractContextManager[object] | None = None
        self._update: object = None
        if sys.stderr.isatty():
            with contextlib.suppress(ImportError):
                from rich.console import Console  # noqa: PLC0415 - optional

                self._status = status = Console(stderr=True).status("setting up")
                self._update = status.update

    def __repr__(self) -> str:
        return f"Progress(live={self._status is not None})"

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._status is not None:
            self._status.__exit__(kind, error, traceback)

    def say(self, text: str) -> None:
        """Tell what is measured now."""
        if callable(self._update):
            self._update(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def rounds(self, text: str, count: int) -> Iterator[int]:
        """Yield the numbers of the rounds, and tell each."""
        for number in range(1, count + 1):
            self.say(f"{text}: round {number} of {count}")
            yield number
