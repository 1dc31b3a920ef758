"""What it costs that nothing is lost: journal, jobs, sagas and store, against peers, in one run.

    make bench NAME=durable            # a table, in some eight minutes
    make bench NAME=durable JSON=1     # a JSON array on standard output, and nothing else

Each part measures one promise, in processes of its own, and gives its rows. Set-ups take turns,
round by round, and each ratio is of one round; the medians count.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from _appends import append_figures, append_ratio, measure_appends
from _bench import Options, is_installed, run_bench
from _jobs import job_rows
from _postgres import find_postgres, postgres
from _processes import HERE, nats_server, run
from _report import Progress, Row, absent, at_least, figure, ratios
from _sagas import saga_rows

CALLERS = 64
_SET_UPS = 3  # of `_store.py`
_CONSUMERS = 3  # of `_consume.py`
_DELIVERIES_PER_S = 10_000  # at least: so many make a figure of about the seconds wanted
_TRANSACTIONS = f"idempotent transactions, {CALLERS} callers"


def append_rows(options: Options, progress: Progress) -> list[Row]:
    """Appends with an ack, to nats-py's publish with ack."""
    progress.say("appends with an ack")
    with _server() as url:
        rates = measure_appends(url, options)
    return [append_ratio(rates), *append_figures(rates)]


def delivery_rows(options: Options, progress: Progress) -> list[Row]:
    """What the journal delivers, and is told that it is done, to nats-py's `fetch`."""
    progress.say("deliveries")
    count = int(_DELIVERIES_PER_S * options.seconds)
    with _server() as url:
        arguments = [str(HERE / "_consume.py"), url, str(options.rounds), str(count)]
        rates = run(arguments, seconds=_CONSUMERS * options.rounds * options.seconds)
    name = "deliveries, 256 in hand, each ack confirmed"
    ours, peer = figure(name, rates["ours"], "deliveries/s"), "raw nats-py"
    if "natspy" not in rates:
        return [absent(f"{name}, to {peer}", "x", "nats-py is not installed"), ours]
    confirmed, unconfirmed = rates["natspy_sync"], rates["natspy"]
    return [
        figure(f"{name}, to {peer}", ratios(rates["ours"], confirmed), "x"),
        figure(f"{name}, to {peer} that confirms none", ratios(rates["ours"], unconfirmed), "x"),
        ours,
        figure(f"{peer}, {name}", confirmed, "deliveries/s"),
        figure(f"{peer}, deliveries, 256 in hand, no ack confirmed", unconfirmed, "deliveries/s"),
    ]


def sqlite_rows(options: Options, progress: Progress) -> list[Row]:
    """Transactions that share commits, to the same with a commit each; every commit is synced."""
    progress.say("transactions on SQLite")
    with tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder:
        rates = _measure(f"sqlite:///{folder}/store.db", options)
    name = f"{_TRANSACTIONS}, SQLite with full sync"
    return [
        at_least(f"{name}, to one commit each", ratios(rates["shared"], rates["alone"]), "x", 2.0),
        figure(name, rates["shared"], "transactions/s"),
        figure(f"{name}, one commit each", rates["alone"], "transactions/s"),
        figure(f"{name}, with an event each", rates["telling"], "transactions/s"),
    ]


def postgres_rows(options: Options, progress: Progress) -> list[Row]:
    """The same on PostgreSQL, whose own writers share commits, to one writer alone."""
    name = f"{_TRANSACTIONS}, PostgreSQL"
    binaries = find_postgres()
    if binaries is None or not is_installed("psycopg"):
        why = "PostgreSQL is not installed" if binaries is None else "psycopg is not installed"
        return [absent(f"{name}, to one commit each", "x", why)]
    progress.say("transactions on PostgreSQL")
    with postgres(binaries) as url:
        rates = _measure(url, options)
    return [
        figure(f"{name}, to one commit each", ratios(rates["shared"], rates["alone"]), "x"),
        figure(name, rates["shared"], "transactions/s"),
        figure(f"{name}, one commit each", rates["alone"], "transactions/s"),
        figure(f"{name}, with an event each", rates["telling"], "transactions/s"),
    ]


@contextlib.contextmanager
def _server() -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder,
        nats_server(Path(folder)) as url,
    ):
        yield url


def _measure(url: str, options: Options) -> dict[str, list[float]]:
    arguments = [str(HERE / "_store.py"), url, str(options.rounds), str(options.seconds)]
    rates: dict[str, list[float]] = run(
        arguments, seconds=_SET_UPS * options.rounds * options.seconds
    )
    return rates


PARTS: Final[tuple[Callable[[Options, Progress], list[Row]], ...]] = (
    append_rows,
    delivery_rows,
    job_rows,
    saga_rows,
    sqlite_rows,
    postgres_rows,
)
"""Each takes the options and says where it stands; a new promise is a new part."""


def measure(options: Options, progress: Progress) -> list[Row]:
    """Return every row."""
    return [row for part in PARTS for row in part(options, progress)]


if __name__ == "__main__":
    sys.exit(run_bench("What it costs that nothing is lost.", measure))
