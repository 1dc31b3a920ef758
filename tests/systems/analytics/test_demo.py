"""`agent99 demo analytics`: tills as a live stream, and every window what polars says."""

from __future__ import annotations

import signal
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from agent99.errors import UsageError
from agent99.systems.analytics import run_demo
from agent99.systems.analytics._delta import WindowRow
from agent99.systems.analytics._demo_figures import (
    AnalyticsFigures,
    OddDay,
    PipelineFigures,
    columns_of,
    odd_columns_of,
    rows_of,
    verdict_of,
)
from agent99.systems.analytics._demo_look import (
    Look,
    country_rows,
    day_of,
    head_of,
    member_rows,
    pipeline_rows,
    product_rows,
)
from agent99.systems.analytics._questions import PipelineStats
from agent99.systems.analytics._watermark import FOREVER_US
from tests._faults import Fault, Figure
from tests._wait import wait_until
from tests.systems.shop._programme import Programme, is_alive, write_tiny

YEAR_S = 1_800.0
PIPELINE = PipelineFigures(
    records=3,
    on_time=2,
    late=1,
    dropped=0,
    skipped=0,
    corrections=1,
    windows=2,
    missing=0,
    extra=0,
    wrong=0,
    error=0.0,
    refused=0,
)
FIGURES = AnalyticsFigures(
    ok=True,
    lines=5,
    left_out={"free": 2},
    records=3,
    held=1,
    took_s=1.5,
    records_per_s=2.0,
    joined=2,
    left=1,
    killed=1,
    pipelines={"visits": PIPELINE},
    odd_days=2,
    oddest=(
        OddDay(day="2010-01-07", country="Eire", revenue_pence=900, expected_pence=105, score=9.6),
        OddDay(day="2010-01-08", country="Eire", revenue_pence=7, expected_pence=5, score=None),
    ),
    findings=(),
)


@pytest.mark.slow
def test_every_window_is_right_while_processors_come_and_die(tmp_path: Path) -> None:
    """One joins, one is killed, one comes, one leaves; late records correct what was closed."""
    tiny = write_tiny(tmp_path / "tiny.parquet", 400)
    options = ("--speed", "2", "--late", "0.1", "--seed", "7")
    with closing(Programme("--json", *options, "--data", str(tiny), demo="analytics")) as programme:
        assert 0 == programme.wait(), (programme.output, programme.lines)
        found = msgspec.convert(programme.document, AnalyticsFigures)
    assert (True, ()) == (found.ok, found.findings)
    assert (2, 1, 1) == (found.joined, found.left, found.killed)
    assert 8 == len(found.pipelines)
    for one in found.pipelines.values():
        assert min(one.windows, one.on_time, one.late) > 0
        assert (0, 0) == (one.dropped, one.refused)
    assert found.pipelines["order-values"].error <= 0.01
    assert [] == programme.lines


@pytest.mark.chaos
@pytest.mark.fault("N7", "kill -9 processors at random while a real year is told, 5 % of it late")
def test_a_year_under_fire(year_file: Path, fault: Fault, seed: int) -> None:
    """One processor becomes four, then two, a hundred are killed: windows are what polars makes."""
    options = ("--speed", "0", "--processors", "1", "--kills", "100", "--seed", str(seed))
    given = ("--json", *options, "--data", str(year_file))
    with closing(Programme(*given, demo="analytics")) as programme:
        programme.process.wait(YEAR_S)
        assert programme.wait() in (0, 1), (programme.output, programme.lines)
        found = msgspec.convert(programme.document, AnalyticsFigures)
    print(*found.findings, sep="\n")  # noqa: T201 - what is wrong is told before how much of it
    told = found.pipelines.values()
    differ = sum(one.missing + one.extra + one.wrong for one in told)
    fault.report(
        Figure("processors killed", found.killed, at_least=100),
        Figure("processors that came besides the first", found.joined, at_least=103),
        Figure("processors that left", found.left, at_least=2),
        Figure("records", found.records, at_least=500_000),
        Figure("  held back beyond the watermark", found.held, at_least=20_000),
        Figure("windows", sum(one.windows for one in told), at_least=700_000),
        Figure("  that polars makes otherwise", differ, at_most=0),
        Figure("kinds of difference", len(found.findings), at_most=0),
        Figure("everything closed after", found.took_s, "s"),
    )


