"""What people see of the demo: a progress bar on a terminal, then a table; or one JSON object."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from agent99.systems.shop._figures import (
    CacheFigures,
    ChaosFigures,
    CheckerFigures,
    Figures,
    HistoryFigures,
    as_document,
)
from agent99.systems.shop._options import DemoOptions


class Bar(Protocol):
    """A progress bar."""

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        ...

    def say(self, words: str) -> None:
        """Show what else there is to say, beside it."""
        ...


class Display(Protocol):
    """How the demo talks."""

    def tell(self, sentence: str) -> None:
        """Tell how far it is."""
        ...

    def warn(self, sentence: str) -> None:
        """Tell what should not happen."""
        ...

    def bar(self, what: str, total: int) -> Any:
        """Return a context that gives a `Bar` for so many of something."""
        ...

    def show(self, figures: Figures) -> None:
        """Show the result."""
        ...


def display_for(options: DemoOptions) -> Display:
    """Return what suits the options."""
    return JsonDisplay() if options.json else TerminalDisplay(options)


class _Silent:
    def advance(self, count: int = 1) -> None:
        """Say nothing."""

    def say(self, words: str) -> None:
        """Say nothing."""


class JsonDisplay:
    """One object on standard output, and nothing else."""

    def __repr__(self) -> str:
        return "JsonDisplay()"

    def tell(self, sentence: str) -> None:
        """Say nothing."""

    def warn(self, sentence: str) -> None:
        """Say it on standard error: standard output is for the document."""
        sys.stderr.write(f"agent99: {sentence}\n")

    @contextmanager
    def bar(self, what: str, total: int) -> Generator[Bar]:
        """Give a bar that nobody sees."""
        del what, total
        yield _Silent()

    def show(self, figures: Figures) -> None:
        """Print the object: indented on a terminal, else in one line."""
        data = msgspec.json.encode(as_document(figures))
        if sys.stdout.isatty():
            data = msgspec.json.format(data, indent=2)
        sys.stdout.flush()
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()


class TerminalDisplay:
    """Sentences, a bar and tables."""

    def __init__(self, options: DemoOptions) -> None:
        from rich.console import Console  # noqa: PLC0415 - not needed with --json

        self._options = options
        width = None if sys.stdout.isatty() else _PIPED_WIDTH
        self._console = Console(highlight=False, width=width)

    def __repr__(self) -> str:
        return "TerminalDisplay()"

    def tell(self, sentence: str) -> None:
        """Print a sentence."""
        self._console.print(sentence, markup=False, soft_wrap=not self._console.is_terminal)

    def warn(self, sentence: str) -> None:
        """Print it among the others."""
        self.tell(sentence)

    @contextmanager
    def bar(self, what: str, total: int) -> Generator[Bar]:
        """Give a progress bar, where there is a terminal to draw it on."""
        from rich import progress  # noqa: PLC0415 - not needed with --json

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
        )
        drawing = progress.Progress(
            *columns,
            console=self._console,
            transient=True,
            refresh_per_second=4,
            disable=not self._console.is_terminal,
        )
        with drawing:
            yield _Bar(drawing, what, total)

    def show(self, figures: Figures) -> None:
        """Print the result."""
        from rich.table import Table  # noqa: PLC0415 - not needed with --json

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column()
        table.add_column(justify="right")
        for name, value in rows_of(figures):
            table.add_row(name, value)
        self._console.print()
        self._console.print(table)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in ("AGENT", "PROCESS", "INSTANCE"):
            table.add_column(column)
        table.add_column("MESSAGES", justify="right")
        table.add_column("REFUSED", justify="right")
        for each in figures.instances:
            counts = (f"{each.messages:,}", f"{each.errors:,}")
            place = f"{each.place} *" if each.restarts else each.place
            table.add_row(place, str(each.pid), each.instance[:8], *counts)
        self._console.print()
        self._console.print(table)
        if any(each.restarts for each in figures.instances):
            self.tell("* was started again: what it did before is not in its counts")
        self._console.print()
        for finding in figures.findings:
            self.tell(f"FAULT {finding}")
        self.tell(_verdict(figures))


class _Bar:
    def __init__(self, drawing: Any, what: str, total: int) -> None:
        self._drawing = drawing
        self._what = what
        self._task = drawing.add_task(what, total=total)

    def advance(self, count: int = 1) -> None:
        self._drawing.advance(self._task, count)

    def say(self, words: str) -> None:
        self._drawing.update(self._task, description=f"{self._what}: {words}")


_PIPED_WIDTH = 200


def rows_of(figures: Figures) -> list[tuple[str, str]]:
    """Return the figures in words."""
    rows = [
        ("invoices read", f"{figures.invoices:,}"),
        ("  orders", f"{figures.orders:,}"),
        ("  cancellations", f"{figures.cancellations:,}"),
        ("  adjustments", f"{figures.adjustments:,}"),
        ("  without a sale", f"{figures.unsellable:,}"),
        ("orders confirmed", f"{figures.confirmed:,}"),
        ("  shipped", f"{figures.shipped:,}"),
        ("  customer told", f"{figures.notified:,}"),
    ]
    for title, counted in (
        ("orders rejected", figures.rejected),
        ("orders unfinished", figures.unfinished),
        ("lines skipped", figures.skipped),
    ):
        rows += [(f"{title}: {reason}", f"{count:,}") for reason, count in counted.items()]
    return [
        *rows,
        ("orders cancelled", f"{figures.cancelled:,}"),
        ("back-orders among them all", f"{figures.back_orders:,}"),
        ("messages sent", f"{figures.messages:,}"),
        ("events stored", f"{figures.events:,}"),
        ("revenue", f"£{figures.revenue_pence / 100:,.2f}"),
        ("given back", f"£{figures.refunded_pence / 100:,.2f}"),
        ("  for cancelled orders", f"£{figures.cancelled_pence / 100:,.2f}"),
        ("  for lines", f"{figures.lines_refunded:,}"),
        ("orders per second", f"{figures.orders_per_s:,.1f}"),
        ("latency, half of all orders", f"{figures.p50_ms:,.1f} ms"),
        ("latency, 99 of 100", f"{figures.p99_ms:,.1f} ms"),
        ("time", f"{figures.took_s:,.1f} s"),
        ("looked at while it ran", _looked(figures.checker)),
        ("read model, made anew", _remade(figures.history)),
        *_rows_of_cache(figures.cache),
        *_rows_of_chaos(figures.chaos),
    ]


def _looked(checker: CheckerFigures) -> str:
    return f"{checker.looks:,} times, {checker.violations or 'no'} violations"


def _remade(history: HistoryFigures | None) -> str:
    if history is None:
        return "it was not"
    how = "identical" if history.identical else "different"
    return f"{how}, {history.orders:,} orders, hash {history.hash[:12]}"


def _rows_of_cache(cache: CacheFigures | None) -> list[tuple[str, str]]:
    if cache is None:
        return []
    ratio = cache.hits / cache.asked if cache.asked else 0.0
    return [("prices asked of the cache", f"{cache.asked:,}, {ratio:.1%} there")]


def _rows_of_chaos(chaos: ChaosFigures | None) -> list[tuple[str, str]]:
    if chaos is None:
        return []
    half = "none" if chaos.take_over_p50_s is None else f"{chaos.take_over_p50_s:.2f} s"
    return [
        *((f"killed: {agent}", f"{count:,}") for agent, count in chaos.killed.items()),
        ("orders taken over", f"{chaos.taken_over:,}"),
        ("  half of them after", half),
        ("steps undone", f"{chaos.undone:,}"),
    ]


def _verdict(figures: Figures) -> str:
    if figures.ok:
        return (
            "The books close: orders, revenue, stock and money agree with the file, to the penny;"
            " what was confirmed is shipped and told of, and every step is in the log."
        )
    return f"The books do not close: {len(figures.findings)} kinds of difference."
