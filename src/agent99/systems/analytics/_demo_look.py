"""How everything in the analytics demo stands at a moment, and in which words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from agent99.systems.analytics._delta import WindowRow
from agent99.systems.analytics._demo_figures import pounds
from agent99.systems.analytics._questions import PipelineStats
from agent99.systems.analytics._watermark import FOREVER_US

COUNTRIES_SHOWN: Final = 8
PRODUCTS_SHOWN: Final = 8
MEMBERS_SHOWN: Final = 8
_BAR: Final = 24
PIPELINE_COLUMNS: Final = (
    *("pipeline", "on time", "late", "dropped", "skipped", "closed", "closes", "watermark"),
)


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How everything stands now."""

    latest_us: int
    """How far the tills are: the latest time of a record that was sent."""
    records: int
    stored: int
    """Records that are acknowledged."""
    rate: float
    """Of them, in a second."""
    pipelines: Sequence[PipelineStats]
    countries: Mapping[str, int]
    """Pence, since the beginning; open windows included."""
    latest: WindowRow | None
    """The top products of the latest day."""
    pids: Mapping[str, int]
    """By instance."""
    members: Sequence[tuple[str, int, str]]
    """Role, pid and state of each process."""


def head_of(look: Look) -> str:
    """Return in a line how far everything is."""
    lag = "" if not look.pipelines else f", {_behind(look)}"
    return (
        f"tills: {moment(look.latest_us)}{lag};"
        f" {look.stored:,} of {look.records:,} records stored, {look.rate:,.0f} a second"
    )


def pipeline_rows(look: Look) -> Iterator[tuple[str, ...]]:
    """Yield a row of `PIPELINE_COLUMNS` for each pipeline."""
    for one in look.pipelines:
        counts = (one.on_time, one.late, one.dropped, one.skipped, one.rows)
        pid = look.pids.get(one.closer)
        yield (
            *(one.pipeline, *(f"{count:,}" for count in counts)),
            *("-" if pid is None else f"by {pid}", _watermark(one.watermark_us)),
        )


def country_rows(look: Look) -> Iterator[tuple[str, str, str]]:
    """Yield the countries of most revenue, with a bar each."""
    ranked = sorted(look.countries.items(), key=lambda one: -one[1])[:COUNTRIES_SHOWN]
    for country, pence in ranked:
        yield country, pounds(pence), "█" * round(_BAR * pence / max(1, ranked[0][1]))


def product_rows(look: Look) -> Iterator[tuple[str, str]]:
    """Yield the top products of the latest day."""
    if look.latest is not None:
        for product, pence in look.latest.values["top"][:PRODUCTS_SHOWN]:
            yield product, pounds(pence)


def member_rows(look: Look) -> Iterator[tuple[str, str, str]]:
    """Yield the processes that came last."""
    for role, pid, state in look.members[-MEMBERS_SHOWN:]:
        yield role, str(pid), state


def day_of(look: Look) -> str:
    """Return which day the top products are of."""
    return "" if look.latest is None else moment(look.latest.start_us)[:10]


def moment(time_us: int) -> str:
    """Return a moment of the file's time, UTC."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%MZ")


def _watermark(time_us: int | None) -> str:
    if time_us is None:
        return "-"
    return "the end" if time_us == FOREVER_US else moment(time_us)[5:]


def _behind(look: Look) -> str:
    """Return how far the slowest pipeline is behind the tills."""
    marks = [one.watermark_us for one in look.pipelines]
    known = [mark for mark in marks if mark is not None]
    if len(known) < len(marks):
        return "no watermark yet"
    hours = max(0.0, (look.latest_us - min(known)) / 3.6e9)
    return f"windows {hours:,.1f} h behind"
