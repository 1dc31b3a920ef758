"""Stored events delivered to 64 groups, to core NATS: the rows."""

from __future__ import annotations

import tempfile
from pathlib import Path

from _bench import Options
from _processes import HERE, nats_server, run
from _report import Progress, Row, absent, at_least, figure, ratios

GROUPS, SHARING = 64, 8  # of `_fan_out.py`
_EVENTS_PER_S = 750  # at least, each to 64: so many make a figure of about the seconds wanted
_SET_UP_S = 5.0  # at most, of each figure
_STACKS = 4  # of `_fan_out.py`
_NAME = f"ordered delivery to {GROUPS} groups"
_SHARING = f"ordered delivery to {SHARING} groups of 64 partitions"
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
    for core, name in _CORE.items():
        if core in rates:
            ratio = ratios(rates["one"], rates[core])
            rows.append(at_least(f"{_NAME}, to {name}", ratio, "x", 0.65))
        else:
            rows.append(absent(f"{_NAME}, to {name}", "x", "nats-py is not installed"))
    names = {"one": _NAME, "all": _SHARING}
    names |= {core: f"{name}, to {GROUPS} subscriptions" for core, name in _CORE.items()}
    present = [stack for stack in names if stack in rates]
    return [
        *rows,
        *(figure(names[stack], rates[stack], "deliveries/s") for stack in present),
        figure(f"{GROUPS} groups join", rates["joined_one"], "s"),
        figure(f"{SHARING} groups of 64 partitions join", rates["joined_all"], "s"),
    ]
