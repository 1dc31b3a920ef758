"""Storing with an ack, to raw nats-py: the rows that two benches have."""

from __future__ import annotations

from _bench import ROUNDS_MIN, Options
from _processes import HERE, run
from _report import Row, absent, at_least, figure, ratios

Rates = dict[str, list[float]]
"""Appends per second of each, round by round; of a peer that is absent, none."""


def measure_appends(url: str, options: Options) -> Rates:
    """Measure on the server at `url`, in a process of its own."""
    rounds = 1 if options.quick else max(options.rounds, ROUNDS_MIN)
    arguments = [str(HERE / "_append.py"), url, str(rounds), str(options.seconds / 2)]
    rates: Rates = run(arguments, seconds=rounds * options.seconds)
    return rates


def append_ratio(rates: Rates) -> Row:
    """Return the row of the budget."""
    name, unit = "journal append, 256 in flight, to raw nats-py", "x"
    if not rates["natspy"]:
        return absent(name, unit, "nats-py is not installed")
    return at_least(name, ratios(rates["ours"], rates["natspy"]), unit, 1.5)


def append_figures(rates: Rates) -> list[Row]:
    """Return the rows of what was measured of each."""
    names = {
        "ours": "journal append, 256 in flight",
        "natspy": "raw nats-py, publish with ack, 256 in flight",
    }
    return [figure(name, rates[key], "appends/s") for key, name in names.items() if rates[key]]
