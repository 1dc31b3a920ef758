"""What a run of the demo came to, for programmes and for people."""

from __future__ import annotations

from typing import Any

import msgspec

from agent99.systems.shop._check import CheckReport, describe
from agent99.systems.shop._replay import Tally
from agent99.systems.shop._year import Counts


class Instance(msgspec.Struct, frozen=True):
    """What one instance of an agent did."""

    agent: str
    instance: str
    """Its UUID."""
    place: str
    """Its process: `inventory/2`."""
    pid: int
    messages: int
    """Requests that it took on."""
    errors: int
    """Those of them that it answered with an error; declined payments are among them."""
    restarts: int = 0
    """Times that its process was started again; the counts began anew with the last one."""


class Work(msgspec.Struct, frozen=True):
    """What was done, as the demo saw it."""

    tally: Tally
    """What the customers were told."""
    took_s: float
    first_confirmed_s: float | None
    """None: nothing was confirmed."""
    instances: tuple[Instance, ...]


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a run; the first of them are what `--json` promises."""

    ok: bool
    """Whether every order was answered and the check at the end found nothing."""
    invoices: int
    orders: int
    confirmed: int
    rejected: dict[str, int]
    """Orders by the code that they were refused with."""
    skipped: dict[str, int]
    """Lines of invoices that are no sales, by reason."""
    cancellations: int
    """Invoices that take something back; issued against orders, and not replayed yet."""
    revenue_pence: int
    """Gross: of the confirmed orders."""
    orders_per_s: float
    p50_ms: float
    p99_ms: float
    adjustments: int
    """Invoices that are bookkeeping."""
    unsellable: int
    """Invoices without a line that is a sale."""
    unfinished: dict[str, int]
    """Orders without an answer, by the last error's code; not `ok`."""
    took_s: float
    """From the first order to the last answer."""
    first_confirmed_s: float | None
    """From the start of the demo to the first confirmed order; None: there was none."""
    instances: tuple[Instance, ...]
    findings: tuple[str, ...]
    """What the check found, in sentences."""


def figures_of(counts: Counts, work: Work, report: CheckReport) -> Figures:
    """Return the figures of a run.

    Args:
        counts: What the file holds.
        work: What was done.
        report: What the check found.
    """
    tally, took_s, first_s = work.tally, work.took_s, work.first_confirmed_s
    orders = len(tally.latencies_s)
    findings = (*describe(report), *_disagreements(counts, tally, report))
    return Figures(
        ok=not findings,
        invoices=counts.invoices,
        orders=counts.orders,
        confirmed=tally.confirmed,
        rejected=dict(sorted(tally.rejected.items())),
        skipped={str(reason): lines for reason, lines in counts.skipped.items()},
        cancellations=counts.cancellations,
        revenue_pence=tally.revenue_pence,
        orders_per_s=round(orders / took_s, 1) if took_s else 0.0,
        p50_ms=tally.latency_ms(0.5),
        p99_ms=tally.latency_ms(0.99),
        adjustments=counts.adjustments,
        unsellable=counts.unsellable,
        unfinished=dict(sorted(tally.unfinished.items())),
        took_s=round(took_s, 2),
        first_confirmed_s=None if first_s is None else round(first_s, 2),
        instances=work.instances,
        findings=findings,
    )


def as_document(figures: Figures) -> dict[str, Any]:
    """Return the figures as JSON can carry them."""
    document: dict[str, Any] = msgspec.to_builtins(figures)
    return document


def _disagreements(counts: Counts, tally: Tally, report: CheckReport) -> tuple[str, ...]:
    """Compare what the customers were told with what the databases and the file say."""
    pairs = (
        ("orders answered", len(tally.latencies_s) - tally.unfinished.total(), counts.orders),
        ("orders confirmed", tally.confirmed, report.confirmed),
        ("orders rejected", tally.rejected.total(), sum(report.rejected.values())),
        ("pence of revenue", tally.revenue_pence, report.revenue_pence),
        ("pence taken", tally.revenue_pence, report.captured_pence),
        ("invoices", counts.invoices, report.counts["invoices"]),
        ("orders in the file", counts.orders, report.counts["orders"]),
    )
    return tuple(
        f"answers_differ: {told:,} {what} by the answers, {found:,} by the check"
        for what, told, found in pairs
        if told != found
    )
