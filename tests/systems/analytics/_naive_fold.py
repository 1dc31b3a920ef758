"""What a pipeline makes of records, one at a time: the plain model beside the fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from statistics import mean, pvariance
from typing import Any

import msgspec

from agent99.systems.analytics import (
    Aggregate,
    Count,
    CountOf,
    Distinct,
    Max,
    Mean,
    Min,
    Quantiles,
    Rate,
    Session,
    Sliding,
    Source,
    Sum,
    TopK,
    Variance,
    Window,
)
from agent99.systems.analytics._delta import Counts, Key, Panes


class Hit(msgspec.Struct, frozen=True):
    """A record with a field of each type."""

    at: int
    page: str
    user: str | None
    bytes: int | None
    seconds: float


HITS = Source("hits", Hit, time="at", delay_s=2)
FIGURES: dict[str, Aggregate] = {
    "hits": Count(),
    "rate": Rate(),
    "bytes": Sum("bytes"),
    "least": Min("bytes"),
    "greatest": Max("seconds"),
    "last_user": Max("user"),
    "mean": Mean("bytes"),
    "variance": Variance("bytes"),
    "double": Sum("double"),
    "users": Distinct("user"),
    "top": TopK("user", 2),
    "heavy": TopK("page", 3, weight="double"),
    "seconds": Quantiles("seconds", (0, 0.5, 1)),
}
"""Every figure, of columns with None and of a computed one."""


def double(bytes: int | None) -> int:  # noqa: A002 - the field's name
    """Compute a column."""
    return 2 * (bytes or 0)


Figure = Callable[[Sequence[Hit]], Any]
NAIVE: dict[str, Figure] = {
    "hits": len,
    "bytes": lambda hits: sum(_some(hits, "bytes")),
    "least": lambda hits: min(_some(hits, "bytes"), default=None),
    "greatest": lambda hits: max(_some(hits, "seconds")),
    "last_user": lambda hits: max(_some(hits, "user"), default=None),
    "double": lambda hits: sum(double(hit.bytes) for hit in hits),
    "users": lambda hits: len(set(_some(hits, "user"))),
    "top": lambda hits: _top(Counter(_some(hits, "user")), 2),
    "heavy": lambda hits: _heavy(hits, 3),
}
"""The figures that are exact; the others are compared within their error by `is_close`."""


class Model:
    """Takes records one at a time, and keeps all of them."""

    def __init__(self, window: Window, lateness_us: int, horizon_us: int | None = None) -> None:
        self.window = window
        self.lateness_us = lateness_us
        self.watermark_us = None if horizon_us is None else horizon_us + lateness_us
        self.latest_us: int | None = None
        self.counts = Counts()
        self.dropped: list[int] = []
        self.cells: dict[tuple[int, Key], list[Hit]] = {}
        self.ordinals: Counter[Key] = Counter()

    def __repr__(self) -> str:
        return f"Model({self.window!r}, {self.counts!r})"

    def take(self, hit: Hit, key: Key, *, is_taken: bool = True) -> None:
        """Take a record; `is_taken`: what the condition says of it."""
        before = [] if self.latest_us is None else [self.latest_us - HITS.delay_us]
        if self.watermark_us is not None:
            before.append(self.watermark_us)
        behind_us = max(before, default=hit.at) - hit.at
        self.latest_us = max(hit.at, hit.at if self.latest_us is None else self.latest_us)
        self.counts.records += 1
        if not is_taken:
            self.counts.skipped += 1
            return
        if isinstance(self.window, CountOf) or behind_us <= 0:
            self.counts.on_time += 1
        elif behind_us <= self.lateness_us:
            self.counts.late += 1
        else:
            self.counts.dropped += 1
            self.dropped.append(self.counts.records - 1)
            return
        self.cells.setdefault((self._pane(hit.at, key), key), []).append(hit)

    def _pane(self, at: int, key: Key) -> int:
        if isinstance(self.window, CountOf):
            self.ordinals[key] += 1
            return (self.ordinals[key] - 1) // self.window.records
        if isinstance(self.window, Session):
            return 0  # sessions are made of all records of a key, at the end
        return at if isinstance(self.window, Sliding) else at // self.window.pane_us

    def windows(self) -> dict[tuple[int, Key], list[Hit]]:
        """Return the records of each pane and key; of a session, the pane is its first time."""
        if not isinstance(self.window, Session):
            return self.cells
        sessions: dict[tuple[int, Key], list[Hit]] = {}
        for (_, key), hits in self.cells.items():
            session: list[Hit] = []
            for hit in sorted(hits, key=lambda hit: hit.at):
                if not session or hit.at - session[-1].at >= self.window.gap_us:
                    session = sessions.setdefault((hit.at, key), [])
                session.append(hit)
        return sessions


def by_key(panes: Panes) -> dict[tuple[int, Key], list[Any]]:
    """Return cells by pane and key."""
    return {(pane, key): cell for pane, cells in panes.items() for key, cell in cells.items()}


def is_close(name: str, shown: Any, hits: Sequence[Hit], size_s: float) -> bool:
    """Tell whether a figure that is rounded, or within an error, is what the records make."""
    numbers = list(_some(hits, "bytes"))
    if name == "rate":
        return bool(shown == len(hits) / size_s)
    if name in ("mean", "variance"):
        if not numbers:
            return shown is None
        exact = Fraction(mean(map(Fraction, numbers)))
        if name == "variance":
            exact = pvariance(map(Fraction, numbers))
        return bool(shown == float(exact))
    ranked = sorted(hit.seconds for hit in hits)
    for fraction, value in shown.items():
        at_rank = ranked[int(float(fraction) * (len(ranked) - 1))]
        if abs(value - at_rank) > 0.01001 * abs(at_rank):
            return False
    return True


def _some(hits: Iterable[Hit], name: str) -> Iterable[Any]:
    return (value for hit in hits if (value := getattr(hit, name)) is not None)


def _top(counts: Counter[str], k: int) -> list[list[Any]]:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [list(item) for item in ranked[:k]]


def _heavy(hits: Iterable[Hit], k: int) -> list[list[Any]]:
    weights = Counter[str]()
    for hit in hits:
        weights[hit.page] += double(hit.bytes)
    return _top(weights, k)
