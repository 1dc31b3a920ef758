"""The bench of the analytics: it runs, every comparison has its row, and a miss is called one."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.benches._rows import BENCHES, check_budgets, rows_of

Load = Callable[[str], ModuleType]
TO_BYTEWAX = "pipeline over columns in memory, to Bytewax"
TO_BARE = "ingest to committed windows, to bare JetStream"
P99 = "record to visible result at half that rate, p99"
BUDGETS = {TO_BARE: 0.5, P99: 1_000, TO_BYTEWAX: 4.0}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Give what imports a module of the bench, as the bench does."""
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module


@pytest.mark.slow
def test_every_promise_is_measured_or_says_why_not() -> None:
    """Standard output is a JSON array, and each row of it has a figure or a reason."""
    by_name = rows_of("analytics")
    check_budgets(by_name, BUDGETS)


def test_bare_jetstream_is_compared_round_by_round(load: Load) -> None:
    """The ratio is the median of those of each round; the latency has a bound from above."""
    part = load("_analytics_live")
    live = part.Live(
        bare=[4.0, 8.0, 4.0],
        ingested=[3.0] * 3,
        committed=[2.0, 2.0, 3.0],
        p50_ms=[100.0] * 3,
        p99_ms=[900.0, 1_200.0, 1_300.0],
        resident_mib=[60.0] * 3,
    )
    rows = {row.name: row for row in part.live_rows_of(live)}
    assert (0.5, 0.5, True) == (rows[TO_BARE].value, rows[TO_BARE].budget, rows[TO_BARE].met)
    assert (1_200.0, 1_000, False) == (rows[P99].value, rows[P99].budget, rows[P99].met)
    assert 7 == len(rows)


def test_bytewax_is_compared_round_by_round(load: Load) -> None:
    """The ratio is the median of those of each round, against its budget."""
    part = load("_analytics_memory")
    rates = dict.fromkeys(part.NAMES, [1.0] * 3)
    rates |= {"columns": [9.0, 5.0, 8.0], "bytewax": [1.0, 1.0, 2.0]}
    row, *others = part.memory_rows_of(rates)
    assert (TO_BYTEWAX, 5.0, 4.0, True) == (row.name, row.value, row.budget, row.met)
    assert list(part.NAMES.values()) == [other.name for other in others]


def test_absent_peers_keep_their_rows(load: Load) -> None:
    """What is not installed has no figure of its own, and the ratio to it says why."""
    part = load("_analytics_memory")
    rows = part.memory_rows_of({"columns": [4.0], "rows": [2.0], "loop_rows": [1.0]})
    without = {row.name for row in rows if row.value is None}
    assert {TO_BYTEWAX, *(part.NAMES[name] for name in ("bytewax", "loop_columns", "polars"))} == (
        without
    )
    assert all(row.why for row in rows if row.value is None)


def test_the_load_is_the_same_for_all(load: Load) -> None:
    """More lines begin with the same ones, in time's order but for what windows wait for."""
    part = load("_analytics_lines")
    few, many = part.make_lines(500), part.make_lines(3_000)
    assert few == many[:500]
    assert [1_000] * 3 == [len(array) for array in part.in_arrays(many)]
    latest = many[0].sold_at
    for line in many:
        assert (latest - line.sold_at).total_seconds() < part.DELAY_S
        latest = max(latest, line.sold_at)


def test_wrong_windows_end_a_stack(load: Load) -> None:
    """A stack whose windows are not the plain loop's has no figure."""
    part = load("_analytics_lines")
    lines, windows = part.make_lines(500), {}
    part.add_lines(windows, lines)
    part.check(windows, lines)
    next(iter(windows.values()))[0] += 1
    with pytest.raises(SystemExit, match="1 of"):
        part.check(windows, lines)
