"""Hourly windows by country over lines in memory, by one stack: `_analytics_stacks.py STACK LINES`.

Nothing is sent or stored. What each is given is made before the clock starts, in the form that it
takes best: objects or columns. Each must make the same windows. Prints one JSON object.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Final

import msgspec
from _analytics_lines import (
    ARRAY,
    DELAY_S,
    HOUR_S,
    Line,
    Windows,
    add_lines,
    check,
    in_arrays,
    make_lines,
)

Work = Callable[[], Windows]
"""What is timed."""
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_HOUR_US: Final = HOUR_S * 1_000_000


def loop_rows(lines: list[Line]) -> Work:
    """Add up objects in a plain loop."""

    def work() -> Windows:
        windows: Windows = {}
        add_lines(windows, lines)
        return windows

    return work


def loop_columns(lines: list[Line]) -> Work:
    """Add up columns in a plain loop."""
    columns = _columns(lines)

    def work() -> Windows:
        windows: Windows = {}
        names = ("sold_at", "country", "quantity", "price_pence")
        for time_us, country, quantity, price in zip(*map(columns.get, names), strict=True):
            place = (time_us // _HOUR_US, country)
            window = windows.get(place)
            if window is None:
                windows[place] = window = [0, 0]
            window[0] += 1
            window[1] += quantity * price
        return windows

    return work


def polars_once(lines: list[Line]) -> Work:
    """Group a frame at once, by as many threads as there are cores: no stream can be quicker."""
    import polars as pl  # noqa: PLC0415 - may be absent

    frame = pl.DataFrame(_columns(lines))

    def work() -> Windows:
        hour, pence = pl.col("sold_at") // _HOUR_US, pl.col("quantity") * pl.col("price_pence")
        grouped = frame.group_by(hour, "country").agg(pl.len(), pence.sum().alias("pence"))
        return {(hour, country): [count, sum_] for hour, country, count, sum_ in grouped.rows()}

    return work


def bytewax_fold(lines: list[Line]) -> Work:
    """Fold objects as Bytewax's documents show, unordered, which is quicker."""
    import bytewax.operators as op  # noqa: PLC0415 - may be absent
    from bytewax.dataflow import Dataflow  # noqa: PLC0415
    from bytewax.operators.windowing import (  # noqa: PLC0415
        EventClock,
        TumblingWindower,
        fold_window,
    )
    from bytewax.testing import TestingSink, TestingSource, run_main  # noqa: PLC0415

    closed: list[Any] = []

    def fold(window: list[int], line: Line) -> list[int]:
        window[0] += 1
        window[1] += line.quantity * line.price_pence
        return window

    flow = Dataflow("bench")
    stream = op.input("lines", flow, TestingSource(lines, batch_size=ARRAY))
    keyed = op.key_on("country", stream, attrgetter("country"))
    windows = fold_window(
        "hour",
        keyed,
        EventClock(attrgetter("sold_at"), timedelta(seconds=DELAY_S)),
        TumblingWindower(timedelta(seconds=HOUR_S), _EPOCH),
        lambda: [0, 0],
        fold,
        lambda one, other: [one[0] + other[0], one[1] + other[1]],
        ordered=False,
    )
    op.output("closed", windows.down, TestingSink(closed))

    def work() -> Windows:
        run_main(flow)
        return {(hour, country): window for country, (hour, window) in closed}

    return work


def run_columns(lines: list[Line]) -> Work:
    """Feed the bench's pipeline arrays as columns."""
    return _fed([_columns(array) for array in in_arrays(lines)])


def run_rows(lines: list[Line]) -> Work:
    """Feed the bench's pipeline arrays of objects."""
    return _fed(in_arrays(lines))


def _fed(arrays: list[Any]) -> Work:
    from _analytics_pipeline import revenue_of, windows_of  # noqa: PLC0415 - peers go without it

    from agent99.systems.analytics import Run  # noqa: PLC0415

    revenue = revenue_of(shards=1)

    def work() -> Windows:
        run = Run(revenue)
        for array in arrays:
            run.feed(array)
        run.finish()
        return windows_of(run.rows)

    return work


STACKS: Final[dict[str, Callable[[list[Line]], Work]]] = {
    "columns": run_columns,
    "rows": run_rows,
    "bytewax": bytewax_fold,
    "polars": polars_once,
    "loop_columns": loop_columns,
    "loop_rows": loop_rows,
}


def _columns(lines: list[Line]) -> dict[str, list[Any]]:
    columns = {name: [getattr(line, name) for line in lines] for name in Line.__struct_fields__}
    columns["sold_at"] = [(moment - _EPOCH) // _MICROSECOND for moment in columns["sold_at"]]
    return columns


def main() -> None:
    """Measure one stack."""
    stack, count = sys.argv[1], int(sys.argv[2])
    lines = make_lines(count)
    work = STACKS[stack](lines)
    gc.freeze()  # the load is nobody's garbage
    began = time.perf_counter()
    windows = work()
    took = time.perf_counter() - began
    check(windows, lines)
    print(msgspec.json.encode({"rows_per_s": count / took}).decode())


if __name__ == "__main__":
    main()
