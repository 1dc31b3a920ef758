"""What people see of the analytics demo: figures that live, sentences, and a verdict at the end."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from agent99.systems.analytics._demo_figures import (
    AnalyticsFigures,
    columns_of,
    odd_columns_of,
    rows_of,
    verdict_of,
)
from agent99.systems.analytics._demo_look import (
    PIPELINE_COLUMNS,
    Look,
    country_rows,
    day_of,
    head_of,
    member_rows,
    pipeline_rows,
    product_rows,
)

if TYPE_CHECKING:
    from rich.table import Table

_PIPED_WIDTH: Final = 200
_BAR_WIDTH: Final = 110
"""Of a terminal with room for bars."""


class QuietScreen:
    """One JSON object at the end, and nothing else."""

    def __repr__(self) -> str:
        return "QuietScreen()"

    @contextmanager
    def drawing(self) -> Generator[None]:
        """Draw nothing meanwhile."""
        yield

    def tell(self, sentence: str) -> None:
        """Say nothing."""

    def draw(self, look: Look) -> None:
        """Draw nothing."""

    def show(self, figures: AnalyticsFigures) -> None:
        """Print the object: indented on a terminal, else in one line."""
        data = msgspec.json.encode(figures)
        if sys.stdout.isatty():
            data = msgspec.json.format(data, indent=2)
        sys.stdout.flush()
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()


class Screen(QuietScreen):
    """Sentences above figures that are drawn again and again, where there is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - not needed with --json

        width = None if sys.stdout.isatty() else _PIPED_WIDTH
        self._console = Console(highlight=False, width=width)
        self._live: Any = None

    def __repr__(self) -> str:
        return "Screen()"

    @contextmanager
    def drawing(self) -> Generator[None]:
        """Draw the figures meanwhile, where there is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        from rich.live import Live  # noqa: PLC0415 - not needed in a pipe

        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def tell(self, sentence: str) -> None:
        """Print a sentence, above the figures."""
        self._console.print(sentence, markup=False, soft_wrap=not self._console.is_terminal)

    def draw(self, look: Look) -> None:
        """Draw how it stands now."""
        if self._live is None:
            return
        from rich.console import Group  # noqa: PLC0415 - not needed in a pipe
        from rich.table import Table  # noqa: PLC0415 - not needed in a pipe
        from rich.text import Text  # noqa: PLC0415 - not needed in a pipe

        beside, day = Table.grid(padding=(0, 2, 0, 0)), day_of(look)
        columns = ("country", "revenue", "")[: 3 if self._console.width >= _BAR_WIDTH else 2]
        beside.add_row(
            _table(columns, (row[: len(columns)] for row in country_rows(look)), ("revenue",)),
            _table(("product", day), product_rows(look), (day,)),
            _table(("process", "pid", "state"), member_rows(look), ("pid",)),
        )
        pipelines = _table(PIPELINE_COLUMNS, pipeline_rows(look), PIPELINE_COLUMNS[1:])
        parts = (Text(head_of(look)), Text(), pipelines, Text(), beside)
        self._live.update(Group(*parts), refresh=True)

    def show(self, figures: AnalyticsFigures) -> None:
        """Print the result."""
        columns, rows = columns_of(figures)
        self._console.print()
        self._console.print(_table(columns, rows, columns[1:]))
        self._console.print()
        self._console.print(_table(("", " "), rows_of(figures), (" ",)))
        self._console.print()
        columns, rows = odd_columns_of(figures)
        if rows:
            self._console.print(_table(columns, rows, columns[2:]))
            self._console.print()
        for finding in figures.findings:
            self.tell(f"FAULT {finding}")
        self.tell(verdict_of(figures))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[str]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - not needed with --json
    from rich.text import Text  # noqa: PLC0415 - not needed with --json

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        table.add_column(column.upper(), justify=justify, no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    return table
