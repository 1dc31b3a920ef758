"""What the analytics demo is made of: the file, the schedule, the truth, the comparison."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import UsageError
from agent99.systems.analytics._delta import WindowRow
from agent99.systems.analytics._demo_books import Books, read_books
from agent99.systems.analytics._demo_check import Ranking, Spread, Window, compare
from agent99.systems.analytics._demo_judge import judge
from agent99.systems.analytics._demo_odd import (
    ODD_FIGURE,
    ODD_RULE,
    differences,
    find_odd,
    oddest,
)
from agent99.systems.analytics._demo_retail import Line, Order, Retail, read_retail
from agent99.systems.analytics._demo_scenes import CALM, FEW, MANY, make_scenes
from agent99.systems.analytics._demo_schedule import (
    HOLD_US_MAX,
    HOLD_US_MIN,
    HOUR_US,
    make_schedule,
    time_us,
)
from agent99.systems.analytics._demo_truth import (
    DAY_US,
    VISIT_GAP_US,
    Truth,
    read_truth,
    score_days,
)

ROWS: tuple[tuple[str, str, int, str, float, int | None, str], ...] = (
    ("100001", " 22001a ", 2, "2010-01-01T09:59:00", 1.25, 7, "Eire"),
    ("100001", "22002", 1, "2010-01-01T10:00:00", 0.01, 7, "Eire"),
    ("100002", "22001A", 3, "2010-01-01T10:30:00", 1.25, None, "France"),
    ("100002", "POST", 1, "2010-01-01T10:30:00", 9.0, None, "France"),
    ("C100003", "22001A", -1, "2010-01-01T11:00:00", 1.25, 7, "Eire"),
    ("A100004", "22001A", 1, "2010-01-01T11:00:00", 1.25, None, "Eire"),
    ("100005", "22002", -4, "2010-01-02T09:00:00", 0.0, None, "Eire"),
    ("100005", "22002", 4, "2010-01-02T09:00:00", 0.0, None, "Eire"),
    ("100006", "22002", 10, "2010-01-01T11:00:00", 0.1, 7, "Eire"),
    ("100007", "22002", 10, "2010-01-01T10:59:59", 0.1, 8, "Eire"),
)
COLUMNS = ("Invoice", "StockCode", "Quantity", "InvoiceDate", "Price", "CustomerID", "Country")


def write(path: Path, rows: Sequence[tuple[Any, ...]] = ROWS) -> Path:
    """Write a file of order lines."""
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    frame.with_columns(pl.col("InvoiceDate").str.to_datetime(time_unit="us")).write_parquet(path)
    return path


def at(hour: int, minute: int = 0) -> int:
    """Return a moment of the file's first day, microseconds since the epoch."""
    return round(datetime(2010, 1, 1, hour, minute, tzinfo=UTC).timestamp() * 1e6)


# --- the file -------------------------------------------------------------------------------------


def test_every_line_is_sold_or_left_out_for_a_reason(tmp_path: Path) -> None:
    """Codes are made alike, money is pence, and times are UTC."""
    retail = read_retail(write(tmp_path / "a.parquet"), tills=1)
    reasons = {"adjustment": 1, "cancellation": 1, "free": 1, "not a product": 1}
    assert {**reasons, "returned or damaged": 1} == retail.left_out
    ((first, *_),) = retail.lines
    assert Line(datetime(2010, 1, 1, 9, 59, tzinfo=UTC), "22001A", "Eire", 7, 2, 125) == first
    ((order, guest, *_),) = retail.orders
    assert Order(datetime(2010, 1, 1, 9, 59, tzinfo=UTC), 7, "Eire", 2, 251) == order
    assert (None, 375) == (guest.customer, guest.total_pence)
    assert len(ROWS) == len(retail.lines[0]) + sum(retail.left_out.values())


def test_tills_share_the_invoices(tmp_path: Path) -> None:
    """Each record is at one till, in the order of time, and an order is where its lines are."""
    path = write(tmp_path / "a.parquet")
    (lines,), (orders,) = (whole := read_retail(path, tills=1)).lines, whole.orders
    split = read_retail(path, tills=3)
    for everything, tills in ((lines, split.lines), (orders, split.orders)):
        assert sorted(everything, key=repr) == sorted((r for till in tills for r in till), key=repr)
        assert all(list(till) == sorted(till, key=time_us) for till in tills)
    for till_lines, till_orders in zip(split.lines, split.orders, strict=True):
        pence = sum(line.quantity * line.price_pence for line in till_lines)
        assert pence == sum(order.total_pence for order in till_orders)


