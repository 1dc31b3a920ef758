"""What open windows take in memory: `_analytics_state.py KEYS WINDOWS`; and the rows of all sizes.

As a programme it prints one JSON object: bytes for each key of each window, a count and a sum.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any, Final

import msgspec
from _bench import Options
from _processes import HERE, resident_bytes, run
from _report import Progress, Row, figure

_SIZES: Final = ((1_000, 100), (100_000, 1), (100_000, 10))
_QUICK: Final = ((1_000, 100),)
_FEED_S: Final = 60.0
_WARM_UP: Final = 10


class Reading(msgspec.Struct):
    """What is counted of a key."""

    at_us: int
    sensor: str
    value: int


def state_rows(options: Options, progress: Progress) -> list[Row]:
    """What a key takes in an open window, by how many there are of both; one round."""
    rows: list[Row] = []
    for keys, windows in _QUICK if options.quick else _SIZES:
        progress.say(f"{keys:,} keys in {windows} open windows")
        arguments = [str(HERE / "_analytics_state.py"), str(keys), str(windows)]
        each: float = run(arguments, seconds=_FEED_S)["bytes"]
        name = f"memory of a key in an open window, {keys:,} keys, windows: {windows}"
        rows.append(figure(name, [each], "bytes"))
    return rows


def measure(keys: int, windows: int) -> float:
    """Return the bytes that a process grows by for each key of each window."""
    from agent99.systems.analytics import (  # noqa: PLC0415 - the bench itself goes without it
        Count,
        Pipeline,
        Run,
        Source,
        Sum,
        Tumbling,
    )

    readings = Source("readings", Reading, time="at_us", delay_s=windows + _WARM_UP)
    totals = Pipeline(
        "totals",
        readings,
        key=("sensor",),
        window=Tumbling(1),
        aggregates={"readings": Count(), "total": Sum("value")},
    )
    fed = Run(totals)
    for number in range(_WARM_UP):
        fed.feed(_columns(number, 1))
    gc.collect()
    before = resident_bytes(os.getpid())
    for number in range(windows):
        fed.feed(_columns(_WARM_UP + number, keys))
    gc.collect()
    if len(fed.open_rows()) != _WARM_UP + keys * windows:
        raise SystemExit("not all windows are open")
    return (resident_bytes(os.getpid()) - before) / (keys * windows)


def _columns(second: int, keys: int) -> dict[str, list[Any]]:
    return {
        "at_us": [second * 1_000_000] * keys,
        "sensor": [f"sensor-{number}" for number in range(keys)],
        "value": [1_000 + number for number in range(keys)],
    }


if __name__ == "__main__":
    each_bytes = measure(int(sys.argv[1]), int(sys.argv[2]))
    print(msgspec.json.encode({"bytes": each_bytes}).decode())
