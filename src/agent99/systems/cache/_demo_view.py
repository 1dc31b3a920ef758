"""What people see of the cache's demo: a table that lives, sentences, and figures at the end."""

from __future__ import annotations

import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from agent99.systems.cache._demo_figures import CacheFigures, rows_of, verdict_of
from agent99.systems.cache._demo_load import Load
from agent99.systems.cache._overview import NodeView, Overview

_COLUMNS: Final = (
    *("node", "pid", "state", "owned", "copied", "keys", "copies", "memory", "hits", "sets"),
)
_PIPED_WIDTH: Final = 200


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

    def draw(self, found: Overview, pids: Mapping[str, int], load: Load, moves: int) -> None:
        """Draw nothing."""

    def show(self, figures: CacheFigures) -> None:
        """Print the object: indented on a terminal, else in one line."""
        data = msgspec.json.encode(figures)
        if sys.stdout.isatty():
            data = msgspec.json.format(data, indent=2)
        sys.stdout.flush()
        sys.stdout.buffer.write(data + b"\n")
        sys.stdout.buffer.flush()


class Screen(QuietScreen):
    """Sentences above a table that is drawn again and again, where there is a terminal."""

    def __init__(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - not needed with --json

        width = None if sys.stdout.isatty() else _PIPED_WIDTH
        self._console = Console(highlight=False, width=width)
        self._live: Any = None

    def __repr__(self) -> str:
        return "Screen()"

    @contextmanager
    def drawing(self) -> Generator[None]:
        """Draw the table meanwhile, where there is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        from rich.live import Live  # noqa: PLC0415 - not needed in a pipe

        with Live(console=self._console, auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def tell(self, sentence: str) -> None:
        """Print a sentence, above the table."""
        self._console.print(sentence, markup=False, soft_wrap=not self._console.is_terminal)

    def draw(self, found: Overview, pids: Mapping[str, int], load: Load, moves: int) -> None:
        """Draw how it stands now."""
        if self._live is None:
            return
        from rich.table import Table  # noqa: PLC0415 - not needed in a pipe

        ratio = load.hits / load.reads if load.reads else 0.0
        caption = (
            f"{load.reads:,} reads, {ratio:.1%} hits; {load.writes:,} writes,"
            f" {load.counted:,} additions; {moves:,} partitions have moved,"
            f" {found.moving} are on their way; {load.stale} stale"
        )
        table = Table(box=None, padding=(0, 2, 0, 0), caption=caption, caption_justify="left")
        for column in _COLUMNS:
            is_word = column in ("node", "state")
            table.add_column(column.upper(), justify="left" if is_word else "right")
        for node in found.nodes:
            table.add_row(*_row(node, pids.get(node.instance, 0)))
        self._live.update(table, refresh=True)

    def show(self, figures: CacheFigures) -> None:
        """Print the result."""
        from rich.table import Table  # noqa: PLC0415 - not needed with --json

        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column()
        table.add_column(justify="right")
        for name, value in rows_of(figures):
            table.add_row(name, value)
        self._console.print()
        self._console.print(table)
        self._console.print()
        for finding in figures.findings:
            self.tell(f"FAULT {finding}")
        self.tell(verdict_of(figures))


def _row(node: NodeView, pid: int) -> tuple[str, ...]:
    about = (node.instance[:8], str(pid or "-"), node.state, str(node.owned), str(node.copied))
    held = node.stats
    if held is None:
        return (*about, *("-",) * 5)
    return (
        *about,
        *(f"{held.cache_size:,}", f"{held.copies:,}", f"{held.memory_usage / 1e6:,.1f} MB"),
        *(f"{held.stats.hits:,}", f"{held.stats.sets:,}"),
    )
