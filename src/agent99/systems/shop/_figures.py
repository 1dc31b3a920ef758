"""What a run of the demo came to, for programmes and for people."""

from __future__ import annotations

from typing import Any

import msgspec

from agent99.systems.shop._check import CheckReport, describe
from agent99.systems.shop._checker_model import Verdict
from agent99.systems.shop._history_model import Rebuilt
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
    """Requests, jobs and events that it took on."""
    errors: int
    """Those of them that it answered with an error; declined payments are among them."""
    restarts: int = 0
    """Times that its process was started again; the counts began anew with the last one."""


class ChaosFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What was killed, and what came of it."""

    seed: int
    """Replays the choice of victims; their moments depend on the machine."""
    killed: dict[str, int]
    """Processes, by agent; `server` among them."""
    taken_over: int
    """Orders that another process went on with."""
    undone: int
    """Steps that were undone, of orders that were refused."""
    take_over_p50_s: float | None
    """From the kill to the take-over, half of them; None: there was none."""
    take_over_max_s: float | None
    open_at_last: int
    """Orders whose saga has not ended; none of them should be left."""


class CheckerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the checker saw while the others worked."""

    looks: int
    """At everything that changed, since it was started last."""
    violations: int
    """Different ones, also those that it told of before it was killed; of many the first."""


class HistoryFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The read model, made anew at the end from the first event of the log."""

    orders: int
    by_state: dict[str, int]
    """Orders by their state, as the events tell it."""
    events: int
    """Read from the log, repeated ones too."""
    identical: bool
    """Whether the one that was kept while the shop worked has the same hash."""
    hash: str
    """SHA-256 of every record."""


class CacheFigures(msgspec.Struct, frozen=True):
    """What the cache was asked for prices, by the nodes that were there at the end."""

    nodes: int
    asked: int
    hits: int


class Work(msgspec.Struct, frozen=True):
    """What was done, as the demo saw it."""

    tally: Tally
    """What the customers were told."""
    took_s: float
    first_confirmed_s: float | None
    """None: nothing was confirmed."""
    instances: tuple[Instance, ...]
    chaos: ChaosFigures | None = None
    """What was killed; None: nothing was, on purpose."""
    verdict: Verdict | None = None
    """What the checker said at the end; None: nothing."""
    rebuilt: Rebuilt | None = None
    """The read model, made anew at the end; None: it was not."""
    cached: CacheFigures | None = None
    """What the cache was asked; None: there was none."""


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
    """Invoices that take something back."""
    revenue_pence: int
    """Gross: of the confirmed orders, whatever was given back of them."""
    orders_per_s: float
    p50_ms: float
    p99_ms: float
    adjustments: int
    """Invoices that are bookkeeping."""
    unsellable: int
    """Invoices without a line that is a sale."""
    given_back: int
    """Cancellations that were answered."""
    lines_refunded: int
    """Of their lines, those that fit something that was bought, and confirmed."""
    refunded_pence: int
    """What was given back for them."""
    cancelled: int
    """Orders that their customers cancelled."""
    back_orders: int
    """Of the orders confirmed, rejected or cancelled: those of what was not in stock at first. They
    are none of the file's; what they took off is."""
    cancelled_pence: int
    """What was given back for them as they were cancelled."""
    shipped: int
    """Confirmed orders that are with a carrier."""
    notified: int
    """Confirmed orders of which the customer was told."""
    messages: int
    """Messages that customers were sent: of whatever became of their orders."""
    events: int
    """Events that the shop stored: one for each step of an order, shipment and message."""
    unfinished: dict[str, int]
    """Orders without an answer, by the last error's code; not `ok`."""
    took_s: float
    """From the first order to the last answer."""
    first_confirmed_s: float | None
    """From the start of the demo to the first confirmed order; None: there was none."""
    instances: tuple[Instance, ...]
    findings: tuple[str, ...]
    """What the check found, in sentences."""
    chaos: ChaosFigures | None = None
    """With `--chaos`: what was killed, and what came of it."""
    checker: CheckerFigures
    """What was looked at while it ran; a violation is not `ok`."""
    history: HistoryFigures | None = None
    """The read model made anew; one that differs, or none, is not `ok`."""
    cache: CacheFigures | None = None
    """What the cache was asked for prices; None: there was none."""


