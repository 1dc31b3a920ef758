"""What the event bus stores for others, beside appends without it: the rows."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from _bench import Options
from _processes import HERE, nats_server, read_line, run, started
from _report import Progress, Row, figure, ratios

IN_FLIGHT = (1, 64)  # of `_mesh_append.py`
_STACKS = 2  # of `_bus.py`
_SERVED_S = 3_600.0
_NAMES = {"publish": "event bus, publish", "append": "append beside it"}


def bus_rows(options: Options, progress: Progress) -> list[Row]:
    """Requests to an event bus in another process, and appends, in turns."""
    progress.say("the event bus")
    seconds, programme = options.seconds / 2, str(HERE / "_bus.py")
    with (
        tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder,
        nats_server(Path(folder)) as url,
        started([sys.executable, programme, "server", url, str(_SERVED_S)]) as server,
    ):
        read_line(server, "_bus.py")
        arguments = [programme, "client", url, str(options.rounds), str(seconds)]
        figures = _STACKS * len(IN_FLIGHT) * options.rounds
        rates: dict[str, list[float]] = run(arguments, seconds=figures * seconds)
    return rows_of(rates)


def rows_of(rates: dict[str, list[float]]) -> list[Row]:
    """Return what was measured of each, then the ratios; there is no budget.

    Args:
        rates: Events per second, by stack and how many were in flight: `publish_64`.
    """
    at_once = {1: "one at a time", 64: "64 at once"}
    rows = [
        figure(f"{name}, {at_once[count]}", rates[f"{stack}_{count}"], "events/s")
        for stack, name in _NAMES.items()
        for count in IN_FLIGHT
    ]
    for count in IN_FLIGHT:
        ratio = ratios(rates[f"publish_{count}"], rates[f"append_{count}"])
        rows.append(figure(f"event bus, publish, {at_once[count]}, to append", ratio, "x"))
    return rows