@pytest.mark.parametrize(
    ("column", "values", "rule"),
    [
        ("Price", (), "lacks the columns Price"),
        ("Quantity", "many", "a column is of another type"),
        ("Price", 0.0, "nothing in it was sold"),
        ("Country", None, "Country has no value on 10 of the lines"),
    ],
    ids=["column", "type", "nothing", "null"],
)
def test_a_file_that_is_of_no_use_is_refused(
    tmp_path: Path, column: str, values: Any, rule: str
) -> None:
    """The sentence says what is wrong with it."""
    frame = pl.read_parquet(path := write(tmp_path / "a.parquet"))
    changed = frame.drop(column) if values == () else frame.with_columns(**{column: pl.lit(values)})
    changed.write_parquet(path)
    with pytest.raises(UsageError, match=rule):
        read_retail(path, tills=1)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    """Nor is one that is no Parquet."""
    (tmp_path / "b.parquet").write_text("no parquet")
    for name in ("a.parquet", "b.parquet"):
        with pytest.raises(UsageError, match=f"{name}: it cannot be read as Parquet"):
            read_retail(tmp_path / name, tills=1)


# --- the schedule ---------------------------------------------------------------------------------


@given(
    minutes=st.lists(st.lists(st.integers(0, 5_000), max_size=30), min_size=1, max_size=3),
    late=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 3),
)
def test_everything_leaves_once(minutes: list[list[int]], late: float, seed: int) -> None:
    """In its hour or, of the share that is held back, up to 30 hours later; others in order."""
    lines = tuple(
        tuple(
            Line(datetime.fromtimestamp(60 * minute, UTC), f"{till} {number}", "Eire", None, 1, 1)
            for number, minute in enumerate(sorted(till_minutes))
        )
        for till, till_minutes in enumerate(minutes)
    )
    retail = Retail("a", lines, tuple(() for _ in lines), {})
    schedule = make_schedule(retail, late=late, seed=seed)
    assert schedule == make_schedule(retail, late=late, seed=seed)
    hours = [hour for hour, _ in schedule.hours]
    assert sorted(set(hours)) == hours
    sent: dict[int, list[Line]] = defaultdict(list)
    held = 0
    for hour, parcels in schedule.hours:
        for parcel in parcels:
            for record in parcel.records:
                assert isinstance(record, Line)
                behind_us = (hour + 1) * HOUR_US - time_us(record)
                assert 0 < behind_us <= HOLD_US_MAX + HOUR_US
                held += behind_us > HOLD_US_MIN
                sent[parcel.till].append(record)
    assert held == schedule.held
    assert {"lines": sum(map(len, minutes)), "orders": 0} == schedule.sent
    assert {till: set(records) for till, records in enumerate(lines) if records} == {
        till: set(records) for till, records in sent.items()
    }
    if late == 0.0:
        assert [list(records) for records in lines] == [sent[till] for till in range(len(lines))]


# --- the truth ------------------------------------------------------------------------------------


def test_the_truth_of_a_file_that_was_counted_by_hand(tmp_path: Path) -> None:
    """Each pipeline's windows."""
    truth = read_truth(str(write(tmp_path / "a.parquet")))
    assert (5, 4, 1) == (truth.lines, truth.orders, truth.guests)
    windows = truth.windows
    day = (at(0), at(0) + DAY_US)
    assert windows["country-daily"] == {
        (*day, ("Eire",)): {"lines": 4, "revenue_pence": 451},
        (*day, ("France",)): {"lines": 1, "revenue_pence": 375},
    }
    assert windows["country-hourly"] == {
        (at(9), at(10), ("Eire",)): {"lines": 1, "revenue_pence": 250},
        (at(10), at(11), ("Eire",)): {"lines": 2, "revenue_pence": 101},
        (at(10), at(11), ("France",)): {"lines": 1, "revenue_pence": 375},
        (at(11), at(12), ("Eire",)): {"lines": 1, "revenue_pence": 100},
    }
    assert windows["product-daily"][(*day, ("22001A",))] == {"lines": 2, "revenue_pence": 625}
    assert windows["top-products"] == {
        (*day, ()): {"top": Ranking({"22001A": 625, "22002": 201}, 10)}
    }
    assert windows["customers-daily"] == {(*day, ()): {"customers": 2}}
    assert windows["order-values"][(*day, ())]["revenue_pence"] == 826
    assert windows["visits"] == {
        (at(9, 59), at(9, 59) + VISIT_GAP_US, (7,)): {"orders": 1, "revenue_pence": 251},
        (at(11), at(11) + VISIT_GAP_US, (7,)): {"orders": 1, "revenue_pence": 100},
        (at(10, 59) + 59_000_000, at(11, 59) + 59_000_000, (8,)): {
            "orders": 1,
            "revenue_pence": 100,
        },
    }