def figures_of(
    counts: Counts, work: Work, report: CheckReport, violations: tuple[str, ...] = ()
) -> Figures:
    """Return the figures of a run.

    Args:
        counts: What the file holds.
        work: What was done.
        report: What the check found.
        violations: What the checker told of in the log.
    """
    tally, took_s, first_s = work.tally, work.took_s, work.first_confirmed_s
    orders = len(tally.latencies_s)
    seen = _seen(work.verdict, violations)
    findings = (
        *describe(report),
        *_disagreements(counts, tally, report),
        *_left_open(work.chaos),
        *(f"violation: {each}" for each in seen),
        *_unseen(work.verdict),
        *_untold(work.rebuilt, report),
    )
    return Figures(
        ok=not findings,
        invoices=counts.invoices,
        orders=counts.orders,
        confirmed=tally.confirmed,
        rejected=dict(sorted(tally.rejected.items())),
        cancelled=tally.cancelled,
        cancelled_pence=tally.cancelled_pence,
        back_orders=tally.back_orders,
        skipped={str(reason): lines for reason, lines in counts.skipped.items()},
        cancellations=counts.cancellations,
        given_back=tally.given_back,
        lines_refunded=tally.lines_refunded,
        refunded_pence=tally.refunded_pence,
        revenue_pence=tally.revenue_pence,
        orders_per_s=round(orders / took_s, 1) if took_s else 0.0,
        p50_ms=tally.latency_ms(0.5),
        p99_ms=tally.latency_ms(0.99),
        adjustments=counts.adjustments,
        unsellable=counts.unsellable,
        shipped=report.shipped,
        notified=report.notified,
        messages=report.messages,
        events=report.events,
        unfinished=dict(sorted(tally.unfinished.items())),
        took_s=round(took_s, 2),
        first_confirmed_s=None if first_s is None else round(first_s, 2),
        instances=work.instances,
        findings=findings,
        chaos=work.chaos,
        checker=CheckerFigures(
            looks=0 if work.verdict is None else work.verdict.looks, violations=len(seen)
        ),
        history=_history(work.rebuilt),
        cache=work.cached,
    )


def as_document(figures: Figures) -> dict[str, Any]:
    """Return the figures as JSON can carry them."""
    document: dict[str, Any] = msgspec.to_builtins(figures)
    return document


def _disagreements(counts: Counts, tally: Tally, report: CheckReport) -> tuple[str, ...]:
    """Compare what the customers were told with what the databases and the file say."""
    back = tally.cancelled_pence
    pairs = (
        ("orders answered", len(tally.latencies_s) - tally.unfinished.total(), counts.orders),
        ("orders confirmed", tally.confirmed, report.confirmed),
        ("orders rejected", tally.rejected.total(), sum(report.rejected.values())),
        ("orders cancelled", tally.cancelled, report.cancelled),
        ("back-orders", tally.back_orders, report.back_orders),
        ("pence of revenue", tally.revenue_pence, report.revenue_pence),
        ("pence given back", tally.refunded_pence + back, report.refunded_pence),
        ("pence taken", tally.revenue_pence + back, report.captured_pence),
        ("cancellations answered", tally.given_back, counts.cancellations),
        ("invoices", counts.invoices, report.counts["invoices"]),
        ("orders in the file", counts.orders, report.counts["orders"]),
    )
    return tuple(
        f"answers_differ: {told:,} {what} by the answers, {found:,} by the check"
        for what, told, found in pairs
        if told != found
    )


def _left_open(chaos: ChaosFigures | None) -> tuple[str, ...]:
    if chaos is None or not chaos.open_at_last:
        return ()
    return (f"saga_open: {chaos.open_at_last:,} orders have not come to their end",)


def _seen(verdict: Verdict | None, told: tuple[str, ...]) -> tuple[str, ...]:
    """Return each violation once: those of the verdict, and of checkers that were killed."""
    said = () if verdict is None else verdict.violations
    return tuple(dict.fromkeys((*told, *said)))


def _unseen(verdict: Verdict | None) -> tuple[str, ...]:
    """What nobody looked at is not proved."""
    if verdict is None:
        return ("checker_silent: the checker gives no verdict",)
    if not verdict.rounds:
        why = verdict.unread or "its time was up"
        return (f"checker_blind: the checker did not see all: {why}",)
    return ()


def _history(rebuilt: Rebuilt | None) -> HistoryFigures | None:
    if rebuilt is None:
        return None
    after = rebuilt.after
    return HistoryFigures(
        orders=after.orders,
        by_state=after.by_state,
        events=rebuilt.events,
        identical=rebuilt.identical,
        hash=after.hash,
    )


def _untold(rebuilt: Rebuilt | None, report: CheckReport) -> tuple[str, ...]:
    """Compare the read model with itself, made anew, and with what the check counted."""
    if rebuilt is None:
        return ("history_silent: the read model was not made anew",)
    findings: list[str] = []
    if not rebuilt.identical:
        findings.append(
            f"history_differs: the read model's hash was {rebuilt.before.hash}"
            f" and is {rebuilt.after.hash}, made anew from the log"
        )
    counted = {
        "cancelled": report.cancelled,
        "confirmed": report.confirmed,
        "rejected": sum(report.rejected.values()),
    }
    wanted = {state: count for state, count in counted.items() if count}
    if rebuilt.after.by_state != wanted:
        findings.append(
            f"history_counts: orders by state are {rebuilt.after.by_state} by the events,"
            f" {wanted} by the check"
        )
    return tuple(findings)
