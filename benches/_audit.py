"""The audit log on SQLite with full sync: entries written and verified in a second.

Five rounds of two seconds write 102,500 entries. Each round verifies all that is there by then.
"""

from __future__ import annotations

import tempfile

from _bench import Options
from _processes import HERE, run
from _report import Progress, Row, at_least, figure, ratios

_VERIFIED_PER_S = 200_000
_ENTRIES_PER_S = 10_000  # so many in batches make a figure of about the seconds wanted
_BATCH = 100  # of `_audit_role.py`
_NAME = "audit log"
_UNIT = "entries/s"

Rates = dict[str, list[float]]
"""Entries per second, round by round: written in `batches` and `alone`, and `verified`."""


def audit_rows(options: Options, progress: Progress) -> list[Row]:
    """Entries of an audit log in a second."""
    progress.say("entries of the audit log")
    return rows_of(measure_audit(options))


def measure_audit(options: Options) -> Rates:
    """Measure in a process of its own."""
    entries = max(1, int(_ENTRIES_PER_S * options.seconds) // _BATCH) * _BATCH
    with tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder:
        url = f"sqlite:///{folder}/audit.db"
        arguments = [str(HERE / "_audit_role.py"), url, str(options.rounds), str(entries)]
        rates: Rates = run(arguments, seconds=4 * options.rounds * options.seconds)
    return rates


def rows_of(rates: Rates) -> list[Row]:
    """Return the budget, then what was measured."""
    batches = f"{_NAME}, entries in batches of {_BATCH}"
    return [
        at_least(f"{_NAME}, entries verified", rates["verified"], _UNIT, _VERIFIED_PER_S),
        figure(f"{batches}, to one by one", ratios(rates["batches"], rates["alone"]), "x"),
        figure(batches, rates["batches"], _UNIT),
        figure(f"{_NAME}, entries one by one", rates["alone"], _UNIT),
    ]