# --- the comparison -------------------------------------------------------------------------------


def row(start: int, values: dict[str, Any], *, is_retracted: bool = False) -> WindowRow:
    """Return a row of a window of one unit."""
    return WindowRow(
        pipeline="p",
        start_us=start,
        end_us=start + 1,
        key=("k",),
        values=values,
        rows=1,
        state="closed",
        is_retracted=is_retracted,
    )


def test_each_kind_of_difference_is_found() -> None:
    """A window that is missing, one too many, and a figure that is another one."""
    truth = {(start, start + 1, ("k",)): {"sum": start} for start in (1, 2, 3)}
    rows = [row(1, {"sum": 1}), row(2, {"sum": 1}), row(4, {"sum": 4})]
    rows.append(row(5, {"sum": 5}, is_retracted=True))
    verdict = compare("p", rows, truth)
    assert (1, 1, 1, 3) == (verdict.missing, verdict.extra, verdict.wrong, verdict.windows)
    assert not verdict.is_sound
    assert ["(2, 3, ('k',)): sum is 1", "(4, 5, ('k',)) must not be there"] == verdict.examples[:2]
    assert compare("p", rows[:1], {(1, 2, ("k",)): {"sum": 1}}).is_sound


@pytest.mark.parametrize(
    ("said", "is_right"),
    [(100.0, True), (99.0, True), (111.1, True), (98.9, False), (111.2, False)],
)
def test_a_quantile_is_right_within_its_error(said: float, is_right: bool) -> None:
    """One per cent below the lower rank's value, or above the higher one's."""
    truth = {(1, 2, ("k",)): {"quantiles": Spread({"0.5": (100.0, 110.0)})}}
    verdict = compare("p", [row(1, {"quantiles": {"0.5": said}})], truth)
    assert is_right == verdict.is_sound
    assert (verdict.error > 0) == (not 100 <= said <= 110)


@pytest.mark.parametrize(
    ("said", "is_right"),
    [
        ([["a", 3], ["b", 2]], True),
        ([["a", 3], ["c", 2]], True),
        ([["b", 2], ["a", 3]], False),
        ([["a", 3]], False),
        ([["a", 3], ["d", 2]], False),
    ],
)
def test_a_ranking_is_right_whichever_of_equal_ones_it_names(said: Any, is_right: bool) -> None:
    """But each with its weight, the heaviest first."""
    truth = {(1, 2, ("k",)): {"top": Ranking({"a": 3, "b": 2, "c": 2, "d": 1}, 2)}}
    assert is_right == compare("p", [row(1, {"top": said})], truth).is_sound


# --- odd days -------------------------------------------------------------------------------------


def day(number: int, pence: int, country: str = "Eire") -> WindowRow:
    """Return the row of a country's day."""
    return WindowRow(
        pipeline="country-daily",
        start_us=at(0) + number * DAY_US,
        end_us=at(0) + (number + 1) * DAY_US,
        key=(country,),
        values={"lines": 1, "revenue_pence": pence},
        rows=1,
        state="closed",
    )


@given(st.lists(st.one_of(st.integers(0, 9), st.integers(0, 9_000)), max_size=40))
def test_odd_days_are_those_of_polars(pence: list[int]) -> None:
    """Its weighted means over all days before find the same days, with the same scores."""
    rows = [day(number, value) for number, value in enumerate(pence)]
    scores = score_days(windows_of(rows), ODD_FIGURE, ODD_RULE)
    assert max(0, len(pence) - ODD_RULE.warm_up) == len(scores)
    assert [] == list(differences(find_odd(rows), scores))


def test_odd_days_that_are_wrong_are_found() -> None:
    """One that was not told, one too many, one of the warm-up, and another score."""
    rows = [day(number, number % 2) for number in range(9)]
    usual = windows_of([*rows, day(9, 50), day(10, 0)])
    scores = score_days(usual, ODD_FIGURE, ODD_RULE)
    found = find_odd([*rows, day(9, 50)])
    assert 1 == len(found)
    (missing,) = differences([], scores)
    assert "1 odd days wrong" in missing
    assert "is not told, with a score of" in missing
    (odd,) = found
    for changed, rule in (
        ({"score": odd.score + 1}, "the score of"),
        ({"start_us": day(10, 0).start_us, "end_us": day(10, 0).end_us}, "is told"),
        ({"start_us": 0, "end_us": 1}, "may not be judged yet"),
    ):
        (sentence,) = differences([msgspec.structs.replace(odd, **changed)], scores)
        assert rule in sentence


