"""From `ingest` to committed windows, to bare JetStream, in processes of their own: the rows."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from _bench import ROUNDS_MIN, Options
from _processes import (
    HERE,
    SetUpError,
    nats_server,
    read_line,
    resident_bytes,
    run,
    started,
)
from _report import Progress, Row, at_least, at_most, figure, ratios

BARE_RATIO: Final = 0.5
P99_MS_MAX: Final = 1_000
_ROWS_PER_S: Final = 400_000  # so many rows make a figure of about the seconds wanted
_ROWS_MIN: Final = 10_000
_LOAD_S: Final = 60.0
_ROLE: Final = str(HERE / "_analytics_role.py")
_BARE: Final = str(HERE / "_analytics_bare.py")


class Live(msgspec.Struct):
    """What was measured, round by round."""

    bare: list[float] = []
    """Rows in a second, published to windows in a dict."""
    ingested: list[float] = []
    """Until all were acknowledged."""
    committed: list[float] = []
    """Until all windows were in the database."""
    p50_ms: list[float] = []
    p99_ms: list[float] = []
    """From when an array was due to a result that has it, at half of what was committed."""
    resident_mib: list[float] = []
    """Of the processor, after the load."""


def live_rows(options: Options, progress: Progress) -> list[Row]:
    """Arrays of 1,000 rows to hourly windows by country, each stack through JetStream."""
    live = Live()
    count = max(_ROWS_MIN, int(_ROWS_PER_S * options.seconds))
    rounds = 1 if options.quick else max(options.rounds, ROUNDS_MIN)
    with (
        tempfile.TemporaryDirectory(prefix="agent99-bench-") as folder,
        nats_server(Path(folder)) as url,
    ):
        for number in progress.rounds("from ingest to committed windows", rounds):
            live.bare.append(_bare(url, f"bare-{number}", count))
            with _agents(url, f"load-{number}", folder) as pid:
                _load(live, url, f"load-{number}", count)
                live.resident_mib.append(resident_bytes(pid) / (1 << 20))
            with _agents(url, f"pace-{number}", folder):
                _pace(live, url, f"pace-{number}", count)
    return live_rows_of(live)


def live_rows_of(live: Live) -> list[Row]:
    """Return the budgets, then what was measured of each."""
    name, latency = "ingest to committed windows", "record to visible result at half that rate"
    return [
        at_least(f"{name}, to bare JetStream", ratios(live.committed, live.bare), "x", BARE_RATIO),
        at_most(f"{latency}, p99", live.p99_ms, "ms", P99_MS_MAX),
        figure(f"{latency}, p50", live.p50_ms, "ms"),
        figure(name, live.committed, "rows/s"),
        figure("ingest alone, acknowledged", live.ingested, "rows/s"),
        figure("bare JetStream to windows in a dict", live.bare, "rows/s"),
        figure("resident memory of the processor after it", live.resident_mib, "MiB"),
    ]


def _bare(url: str, stream: str, count: int) -> float:
    with started([sys.executable, _BARE, "consume", url, stream, str(count)]) as consumer:
        read_line(consumer, "who reads bare JetStream")
        published = run([_BARE, "publish", url, stream, str(count)], seconds=_LOAD_S)
        ended = msgspec.json.decode(read_line(consumer, "who reads bare JetStream"))["ended"]
    return count / float(ended - published["began"])


@contextlib.contextmanager
def _agents(url: str, mesh: str, folder: str) -> Iterator[int]:
    """Run an ingestion agent and a processor; gives the latter's process id."""
    database = f"sqlite:///{folder}/{mesh}.db"
    with (
        started([sys.executable, _ROLE, "ingest", url, mesh]) as ingestion,
        started([sys.executable, _ROLE, "process", url, mesh, database]) as processor,
    ):
        read_line(ingestion, "the ingestion agent")
        read_line(processor, "the processor")
        yield processor.pid


def _load(live: Live, url: str, mesh: str, count: int) -> None:
    found: dict[str, float] = run([_ROLE, "load", url, mesh, str(count)], seconds=_LOAD_S)
    live.ingested.append(count / (found["stored"] - found["began"]))
    live.committed.append(count / (found["ended"] - found["began"]))


def _pace(live: Live, url: str, mesh: str, count: int) -> None:
    arguments = [_ROLE, "pace", url, mesh, str(count), str(live.committed[-1] / 2)]
    latencies = sorted(run(arguments, seconds=_LOAD_S)["latencies_s"])
    if not latencies:
        raise SetUpError("no array was visible")
    live.p50_ms.append(latencies[len(latencies) // 2] * 1e3)
    live.p99_ms.append(latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))] * 1e3)
