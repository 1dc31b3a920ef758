"""Events built and encoded, to the `cloudevents` package, and decoded: the rows."""

from __future__ import annotations

from _bench import Options
from _processes import HERE, run
from _report import Progress, Row, absent, at_least, figure, ratios

_EVENTS_PER_S = 10_000  # at least, by the slowest: so many make a figure of no more than that
_STACKS = 4  # of `_cloud_event.py`
_NAME = "CloudEvent built and encoded"
_PEER = "the cloudevents package"
_NAMES = {
    "ours": _NAME,
    "core": f"{_PEER}, core, built and encoded",
    "v1": f"{_PEER}, v1.http, built and encoded",
    "stored": "stored event decoded",
}


def cloud_event_rows(options: Options, progress: Progress) -> list[Row]:
    """What is built and encoded in a second, to the quicker interface of the package."""
    progress.say("events built, encoded and decoded")
    count = max(100, int(_EVENTS_PER_S * options.seconds))
    arguments = [str(HERE / "_cloud_event.py"), str(options.rounds), str(count)]
    rates: dict[str, list[float]] = run(
        arguments, seconds=_STACKS * options.rounds * options.seconds
    )
    return rows_of(rates)


def rows_of(rates: dict[str, list[float]]) -> list[Row]:
    """Return the ratio, then what was measured of each.

    Args:
        rates: Events per second, by stack; of a peer that is absent, none.
    """
    name = f"{_NAME}, to {_PEER}"
    if "core" in rates:
        quicker = [max(both) for both in zip(rates["core"], rates["v1"], strict=True)]
        ratio = at_least(name, ratios(rates["ours"], quicker), "x", 6.0)
    else:
        ratio = absent(name, "x", "cloudevents is not installed")
    present = [stack for stack in _NAMES if stack in rates]
    return [ratio, *(figure(_NAMES[stack], rates[stack], "events/s") for stack in present)]
