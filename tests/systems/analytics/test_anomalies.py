"""Anomalies are what the weights by definition say, in whatever order rows have come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, nan, sqrt
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import UsageError
from agent99.systems.analytics import (
    Anomaly,
    Change,
    Count,
    Ewma,
    Pipeline,
    Quantiles,
    Source,
    TopK,
    Tumbling,
    WindowRow,
    find_anomalies,
    run,
)
from agent99.systems.analytics._detector import KEPT_MAX, Detector

from ._by_definition import Tick

SIZE_US = 10
SOON = Ewma(threshold=2.0, half_life=4.0, warm_up=3)
FIELDS: dict[str, Any] = {"pipeline": "p", "rows": 1, "state": "closed"}


def row(at: int, value: Any, key: str = "a", **changed: Any) -> WindowRow:
    """Return the row of the window with this place in its series."""
    start_us = at * SIZE_US
    right: dict[str, Any] = {"start_us": start_us, "end_us": start_us + SIZE_US, "key": (key,)}
    return WindowRow(**FIELDS | right | {"values": {"sum": value}} | changed)


def series(*values: Any) -> list[WindowRow]:
    """Return the rows of one key, window after window."""
    return [row(at, value) for at, value in enumerate(values)]


def places(found: Iterable[Anomaly]) -> list[int]:
    """Return which windows are anomalies."""
    return [one.start_us // SIZE_US for one in found]


# --- by definition --------------------------------------------------------------------------------


class Judged(NamedTuple):
    """What the definition says of a window that has enough before it."""

    value: float
    mean: float
    deviation: float

    @property
    def score(self) -> float:
        """How far the value is from the mean, in deviations."""
        if self.deviation == 0:
            return 0.0 if self.value == self.mean else inf * (1 if self.value > self.mean else -1)
        return (self.value - self.mean) / self.deviation


def by_definition(values: Sequence[int], rule: Ewma) -> list[Judged]:
    """Judge each value by all before it, each with its weight, added up anew."""
    found: list[Judged] = []
    entered: list[float] = []
    for value in values:
        judged = Judged(value, *_weighed(entered, rule.half_life))
        is_warm = len(entered) >= rule.warm_up
        if is_warm:
            found.append(judged)
        reach = 3 * judged.deviation
        is_clamped = is_warm and judged.deviation > 0 and abs(value - judged.mean) > reach
        edge = judged.mean + (reach if value > judged.mean else -reach)
        entered.append(edge if is_clamped else value)
    return found


def _weighed(entered: Sequence[float], half_life: float) -> tuple[float, float]:
    """Return the weighted mean, and the deviation from it."""
    if len(set(entered)) < 2:
        return (entered[0] if entered else 0.0), 0.0
    weights = [2 ** (-(len(entered) - 1 - at) / half_life) for at in range(len(entered))]
    pairs = list(zip(weights, entered, strict=True))
    mean = sum(weight * value for weight, value in pairs) / sum(weights)
    return mean, sqrt(sum(weight * (value - mean) ** 2 for weight, value in pairs) / sum(weights))


@given(
    st.lists(st.one_of(st.integers(-5, 5), st.integers(-1_000, 1_000)), max_size=40),
    st.sampled_from([2.0, 5.0, 24.0, 1e9]),
    st.integers(2, 6),
    st.sampled_from([0.5, 2.0, 3.0]),
)
def test_by_all_weights_anew(
    values: list[int], half_life: float, warm_up: int, threshold: float
) -> None:
    """The recurrence says what the definition does, of every window that is not on the edge."""
    rule = Ewma(threshold=threshold, half_life=half_life, warm_up=warm_up)
    every = find_anomalies(series(*values), "sum", rule)
    found = dict(zip(places(every), every, strict=True))
    for place, judged in enumerate(by_definition(values, rule), start=warm_up):
        if abs(abs(judged.score) - threshold) < 1e-6:
            found.pop(place, None)
            continue
        assert (abs(judged.score) > threshold) == (place in found)
        if place in found:
            one = found.pop(place)
            assert judged.value == one.value
            assert (judged.mean, judged.deviation) == pytest.approx(
                (one.expected, one.deviation), rel=1e-9, abs=1e-9
            )
            assert judged.score == pytest.approx(one.score, rel=1e-5)
    assert {} == found


@given(st.lists(st.integers(-9, 9), max_size=30), st.data())
def test_the_order_in_which_rows_come_does_not_matter(
    values: list[int], data: st.DataObject
) -> None:
    """Nor do rows that were corrected later, of several keys."""
    rows = [row(at, value, "ab"[value % 2]) for at, value in enumerate(values)]
    corrected = [row(at, 99, one.key[0], revision=0) for at, one in enumerate(rows)]
    mixed = data.draw(st.permutations(rows + corrected))
    assert find_anomalies(rows, "sum", SOON) == find_anomalies(mixed, "sum", SOON)


@given(st.lists(st.integers(-9, 9), max_size=40), st.floats(0.1, 9), st.floats(0.1, 9))
def test_a_lower_threshold_finds_more(values: list[int], one: float, other: float) -> None:
    """All that a higher one finds, with the same scores: what is told moves no baseline."""
    few, many = (
        find_anomalies(series(*values), "sum", Ewma(threshold=threshold, warm_up=2))
        for threshold in sorted((one, other), reverse=True)
    )
    assert few == [each for each in many if abs(each.score) > max(one, other)]


# --- what is far ----------------------------------------------------------------------------------


def test_another_value_than_always() -> None:
    """Where all had one value any other is infinitely far, above or below; then it is measured."""
    above, below = series(*[5] * 20, 6), series(*[5] * 20, 4)
    (one,) = find_anomalies(above, "sum")
    assert (6, 5.0, 0.0, inf) == (one.value, one.expected, one.deviation, one.score)
    assert [-inf] == [one.score for one in find_anomalies(below, "sum")]
    assert [] == find_anomalies(series(*[5] * 100), "sum")
    assert [20, 21] == places(find_anomalies([*above, row(21, 1_000), row(22, 5)], "sum"))


def test_one_anomaly_hides_no_other() -> None:
    """Though it is a thousand deviations off, the next one that is ten off is seen."""
    usual = [100, 101, 99, 100, 102, 98] * 5
    rows = series(*usual, 2_000, 100, 120, 101)
    found = find_anomalies(rows, "sum")
    assert [30, 32] == places(found)
    assert found[0].score > 1_000
    assert found[1].score > 5


def test_a_new_level_becomes_usual() -> None:
    """It is told at once, for some windows, and then no more: it is expected by then."""
    usual = [100, 101, 99, 100, 102, 98] * 5
    rows = series(*usual, *(10 * value for value in usual * 3))
    found = places(find_anomalies(rows, "sum"))
    assert list(range(30, 30 + len(found))) == found
    assert 5 < len(found) < 60
    (*_, last) = find_anomalies([*rows, row(120, 9_000)], "sum")
    assert (120, 1_000) == (*places([last]), pytest.approx(last.expected, rel=0.2))


def test_the_first_windows_are_none() -> None:
    """Whatever they say, as many as the warm-up has; those of each key apart."""
    wild = series(1, 1_000, -1_000, 50)
    assert [] == find_anomalies(wild, "sum", Ewma(warm_up=4))
    other = [row(at, 7, "b") for at in range(4)]
    found = find_anomalies([*wild, *other, row(4, 8, "b"), row(4, 60)], "sum", Ewma(warm_up=4))
    assert [("b",)] == [one.key for one in found]


def test_windows_without_a_value_are_passed_over() -> None:
    """None, what was cut, is open, taken back, or no number of a size that can be judged."""
    odd = [
        row(4, None),
        row(5, 900, is_cut=True, values={}),
        row(6, 900, state="open", revision=0),
        row(7, 900, is_retracted=True, values={}),
        *(row(8 + at, value) for at, value in enumerate((nan, inf, 1e200, 10**400))),
    ]
    usual = series(1, 2, 1, 2)
    last = row(20, 9)
    assert find_anomalies([*usual, last], "sum", SOON) == find_anomalies(
        [*usual, *odd, last], "sum", SOON
    )
    assert [20] == places(find_anomalies([*usual, *odd, last], "sum", SOON))


def test_the_largest_numbers_stay_numbers() -> None:
    """A series of them has a mean and a deviation."""
    rows = series(0, 0, 0, 10**149, -1e150, 1e150, -1e150)
    found = find_anomalies(rows, "sum", SOON)
    assert [(10**149, inf)] == [(one.value, one.score) for one in found[:1]]
    assert all(one.deviation < inf for one in found)
    (last,) = find_anomalies(rows, "sum", Ewma(threshold=0.1, warm_up=6))
    assert 0 < last.deviation <= 1e150
    alike = series(*[2**53] * 3, 2**53 + 1)  # one number, as floats
    assert [] == find_anomalies(alike, "sum", SOON)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        *(({"threshold": bad}, "threshold is") for bad in (0, -1.0, nan, inf, "3", True)),
        *(({"half_life": bad}, "half_life is") for bad in (0, -2, nan, inf, None)),
        *(({"warm_up": bad}, "warm_up is") for bad in (1, -3, 2.5, True)),
    ],
)
def test_a_rule_out_of_range_is_refused(changed: dict[str, Any], message: str) -> None:
    """The message says which part of it."""
    with pytest.raises(UsageError, match=message):
        Ewma(**changed)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("summ", r"pipeline 'p' has no figure 'summ'; it has sum, none, name, flag, top, q\.0\.5"),
        ("q.0.9", r"has no figure 'q\.0\.9'; it has .*q\.0\.5, q\.0\.99"),
        ("q", r"figure 'q' of pipeline 'p' has several numbers; say one of q\.0\.5, q\.0\.99"),
        ("name", "figure 'name' of pipeline 'p' is no number, but 'tea'"),
        ("flag", "is no number, but True"),
        ("top", r"is no number, but \[\['tea', 2\]\]"),
    ],
)
def test_a_figure_that_is_no_number_is_refused(figure: str, message: str) -> None:
    """In words that say what there is; whoever asks."""
    values = {"sum": 1, "none": None, "name": "tea", "flag": True, "top": [["tea", 2]]}
    rows = [row(0, 1, values={**values, "q": {"0.5": 1.0, "0.99": 2.0}})]
    with pytest.raises(UsageError, match=message):
        find_anomalies(rows, figure)
    with pytest.raises(UsageError, match=message):
        Detector(figure, SOON).take(Change(rows=rows, watermark_us=None))


def test_of_a_run() -> None:
    """What a pipeline makes of records at hand is judged by each of its figures, also quantiles."""
    source = Source("ticks", Tick, time="at_us")
    pipeline = Pipeline(
        "figures",
        source,
        key=("who",),
        window=Tumbling(1e-5),
        aggregates={"count": Count(), "q": Quantiles("number", (0.5,)), "top": TopK("number")},
    )
    ticks = [Tick(at * SIZE_US, "a", at % 3) for at in range(30)]
    ticks += [Tick(30 * SIZE_US + n, "a", 70) for n in range(5)]
    rows = run(pipeline, ticks).result
    (one,) = find_anomalies(rows, "count")
    assert ("figures", "count", 5, 1.0, inf) == (
        *(one.pipeline, one.figure, one.value, one.expected, one.score),
    )
    (one,) = find_anomalies(rows, "q.0.5")
    assert (30 * SIZE_US, 31 * SIZE_US, ("a",)) == (one.start_us, one.end_us, one.key)
    with pytest.raises(UsageError, match="'top' of pipeline 'figures' is no number"):
        find_anomalies(rows, "top")


# --- as windows close -----------------------------------------------------------------------------


def take(detector: Detector, *rows: WindowRow, is_snapshot: bool = False) -> list[Anomaly]:
    """Give a detector rows; returns what it tells."""
    return detector.take(Change(rows=list(rows), watermark_us=None, is_snapshot=is_snapshot))


STEPS = st.lists(
    st.lists(
        st.tuples(
            st.integers(0, 12),
            st.sampled_from("ab"),
            st.one_of(st.none(), st.integers(0, 4), st.integers(0, 100)),
        ),
        max_size=5,
    ),
    max_size=15,
)


@given(STEPS)
def test_the_last_word_on_each_window_is_that_of_the_list(
    steps: list[list[tuple[int, str, int | None]]],
) -> None:
    """However windows close, are corrected and taken back; and nothing is told twice."""
    detector, latest, told = Detector("sum", SOON), dict[Any, WindowRow](), dict[Any, int]()
    for step in steps:
        rows: list[WindowRow] = []
        for at, key, value in step:
            known = latest.get((at, key))
            revision = 1 if known is None else known.revision + 1
            one = row(at, value, key, revision=revision, is_retracted=value is None)
            latest[at, key] = one
            rows.append(one)
        for found in take(detector, *rows):
            name = (found.start_us // SIZE_US, found.key[0])
            if found.is_cleared:
                del told[name]
            else:
                assert told.get(name) != found.revision
                told[name] = found.revision
        expected = find_anomalies(latest.values(), "sum", SOON)
        assert told == {(one.start_us // SIZE_US, one.key[0]): one.revision for one in expected}


def test_each_is_told_as_its_window_closes() -> None:
    """Once, also if the row comes again; only of the key that is meant."""
    detector = Detector("sum", SOON, ("a",))
    assert [] == take(detector, *series(1, 2, 1, 2), *(row(at, 1, "b") for at in range(5)))
    (one,) = take(detector, row(4, 9), row(5, 9, "b"))
    assert find_anomalies([*series(1, 2, 1, 2), row(4, 9)], "sum", SOON) == [one]
    assert [] == take(detector, row(4, 9))


def test_a_correction_clears_and_tells_again() -> None:
    """A window that is corrected is looked at again, and so are those behind it."""
    detector = Detector("sum", SOON)
    (one,) = take(detector, *series(1, 2, 1, 2, 9))
    (again,) = take(detector, row(4, 8, revision=2))
    assert (8, 2, False) == (again.value, again.revision, again.is_cleared)
    (cleared,) = take(detector, row(4, 2, revision=3))
    assert (2, 3, True) == (cleared.value, cleared.revision, cleared.is_cleared)
    assert abs(cleared.score) < SOON.threshold < one.score
    (later,) = take(detector, row(5, 5))
    (cleared,) = take(detector, row(1, 40, revision=2))  # so much is usual, as it turns out
    assert (places([later]), True) == (places([cleared]), cleared.is_cleared)
    assert (5, 1) == (cleared.value, cleared.revision)


def test_a_window_that_is_taken_back_is_none() -> None:
    """It is cleared, and has no value."""
    detector = Detector("sum", SOON)
    take(detector, *series(1, 2, 1, 2, 9))
    (cleared,) = take(detector, row(4, 0, revision=2, is_retracted=True, values={}))
    assert (None, 0.0, True) == (cleared.value, cleared.score, cleared.is_cleared)


def test_a_snapshot_takes_the_place_of_what_was() -> None:
    """What is none by it is cleared; what is one is told again."""
    detector = Detector("sum", SOON)
    usual = series(1, 2, 1, 2)
    take(detector, *usual, row(4, 9), row(5, 90), is_snapshot=True)
    found = take(detector, *usual, row(4, 1), row(5, 90), is_snapshot=True)
    assert [(4, True), (5, False)] == list(
        zip(places(found), (one.is_cleared for one in found), strict=True)
    )


def test_old_windows_are_forgotten() -> None:
    """Corrections of the last thousand windows of a key are looked at; older ones are not."""
    values = [at % 2 for at in range(KEPT_MAX + 5)]
    detector = Detector("sum", SOON)
    assert [] == take(detector, *series(*values))
    assert [] == take(detector, row(4, 500, revision=2))
    (one,) = take(detector, row(5, 500, revision=2))
    assert find_anomalies([*series(*values[:5]), row(5, 500, revision=2)], "sum", SOON) == [one]
    assert "keys=1" in repr(detector)
