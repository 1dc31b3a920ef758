"""`agent99 analytics`, on a mesh with a job of two pipelines."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent99.cli._analytics_anomalies import HALF_LIFE, THRESHOLD, WARM_UP
from agent99.systems.analytics import Ewma
from tests._wait import wait_until
from tests.cli._cli import TIMEOUT_S, Cli, Done, Within

Ask = Callable[..., Done]
FIGURES = '''
from datetime import datetime

import msgspec

from agent99.systems.analytics import (
    AnalyticsProcessor, Count, DataIngestionAgent, FunctionSink, Job, Pipeline, Refused, Source,
    Sum, TopK, Tumbling,
)


class Line(msgspec.Struct):
    sold_at: datetime
    country: str
    pence: int


async def board(rows, event):
    return [Refused(at, "too dear") for at, row in enumerate(rows) if row.values["pence"] == 250]


async def away(rows, event):
    raise OSError("nobody is there")


LINES = Source("lines", Line, time="sold_at", delay_s=60, idle_s=3600)
HOURLY = Pipeline(
    "revenue",
    LINES,
    key=("country",),
    window=Tumbling(3600),
    aggregates={"lines": Count(), "pence": Sum("pence")},
    lateness_s=86400,
    sinks=(FunctionSink("board", board), FunctionSink("away", away)),
)
TOP = Pipeline("top", LINES, window=Tumbling(86400), aggregates={"top": TopK("country", 2)})


class Tills(DataIngestionAgent):
    sources = (LINES,)


class Figures(AnalyticsProcessor):
    """Keeps the figures of the shop."""

    def __init__(self) -> None:
        super().__init__(Job("sales", (HOURLY, TOP)), database="sqlite:///figures/sales.db")
'''
LINES: tuple[tuple[str, str, int], ...] = (
    ("09:10", "Eire", 100),
    ("09:50", "France", 250),
    ("10:30", "Eire", 50),  # the hour before is over
    ("09:55", "Eire", 11),  # and corrected
    ("11:30", "Eire", 7),
)


def ingest(cli: Cli, *lines: tuple[str, str, int]) -> None:
    """Store lines of the first of March."""
    data = [
        {"sold_at": f"2026-03-01T{at}:00Z", "country": country, "pence": pence}
        for at, country, pence in lines
    ]
    payload = json.dumps({"data": data, "source": "lines"})
    done = cli.run("call", "data_ingestion", "ingest", "--json-payload", payload)
    assert 0 == done.code, done.err


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project in which some lines were sold, of which one came late."""
    cli = Cli(tmp_path_factory.mktemp("analytics") / "project")
    cli.write("figures.py", FIGURES)
    try:
        cli.start("run", "figures.py").wait_line("^ready: ")
        ingest(cli, *LINES[:3])
        wait_closed(cli, "2026-03-01 10:00:00Z")
        ingest(cli, *LINES[3:])
        wait_closed(cli, "2026-03-01 11:00:00Z")
        yield cli
    finally:
        cli.close()


def wait_closed(cli: Cli, end: str) -> None:
    """Wait until a window that ends then is closed."""

    def is_closed() -> bool:
        lines = cli.run("analytics", "query", "revenue").out.splitlines()
        return any(end in line and "open" not in line for line in lines)

    wait_until(is_closed, timeout_s=TIMEOUT_S)


def cells(done: Done) -> list[list[str]]:
    """Return the cells of a table, without its head and what is said after it."""
    return [line.split() for line in done.out.splitlines()[1:-1]]


# --- query ----------------------------------------------------------------------------------------


def test_query_shows_closed_windows_and_open_ones(ask: Ask) -> None:
    """One that was corrected says so; the last line counts."""
    done = ask("analytics", "query", "revenue")
    day = "2026-03-01"
    assert [
        [day, "09:00:00Z", day, "10:00:00Z", "Eire", "2", "111", "2", "revision", "2"],
        [day, "09:00:00Z", day, "10:00:00Z", "France", "1", "250", "1", "closed"],
        [day, "10:00:00Z", day, "11:00:00Z", "Eire", "1", "50", "1", "closed"],
        [day, "11:00:00Z", day, "12:00:00Z", "Eire", "1", "7", "1", "open"],
    ] == cells(done)
    assert ["START", "END", "KEY", "LINES", "PENCE", "RECORDS", "STATE"] == (
        done.out.splitlines()[0].split()
    )
    assert done.out.endswith("4 rows of pipeline 'revenue'\n")


@pytest.mark.parametrize(
    ("words", "ends"),
    [
        (("--key", "Eire"), ["10:00:00Z", "11:00:00Z", "12:00:00Z"]),
        (("--key", "Nowhere"), []),
        (("--since", "2026-03-01T10:00"), ["11:00:00Z", "12:00:00Z"]),
        (("--until", "2026-03-01T10:00"), ["10:00:00Z", "10:00:00Z"]),
        (("--open",), ["12:00:00Z"]),
        (("--limit", "2"), ["11:00:00Z", "12:00:00Z"]),
        (("--limit", "2", "--latest"), ["12:00:00Z", "11:00:00Z"]),
        (("--latest",), ["12:00:00Z", "11:00:00Z", "10:00:00Z", "10:00:00Z"]),
        (("--job", "sales", "--version", "1", "--limit", "1"), ["12:00:00Z"]),
    ],
    ids=" ".join,
)
def test_query_chooses_rows(ask: Ask, words: tuple[str, ...], ends: list[str]) -> None:
    """By key, by time, by state; and the last so many."""
    done = ask("analytics", "query", "revenue", *words)
    assert (0, ends) == (done.code, [row[3] for row in cells(done)])


