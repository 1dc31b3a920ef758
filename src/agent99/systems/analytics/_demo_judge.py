"""Whether the demo's database says what the file does: windows, and counts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from agent99.systems.analytics._demo_books import Books
from agent99.systems.analytics._demo_check import Verdict, compare
from agent99.systems.analytics._demo_figures import PipelineFigures

if TYPE_CHECKING:
    from agent99.systems.analytics._demo_truth import Truth

OF_ORDERS: Final = frozenset({"order-values", "visits"})
"""Pipelines that read the source `orders`; the others read `lines`."""


def judge(
    books: Books, truth: Truth, sent: Mapping[str, int]
) -> tuple[dict[str, PipelineFigures], tuple[str, ...]]:
    """Return what came of each pipeline, and what is not as it must be.

    Args:
        sent: Records that were acknowledged, by source.
    """
    figures: dict[str, PipelineFigures] = {}
    findings: list[str] = []
    for source, expected in (("lines", truth.lines), ("orders", truth.orders)):
        if sent[source] != expected:
            findings.append(f"{sent[source]:,} {source} were sent; the file has {expected:,}")
    for name, windows in truth.windows.items():
        rows = books.rows.get(name, [])
        verdict = compare(name, rows, windows)
        figures[name] = found = _figures(
            verdict,
            books.counts.get(name, {}),
            corrections=sum(row.revision - 1 for row in rows),
        )
        expected = sent["orders" if name in OF_ORDERS else "lines"]
        skipped = truth.guests if name == "visits" else 0
        findings += [f"{name}: {each}" for each in _findings(found, verdict, expected, skipped)]
    return figures, tuple(findings)


def _figures(verdict: Verdict, counts: Mapping[str, int], *, corrections: int) -> PipelineFigures:
    names = ("records", "on_time", "late", "dropped", "skipped", "refused")
    return PipelineFigures(
        **{name: counts.get(name, 0) for name in names},
        corrections=corrections,
        windows=verdict.windows,
        missing=verdict.missing,
        extra=verdict.extra,
        wrong=verdict.wrong,
        error=round(verdict.error, 6),
    )


def _findings(found: PipelineFigures, verdict: Verdict, sent: int, skipped: int) -> Iterator[str]:
    if not verdict.is_sound:
        words = (
            f"{found.missing:,} windows missing, {found.extra:,} too many, {found.wrong:,} wrong"
        )
        yield f"{words}; {'; '.join(verdict.examples)}"
    if found.records != sent:
        yield f"{found.records:,} records were counted, {sent:,} were sent"
    if found.on_time + found.late + found.dropped + found.skipped != found.records:
        yield "its counts do not close"
    if found.dropped or found.refused:
        yield f"{found.dropped:,} records were dropped, {found.refused:,} refused"
    if found.skipped != skipped:
        yield f"{found.skipped:,} records were skipped, not {skipped:,}"
