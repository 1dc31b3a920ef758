"""Appending events, to raw nats-py: the rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from _bench import Options
from _processes import HERE, nats_server, run
from _report import Progress, Row, absent, at_least, figure, ratios

IN_FLIGHT = (1, 64)  # of `_mesh_append.py`
_STACKS = 3  # of it
_NAMES = {
    "ours": "append, {}",
    "natspy": "raw nats-py, publish with ack, {}",
    "natspy_ids": "raw nats-py, publish with ack and message id, {}",
}


def append_rows(options: Options, progress: Progress) -> list[Row]:
    """Appends of a mesh, awaited, to nats-py's publish with ack of as many bytes."""
    progress.say("appends, awaited, one at a time and 64 at once")
    seconds = options.seconds / 2
    with (
        tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder,
        nats_server(Path(folder)) as url,
    ):
        arguments = [str(HERE / "_mesh_append.py"), url, str(options.rounds), str(seconds)]
        figures = _STACKS * len(IN_FLIGHT) * options.rounds
        rates: dict[str, list[float]] = run(arguments, seconds=figures * seconds)
    return rows_of(rates)


def rows_of(rates: dict[str, list[float]]) -> list[Row]:
    """Return the ratios, then what was measured of each.

    Args:
        rates: Appends per second, by stack and how many were in flight: `ours_64`; of a peer that
            is absent, none.
    """
    rows: list[Row] = []
    for in_flight in IN_FLIGHT:
        name, ours = f"append, {_at_once(in_flight)}, to raw nats-py", rates[f"ours_{in_flight}"]
        if f"natspy_{in_flight}" not in rates:
            rows.append(absent(name, "x", "nats-py is not installed"))
            continue
        rows.append(at_least(name, ratios(ours, rates[f"natspy_{in_flight}"]), "x", 1.5))
        with_ids = ratios(ours, rates[f"natspy_ids_{in_flight}"])
        rows.append(figure(f"{name} with message ids", with_ids, "x"))
    for stack, name in _NAMES.items():
        rows += [
            figure(name.format(_at_once(in_flight)), rates[f"{stack}_{in_flight}"], "appends/s")
            for in_flight in IN_FLIGHT
            if f"{stack}_{in_flight}" in rates
        ]
    return rows


def _at_once(in_flight: int) -> str:
    return "one at a time" if in_flight == 1 else f"{in_flight} at once"
