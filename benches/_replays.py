"""Reading stored events again, to raw nats-py: the rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from _bench import Options
from _processes import HERE, nats_server, run
from _report import Progress, Row, absent, at_least, figure, ratios

EVENTS = 200_000
_EVENTS_QUICK = 2_000
_ABOUT_PER_S = 10_000  # at least: by the slowest of those that read, and by who appends
_STACKS = 3  # of `_replay.py`
_NAMES = {
    "read": "replay by Journal.read",
    "tail": "replay by Journal.tail",
    "natspy": "raw nats-py, replay by fetch(500), no acks",
}


def replay_rows(options: Options, progress: Progress) -> list[Row]:
    """What is read in a second of events that are stored, to nats-py's `fetch`."""
    count = _EVENTS_QUICK if options.quick else EVENTS
    progress.say(f"{count:,} events, read again and again")
    with (
        tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder,
        nats_server(Path(folder)) as url,
    ):
        arguments = [str(HERE / "_replay.py"), url, str(options.rounds), str(count)]
        passes = 1 + _STACKS * options.rounds
        rates: dict[str, list[float]] = run(arguments, seconds=passes * count / _ABOUT_PER_S)
    return rows_of(rates)


def rows_of(rates: dict[str, list[float]]) -> list[Row]:
    """Return the ratios, then what was measured of each.

    Args:
        rates: Events per second, by stack; of a peer that is absent, none.
    """
    rows: list[Row] = []
    for stack in ("read", "tail"):
        name = f"{_NAMES[stack]}, to raw nats-py"
        if "natspy" in rates:
            rows.append(at_least(name, ratios(rates[stack], rates["natspy"]), "x", 3.0))
        else:
            rows.append(absent(name, "x", "nats-py is not installed"))
    present = [stack for stack in _NAMES if stack in rates]
    return [*rows, *(figure(_NAMES[stack], rates[stack], "events/s") for stack in present)]