def test_query_as_json(ask: Ask) -> None:
    """One document, that says whether there is more."""
    document: dict[str, Any] = ask(
        *("analytics", "query", "revenue", "--json", "--limit", "1")
    ).document
    (row,) = document.pop("rows")
    about = {"job": "sales", "version": 1, "pipeline": "revenue"}
    assert about | {"count": 1, "has_more": True} == document
    assert ("open", ["Eire"], {"lines": 1, "pence": 7}) == (
        row["state"],
        row["key"],
        row["values"],
    )


# --- status ---------------------------------------------------------------------------------------


def test_status_counts_every_record_once(ask: Ask) -> None:
    """On time and late add up; the top of the day is of an open window."""
    found = ask("analytics", "status", "--json").document
    (job,) = found["jobs"]
    assert ("sales", 1, 1, 1) == tuple(
        job[name] for name in ("job", "version", "current_version", "processors")
    )
    counts = {
        one["pipeline"]: [one[name] for name in ("records", "on_time", "late", "dropped", "rows")]
        for one in job["pipelines"]
    }
    assert {"revenue": [5, 4, 1, 0, 3], "top": [5, 4, 0, 1, 0]} == counts
    done = ask("analytics", "status")
    assert "job 'sales', version 1; 1 processor\n" in done.out
    assert "revenue" in done.out
    (head,) = (line for line in done.out.splitlines() if line.startswith("PIPELINE  RECORDS"))
    assert "REFUSED  REPEATED  CLOSED" in head


def test_status_shows_what_sinks_lack(crew: Cli) -> None:
    """How many events each lacks, what became of rows, and what is wrong with it."""
    names = ("lag", "delivered", "refused", "refused_events")

    def sinks() -> dict[str, dict[str, Any]]:
        (job,) = crew.run("analytics", "status", "--json").document["jobs"]
        return {one["sink"]: one for one in job["sinks"]}

    def is_settled() -> bool:
        found = sinks()
        return [found["board"][name] for name in names] == [0, 3, 1, 0] and found["away"]["error"]

    wait_until(is_settled, timeout_s=TIMEOUT_S)
    lines = crew.run("analytics", "status").out.splitlines()
    at = next(at for at, line in enumerate(lines) if line.startswith("PIPELINE  SINK"))
    assert ["PIPELINE", "SINK", "LAG", "DELIVERED", "REFUSED", "BURIED", "ERROR"] == (
        lines[at].split()
    )
    assert ["revenue", "board", "0", "3", "1", "0", "-"] == lines[at + 1].split()
    away, lag, *counts = lines[at + 2].split(maxsplit=6)[1:]
    assert ("away", True) == (away, int(lag) >= 2)
    assert ["0", "0", "0", "OSError: nobody is there"] == counts


# --- watch ----------------------------------------------------------------------------------------


def test_watch_prints_rows_as_they_come(cli: Cli) -> None:
    """What is closed already with --all; then each change; Ctrl-C is its end, and no failure."""
    cli.write("figures.py", FIGURES)
    cli.start("run", "figures.py").wait_line("^ready: ")
    ingest(cli, *LINES[:3])
    wait_closed(cli, "2026-03-01 10:00:00Z")
    running = cli.start("analytics", "watch", "revenue", "--all")
    running.wait_line("France  lines 1  pence 250  closed")
    ingest(cli, LINES[3])
    running.wait_line("Eire  lines 2  pence 111  revision 2")
    running.signal(signal.SIGINT)
    assert 0 == running.wait()


# --- anomalies ------------------------------------------------------------------------------------


def test_anomalies_are_listed_and_followed(cli: Cli, within: Within) -> None:
    """As a table, as JSON, and as they come: a correction clears one; Ctrl-C is no failure."""
    cli.write("figures.py", FIGURES)
    cli.start("run", "figures.py").wait_line("^ready: ")
    pence = (100, 110, 100, 110, 900)
    hours = ((f"{9 + at:02}:10", "Eire", one) for at, one in enumerate(pence))
    ingest(cli, *hours, ("14:30", "France", 1))
    wait_closed(cli, "2026-03-01 14:00:00Z")
    words = ("analytics", "anomalies", "revenue", "pence", "--warm-up", "3")
    ask = within(cli)
    done = ask(*words)
    day = "2026-03-01"
    (row,) = cells(done)
    assert [day, "13:00:00Z", day, "14:00:00Z", "Eire", "900"] == row[:6]
    assert "closed" == row[-1]
    assert "1 anomaly of 'pence' of pipeline 'revenue'" == done.out.splitlines()[-1]
    found = ask(*words, "--json", "--threshold", "5", "--half-life", "10").document
    (one,) = found.pop("anomalies")
    about = {"job": "sales", "version": 1, "pipeline": "revenue", "figure": "pence", "count": 1}
    assert about == found
    assert (["Eire"], 900, 1) == (one["key"], one["value"], one["revision"])
    assert one["score"] == pytest.approx((900 - one["expected"]) / one["deviation"])
    for chosen in (("--key", "France"), ("--since", "2026-03-01T14:00"), ("--threshold", "1e6")):
        assert "0 anomalies of 'pence' of pipeline 'revenue'\n" == ask(*words, *chosen).out
    running = cli.start(*words, "--follow", "--key", "Eire")
    running.wait_line("Eire  value 900  expected 105")
    ingest(cli, ("13:20", "Eire", -800))
    running.wait_line("Eire  value 100  expected 105.*  cleared")
    running.signal(signal.SIGINT)
    assert 0 == running.wait()


