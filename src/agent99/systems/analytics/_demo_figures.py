"""What the analytics demo is given, and what came of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Role = Literal["ingestion", "processor"]


class DemoOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the demo is to run."""

    speed: Annotated[float, Meta(ge=0.0, le=1_000_000.0)] | None = None
    """Days of the file in one second; 0: no limit. None: the whole file in `WHOLE_S` seconds."""
    late: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.05
    """The share of the records that is held back beyond the watermark."""
    seed: Annotated[int, Meta(ge=0)] = 0
    """Which records those are; and who is killed, and when."""
    processors: Annotated[int, Meta(ge=1, le=8)] = 2
    """At the beginning; others come."""
    kills: Annotated[int, Meta(ge=1, le=1_000)] = 1
    """How many processors are killed; more than one: at random, and each is replaced."""
    json: bool = False
    debug: bool = False


class ProcessPlan(msgspec.Struct, frozen=True):
    """What a process of the demo needs to know. It holds a credential: it travels by a pipe."""

    role: Role
    folder: str
    url: str
    mesh: str
    debug: bool

    def __repr__(self) -> str:
        return f"ProcessPlan({self.role!r}, {self.mesh!r})"


class PipelineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a pipeline: its records, each in one count, and its windows beside the truth."""

    records: int
    on_time: int
    late: int
    dropped: int
    skipped: int
    corrections: int
    """Revisions of windows after they were closed."""
    windows: int
    """That there must be."""
    missing: int
    extra: int
    wrong: int
    error: float
    """Of its quantiles, relative, where it is largest."""
    refused: int
    """Records in stored batches that could not be folded."""


class OddDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day on which a country bought far more or less than it had before."""

    day: str
    country: str
    revenue_pence: int
    expected_pence: int
    """By the days before it."""
    score: float | None
    """How far off that is, in deviations; None: all before had one revenue."""


class AnalyticsFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    ok: bool
    lines: int
    """In the file."""
    left_out: Mapping[str, int]
    """Lines that were not sold, by the reason."""
    records: int
    """Acknowledged, of both sources."""
    held: int
    """Of these, held back beyond the watermark."""
    took_s: float
    records_per_s: float
    joined: int
    """Processors, besides those of the beginning."""
    left: int
    killed: int
    pipelines: Mapping[str, PipelineFigures]
    odd_days: int
    """Of all countries."""
    oddest: tuple[OddDay, ...]
    findings: tuple[str, ...]


def columns_of(figures: AnalyticsFigures) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return a table of the pipelines: what became of their records, and of their windows."""
    columns = ("pipeline", "records", "on time", "late", "dropped", "skipped")
    more = ("windows", "corrected", "differ")
    rows: list[tuple[str, ...]] = []
    for name, one in figures.pipelines.items():
        counts = (one.records, one.on_time, one.late, one.dropped, one.skipped)
        differ = one.missing + one.extra + one.wrong
        rows.append((name, *(f"{n:,}" for n in (*counts, one.windows, one.corrections, differ))))
    return (*columns, *more), rows


def rows_of(figures: AnalyticsFigures) -> list[tuple[str, str]]:
    """Return the other figures in words."""
    left_out = sum(figures.left_out.values())
    return [
        ("lines in the file", f"{figures.lines:,}"),
        ("  not sold", f"{left_out:,}"),
        *((f"    {reason}", f"{count:,}") for reason, count in figures.left_out.items()),
        ("records acknowledged, orders included", f"{figures.records:,}"),
        ("  held back beyond the watermark", f"{figures.held:,}"),
        ("days on which a country bought unlike before", f"{figures.odd_days:,}"),
        ("processors that joined, left, were killed", _three(figures)),
        ("time", f"{figures.took_s:,.1f} s, {figures.records_per_s:,.0f} records a second"),
    ]


def odd_columns_of(figures: AnalyticsFigures) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return a table of the days that were most unlike those before."""
    columns = ("odd day", "country", "revenue", "expected", "deviations")
    rows: list[tuple[str, ...]] = []
    for one in figures.oddest:
        money = (pounds(one.revenue_pence), pounds(one.expected_pence))
        score = "-" if one.score is None else f"{one.score:+,.1f}"
        rows.append((one.day, one.country, *money, score))
    return columns, rows


def verdict_of(figures: AnalyticsFigures) -> str:
    """Return in a sentence whether all is well."""
    if figures.ok:
        windows = sum(one.windows for one in figures.pipelines.values())
        return (
            f"All {windows:,} windows are what polars makes of the file: exactly, quantiles within"
            " their 1 %; so are the odd days, and every record is in one count."
        )
    return f"The windows are not what they must be: {len(figures.findings)} kinds of difference."


def pounds(pence: int) -> str:
    """Return money for people."""
    return f"£{pence / 100:,.2f}"


def _three(figures: AnalyticsFigures) -> str:
    return f"{figures.joined}, {figures.left}, {figures.killed}"