@pytest.mark.slow
def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    """Exit code 130, and no agent or server is left."""
    tiny = write_tiny(tmp_path / "tiny.parquet", 400)
    with closing(Programme("--speed", "1", "--data", str(tiny), demo="analytics")) as programme:
        programme.wait_line("a processor joins")
        family = programme.family()
        assert len(family) >= 4
        programme.process.send_signal(signal.SIGINT)
        assert 130 == programme.wait(), programme.text
    wait_until(lambda: not any(map(is_alive, family)), timeout_s=20.0)


@pytest.mark.parametrize(
    "options",
    [{"processors": 0}, {"speed": -1.0}, {"late": 1.5}, {"seed": "x"}],
    ids=["none", "back", "more than all", "text"],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    """Before anything starts."""
    with pytest.raises(UsageError):
        run_demo("nothing.parquet", options)


def test_a_file_that_is_not_there_is_refused() -> None:
    """Before anything starts."""
    with pytest.raises(UsageError, match=r"nothing\.parquet: it cannot be read as Parquet"):
        run_demo("nothing.parquet")


def test_figures_in_words() -> None:
    """What became of records and windows, and the verdict."""
    columns, (row,) = columns_of(FIGURES)
    assert {
        "pipeline": "visits",
        "late": "1",
        "windows": "2",
        "corrected": "1",
        "differ": "0",
    } == {
        name: cell
        for name, cell in zip(columns, row, strict=True)
        if name in ("pipeline", "late", "windows", "corrected", "differ")
    }
    assert ("  not sold", "2") in rows_of(FIGURES)
    assert ("processors that joined, left, were killed", "2, 1, 1") in rows_of(FIGURES)
    assert ("days on which a country bought unlike before", "2") in rows_of(FIGURES)
    _, odd = odd_columns_of(FIGURES)
    assert ("2010-01-07", "Eire", "£9.00", "£1.05", "+9.6") == odd[0]
    assert "-" == odd[1][-1]
    assert verdict_of(FIGURES).startswith("All 2 windows are what polars makes of the file")
    broken = msgspec.structs.replace(FIGURES, ok=False, findings=("one", "two"))
    assert "2 kinds of difference" in verdict_of(broken)


def look(watermark_us: int | None) -> Look:
    """Return a look at one pipeline."""
    stats = PipelineStats(
        pipeline="visits",
        records=3,
        on_time=2,
        late=1,
        dropped=0,
        skipped=0,
        refused_events=0,
        rows=2,
        deltas=1,
        turn=1,
        watermark_us=watermark_us,
        lag_s=None,
        closer="abc",
    )
    top = WindowRow(
        pipeline="top-products",
        start_us=0,
        end_us=1,
        key=(),
        values={"top": [["tea", 200], ["rice", 100]]},
        rows=2,
        state="open",
    )
    return Look(
        latest_us=7_200_000_000,
        records=10,
        stored=4,
        rate=2.5,
        pipelines=[stats],
        countries={"Eire": 100, "France": 400},
        latest=top,
        pids={"abc": 17},
        members=[("processor", 17, "works")],
    )


@pytest.mark.parametrize(
    ("watermark_us", "behind", "cell"),
    [
        (None, "no watermark yet", "-"),
        (3_600_000_000, "windows 1.0 h behind", "01-01 01:00Z"),
        (FOREVER_US, "windows 0.0 h behind", "the end"),
    ],
)
def test_a_look_in_words(watermark_us: int | None, behind: str, cell: str) -> None:
    """How far tills and windows are, by whom, and what was sold."""
    found = look(watermark_us)
    assert behind in head_of(found)
    (row,) = pipeline_rows(found)
    assert ("visits", "2", "1", "0", "0", "2", "by 17", cell) == row
    (first, second) = country_rows(found)
    assert ("France", "£4.00", "Eire", "£1.00") == (*first[:2], *second[:2])
    assert len(first[2]) == 4 * len(second[2])
    assert [("tea", "£2.00"), ("rice", "£1.00")] == list(product_rows(found))
    assert "1970-01-01" == day_of(found)
    assert [("processor", "17", "works")] == list(member_rows(found))