def test_the_rule_of_the_command_line_is_the_usual_one() -> None:
    """Where no option says another."""
    assert Ewma() == Ewma(threshold=THRESHOLD, half_life=HALF_LIFE, warm_up=WARM_UP)


# --- versions -------------------------------------------------------------------------------------


def test_a_version_beside_the_old_one_takes_its_place(cli: Cli) -> None:
    """It is compared, and switched to; then the old one can go."""
    cli.write("figures.py", FIGURES)
    old = cli.start("run", "figures.py")
    old.wait_line("^ready: ")
    ingest(cli, *LINES[:3])
    wait_closed(cli, "2026-03-01 10:00:00Z")
    newer = FIGURES.replace('Sum("pence")', 'Sum("twice")').replace(
        "    window=Tumbling(3600),",
        '    window=Tumbling(3600), columns={"twice": lambda pence: 2 * pence},',
    )
    newer = newer.replace("(HOURLY, TOP))", "(HOURLY, TOP), version=2)")
    cli.write("newer.py", newer.replace("class Tills(DataIngestionAgent):", "class _No:"))
    cli.start("run", "newer.py").wait_line("^ready: ")

    def differ() -> bool:
        done = cli.run("analytics", "compare", "sales", "1", "2", "--pipeline", "revenue")
        return (done.code, "pence 250 → 500" in done.out) == (1, True)

    wait_until(differ, timeout_s=TIMEOUT_S)
    done = cli.run("analytics", "compare", "sales", "1", "2", "--json")
    found = {one["pipeline"]: one for one in done.document["pipelines"]}
    assert (2, 0) == (found["revenue"]["different"], found["top"]["different"])
    done = cli.run("analytics", "switch", "sales", "2")
    assert (0, "job 'sales': version 1 → 2; 0 rows told by the switch\n") == (done.code, done.out)
    assert "500" in cli.run("analytics", "query", "revenue", "--key", "France").out
    assert 1 == cli.run("analytics", "drop", "sales", "1", "--yes").code
    old.signal(signal.SIGINT)
    assert 0 == old.wait()
    done = cli.run("analytics", "drop", "sales", "1", "--yes")
    assert (0, "version 1 of job 'sales' is gone, with 2 rows\n") == (done.code, done.out)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("query revenu", 3, "did you mean 'revenue'? there are: revenue of sales, top of sales"),
        ("query revenue --job other", 3, "there is no such pipeline 'revenue'; there are: none"),
        ("query revenue --version 2", 3, "there is no such pipeline"),
        ("compare sales 1 2", 3, "there is no version 2 of job 'sales'; there are: 1"),
        ("switch sales 2", 1, "this processor runs version 1 of 'sales'"),
        ("drop sales 1 --yes", 1, "is the one that is asked for"),
        ("drop sales 1", 2, "say --yes"),
        ("anomalies revenue penny", 2, "has no figure 'penny'; it has lines, pence"),
        ("anomalies nothing pence", 3, "there is no such pipeline 'nothing'"),
        ("anomalies revenue pence --threshold 0", 2, "threshold is 0.0; a number above 0"),
        ("anomalies revenue pence --half-life nan", 2, "half_life is nan; a number above 0"),
        ("anomalies revenue pence --warm-up 1", 2, "warm_up is 1; 2 windows or more"),
        ("anomalies revenue pence --key Eire --key 2", 2, "has 1 values: ['country']"),
        ("anomalies revenue pence --follow --until -1h", 2, "say no --until with it"),
        ("watch nothing", 3, "there is no such pipeline 'nothing'"),
        ("query revenue --since soon", 2, "'soon' is no moment such as"),
        ("query revenue --limit 0", 2, "--limit"),
        ("status --url nats://127.0.0.1:1", 5, "no NATS server answers at"),
        ("status --mesh empty", 3, "no analytics processor is running on mesh 'empty'"),
    ],
)
def test_a_mistake_is_one_sentence(ask: Ask, words: str, code: int, part: str) -> None:
    """It names what is wrong; nothing is on stdout."""
    done = ask("analytics", *words.split())
    assert (code, "", 1) == (done.code, done.out, len(done.err.splitlines()))
    assert part in done.err
