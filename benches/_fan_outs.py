"""Stored events delivered to 64 groups, to core NATS: the rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from _bench import Options
from _processes import HERE, nats_server, run
from _report import Progress, Row, absent, at_least, figure, ratios

GROUPS = 64  # of `_fan_out.py`
_EVENTS_PER_S = 750  # at least, each to 64: so many make a figure of about the seconds wanted
_SET_UP_S = 5.0  # at most, of each figure
_STACKS = 4  # of `_fan_out.py`
_NAMES = {
    "one": f"ordered delivery to {GROUPS} groups",
    "all": f"ordered delivery to {GROUPS} groups of 64 partitions",
}
_CORE = {"wire": "core NATS by agent99.wire", "natspy": "core NATS by nats-py"}


def fan_out_rows(options: Options, progress: Progress) -> list[Row]:
    """What is delivered in a second while it is stored, to core NATS of the same bytes."""
    progress.say(f"events to {GROUPS} groups each")
    count = max(10, int(_EVENTS_PER_S * options.seconds))
    with (
        tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder,
        nats_server(Path(folder)) as url,
    ):
        arguments = [str(HERE / "_fan_out.py"), url, str(options.rounds), str(count)]
        figures = 1 + _STACKS * options.rounds
        rates: dict[str, list[float]] = run(
            arguments, seconds=figures * (options.seconds + _SET_UP_S)
        )
    return rows_of(rates)


def rows_of(rates: dict[str, list[float]]) -> list[Row]:
    """Return the ratios, then what was measured of each.

    Args:
        rates: Deliveries per second, by stack; of a peer that is absent, none. `joined_one` and
            `joined_all`: seconds.
    """
    rows: list[Row] = []
    for core, peer in _CORE.items():
        name, sharing = (f"{ours}, to {peer}" for ours in _NAMES.values())
        if core not in rates:
            rows.append(absent(name, "x", "nats-py is not installed"))
            continue
        rows.append(at_least(name, ratios(rates["one"], rates[core]), "x", 0.65))
        rows.append(figure(sharing, ratios(rates["all"], rates[core]), "x"))
    names = _NAMES | {core: f"{peer}, to {GROUPS} subscriptions" for core, peer in _CORE.items()}
    rows += [
        figure(names[stack], rates[stack], "deliveries/s") for stack in names if stack in rates
    ]
    for form in ("one", "all"):
        name = _NAMES[form].removeprefix("ordered delivery to ")
        rows.append(figure(f"{name} joined", rates[f"joined_{form}"], "s"))
    return rows
