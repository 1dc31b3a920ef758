"""The pipeline object over what is in memory, to Bytewax, polars and plain loops: the rows."""

from __future__ import annotations

from typing import Final

from _bench import ROUNDS_MIN, Options, is_installed
from _processes import HERE, run
from _report import Progress, Row, absent, at_least, figure, ratios

_ROWS_PER_S: Final = 100_000  # so many rows make a figure of about the seconds wanted, of Bytewax
_LOAD_S: Final = 30.0
NAMES: Final = {
    "columns": "pipeline over columns in memory",
    "rows": "pipeline over objects in memory",
    "bytewax": "Bytewax over objects in memory",
    "loop_columns": "plain loop over columns in memory",
    "loop_rows": "plain loop over objects in memory",
    "polars": "polars over a whole frame at once, the bound",
}
BYTEWAX_RATIO: Final = 4.0

Rates = dict[str, list[float]]
"""Rows in a second, round by round, by stack."""


def memory_rows(options: Options, progress: Progress) -> list[Row]:
    """Hourly windows by country, no transport on either side."""
    rates: Rates = {}
    count = int(_ROWS_PER_S * options.seconds)
    stacks = [stack for stack in NAMES if _is_there(stack)]
    rounds = 1 if options.quick else max(options.rounds, ROUNDS_MIN)
    for _ in progress.rounds("windows over what is in memory", rounds):
        for stack in stacks:
            command = [str(HERE / "_analytics_stacks.py"), stack, str(count)]
            found: dict[str, float] = run(command, seconds=_LOAD_S + options.seconds)
            rates.setdefault(stack, []).append(found["rows_per_s"])
    return memory_rows_of(rates)


def memory_rows_of(rates: Rates) -> list[Row]:
    """Return the budget, then what was measured of each; a stack that is absent has no rates."""
    name = f"{NAMES['columns']}, to Bytewax"
    if "bytewax" in rates:
        times = ratios(rates["columns"], rates["bytewax"])
        rows = [at_least(name, times, "x", BYTEWAX_RATIO)]
    else:
        rows = [absent(name, "x", "bytewax is not installed: it has wheels for Python 3.11, 3.12")]
    return rows + [
        figure(name, rates[stack], "rows/s")
        if stack in rates
        else absent(name, "rows/s", f"{stack} is not installed")
        for stack, name in NAMES.items()
    ]


def _is_there(stack: str) -> bool:
    return stack not in {"bytewax", "polars"} or is_installed(stack)
