"""What every bench has in common: its command line, its end, its report."""

from __future__ import annotations

import argparse
import importlib.util
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import msgspec
from _processes import SetUpError
from _report import Progress, Row, print_json, print_table

ROUNDS_MIN = 5
"""Of the measurements that are short anyway."""
_INTERRUPTED = 130
_QUICK_S_MAX = 0.2


class Options(msgspec.Struct):
    """The command line."""

    json: bool
    rounds: int
    seconds: float
    quick: bool


def run_bench(description: str, measure: Callable[[Options, Progress], list[Row]]) -> int:
    """Measure and report; returns the exit code, which does not tell whether budgets are met.

    Args:
        measure: Returns every row. `quick` is in its options already: one round, and short.
    """
    options = _options(description)
    signal.signal(signal.SIGTERM, _end)
    try:
        with Progress() as progress:
            rows = measure(options, progress)
    except SetUpError as error:
        print(f"the bench cannot run: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return _INTERRUPTED
    if options.json:
        print_json(rows)
    else:
        print_table(rows)
    return 0


def is_installed(module: str) -> bool:
    """Tell whether a peer can be imported here."""
    return importlib.util.find_spec(module) is not None


def _options(description: str) -> Options:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print a JSON array, and nothing else")
    parser.add_argument("--rounds", type=int, default=ROUNDS_MIN, help="the medians count")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it work at all?")
    options = msgspec.convert(vars(parser.parse_args()), Options)
    if options.quick:
        options.rounds, options.seconds = 1, min(options.seconds, _QUICK_S_MAX)
    return options


def _end(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt  # SIGTERM ends it as Ctrl-C does: everything is ended in order
