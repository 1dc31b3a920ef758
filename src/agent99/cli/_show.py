"""Everything that reaches a terminal: sentences, JSON, tables."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

if TYPE_CHECKING:
    from rich.table import Table

PIPED_WIDTH = 200
"""Characters in a line of a table that does not go to a terminal."""

WORD_MAX = 12
"""Characters; a longer word may be broken to fit the terminal."""
GAP = 2
_WORDS = frozenset({"group", "instance", "saga", "where"})
"""Columns of one word, however long."""
_WHOLE = _WORDS | {"state"}
"""Columns of which no word is broken: they are copied, and looked for."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


def say(sentence: str) -> None:
    """Print one sentence on stderr, if that can be written: there is nobody else to tell."""
    try:
        print(f"agent99: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        let_go_of(sys.stderr)


def let_go_of(stream: TextIO) -> None:
    """Write to nowhere from now on; else Python fails once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def tell(line: str) -> None:
    """Print a line on stdout."""
    print(line, flush=True)


def print_json(document: Any, stdout: TextIO | None = None) -> None:
    """Print one JSON document: indented on a terminal, else in one line, always UTF-8."""
    out = stdout or sys.stdout
    data = _encode(document)
    if out.isatty():
        data = msgspec.json.format(data, indent=2)
    out.flush()
    out.buffer.write(data + b"\n")
    out.buffer.flush()


def pretty(document: Any) -> str:
    """Return JSON for people."""
    return msgspec.json.format(_encode(document), indent=2).decode()


def compact(document: Any) -> str:
    """Return JSON in one line."""
    return _encode(document).decode()


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: frozenset[str] = frozenset()
) -> None:
    """Draw a table on stdout. NO_COLOR is honoured, and the terminal's width if words fit it.

    In a narrower terminal lines are longer than it: what is broken can be neither read nor copied.

    Args:
        numbers: The columns that stand to the right.
    """
    from rich.console import Console

    cells = [tuple(row) for row in rows]
    widths = [_word_width(column, [row[at] for row in cells]) for at, column in enumerate(columns)]
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)
    console.width = max(console.width, sum(widths) + GAP * len(widths))
    console.print(build_table(columns, cells, widths, numbers), crop=False)


def build_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    widths: Sequence[int],
    numbers: frozenset[str],
) -> Table:
    """Return a table that is no narrower than the widths."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.upper(),
            overflow="fold",
            min_width=width,
            no_wrap=column in _WORDS,
            justify="right" if column in numbers else "left",
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # Text: brackets in a cell mean nothing
    return table


def fit(
    columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, leaving: Iterable[str]
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[int]]:
    """Return the columns that a terminal has room for, their cells, and their widths.

    Args:
        leaving: Columns that a narrow terminal does without, the first of them first.
    """
    widths = [max(map(len, (name, *(row[at] for row in rows)))) for at, name in enumerate(columns)]
    kept = list(range(len(columns)))
    for name in leaving:
        if sum(widths[at] + GAP for at in kept) - GAP <= width:
            break
        kept.remove(columns.index(name))
    cells = [tuple(row[at] for at in kept) for row in rows]
    return tuple(columns[at] for at in kept), cells, [widths[at] for at in kept]


def _word_width(column: str, cells: Sequence[str]) -> int:
    """Return the room that a column needs for its longest word, as far as that is kept whole."""
    longest = max((len(word) for cell in cells for word in cell.split()), default=0)
    return max(len(column), longest if column in _WHOLE else min(longest, WORD_MAX))


def short(instance: str) -> str:
    """Return enough of an instance's UUID to tell it from others."""
    return instance[:8]


def shortened(text: str, characters_max: int) -> str:
    """Return a text on one line, and no longer than that."""
    line = " ".join(text.split())
    return line if len(line) <= characters_max else f"{line[: characters_max - 1]}…"


def printable(text: str) -> str:
    """Return a text without control characters: as JSON writes them where it must."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(letter: str) -> str:
    code = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{code[at : at + 4]}" for at in range(0, len(code), 4))


def duration(seconds: float) -> str:
    """Return a time for people: `12 s`, `5 min`, `2 h 5 min`, `3 d 4 h`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: `1 agent`, `2 agents`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(number: int) -> str:
    """Return bytes for people: `12 B`, `3.4 kB`, `1.0 GB`."""
    if number < 1_000:
        return f"{number} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6)):
        if number < factor * 1_000:
            return f"{number / factor:,.1f} {unit}"
    return f"{number / 1e9:,.1f} GB"


def moment(time_us: int) -> str:
    """Return a time for people, in UTC: `2026-11-26 15:12:59Z`."""
    return datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def with_lacks(state: str, missing: Sequence[str], full: Sequence[str]) -> str:
    """Return a state for people, with why it is degraded."""
    lacks = [f"missing {', '.join(missing)}"] if missing else []
    lacks += [f"full: {', '.join(full)}"] if full else []
    return f"{state} ({'; '.join(lacks)})" if lacks else state