def test_the_oddest_days_come_first() -> None:
    """Five of them, by their scores, above or below; an infinite one is none in JSON."""
    countries = {"A": 500, "B": 90, "C": 9_000, "D": 70, "E": 600, "F": 80}
    rows = [day(number, 3, country) for country in countries for number in range(7)]
    rows += [day(7, 5, country) for country in countries]
    rows += [day(8, pence, country) for country, pence in countries.items()]
    first = oddest(find_odd(rows))
    assert [None] * 5 == [one.score for one in first]
    found = [one for one in find_odd(rows) if one.score < inf]
    assert ["C", "E", "A", "B", "F"] == [one.country for one in oddest(found)]
    (top, *_) = oddest(found)
    assert ("2010-01-09", 9_000, 3) == (top.day, top.revenue_pence, top.expected_pence)


def windows_of(rows: Sequence[WindowRow]) -> dict[Window, dict[str, Any]]:
    """Return what rows say, as a truth has it."""
    return {(row.start_us, row.end_us, row.key): row.values for row in rows}


# --- the judgement --------------------------------------------------------------------------------


COUNTS = ("records", "on_time", "late", "dropped", "skipped", "refused")
ROW = ("start_us", "end_us", "key", "figures", "records", "revision", "is_retracted")


def write_books(path: Path, counts: dict[str, int], figures: str, revision: int = 1) -> Path:
    """Write a database of one pipeline with one window, as a processor would."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(f"CREATE TABLE analytics_count (pipeline, {', '.join(COUNTS)})")
        database.execute(f"CREATE TABLE analytics_row (pipeline, {', '.join(ROW)})")
        numbers = [counts.get(name, 0) for name in COUNTS]
        database.execute("INSERT INTO analytics_count VALUES ('p', ?, ?, ?, ?, ?, ?)", numbers)
        database.execute(
            "INSERT INTO analytics_row VALUES ('p', 1, 2, '[\"k\"]', ?, 3, ?, 0)",
            (figures, revision),
        )
    return path


GOOD = {"records": 3, "on_time": 2, "late": 1}


@pytest.mark.parametrize(
    ("counts", "figures", "finding"),
    [
        (GOOD, '{"sum": 5}', ""),
        (GOOD, '{"sum": 6}', "p: 0 windows missing, 0 too many, 1 wrong"),
        ({**GOOD, "on_time": 1}, '{"sum": 5}', "p: its counts do not close"),
        ({**GOOD, "records": 4, "on_time": 3}, '{"sum": 5}', "p: 4 records were counted, 3 were"),
        ({**GOOD, "late": 0, "dropped": 1}, '{"sum": 5}', "p: 1 records were dropped"),
        ({**GOOD, "late": 0, "skipped": 1}, '{"sum": 5}', "p: 1 records were skipped, not 0"),
    ],
    ids=["good", "figure", "open", "more", "dropped", "skipped"],
)
def test_the_judgement_finds_what_was_planted(
    tmp_path: Path, counts: dict[str, int], figures: str, finding: str
) -> None:
    """A wrong figure, counts that do not close, and records that are in no window."""
    books = read_books(write_books(tmp_path / "a.db", counts, figures, revision=4))
    truth = Truth({"p": {(1, 2, ("k",)): {"sum": 5}}}, lines=3, orders=0, guests=0)
    pipelines, findings = judge(books, truth, {"lines": 3, "orders": 0})
    assert 3 == pipelines["p"].corrections
    assert bool(finding) == bool(findings)
    assert all(each.startswith(finding) for each in findings)


def test_what_was_not_sent_is_found() -> None:
    """Though windows and counts agree with what was."""
    truth = Truth({}, lines=3, orders=1, guests=0)
    _, findings = judge(Books({}, {}), truth, {"lines": 3, "orders": 0})
    assert ("0 orders were sent; the file has 1",) == findings


# --- who comes and goes ---------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(2, 200), st.integers(0, 9))
def test_under_fire_processors_become_many_then_few(processors: int, kills: int, seed: int) -> None:
    """Each that is killed is replaced, somebody always works, and the same seed does the same."""
    scenes = make_scenes(processors=processors, kills=kills, seed=seed)
    assert scenes == make_scenes(processors=processors, kills=kills, seed=seed)
    assert scenes == sorted(scenes)
    assert kills == sum(scene.what == "is replaced" for scene in scenes)
    working = [processors]
    for scene in scenes:
        working.append(working[-1] + {"joins": 1, "leaves": -1}.get(scene.what, 0))
    assert (max(processors, MANY), FEW) == (max(working), working[-1])
    assert min(working) >= min(processors, FEW)


def test_one_kill_is_the_calm_form() -> None:
    """One joins, one is killed, one comes in its place, one leaves."""
    assert list(CALM) == make_scenes(processors=2, kills=1, seed=0)
