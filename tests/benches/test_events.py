"""The bench of stored events: it runs, every comparison has its row, and a miss is called one."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest

from tests.benches._rows import BENCHES, check_budgets, rows_of

BUDGETS = {
    "append, one at a time, to raw nats-py": 1.5,
    "append, 64 at once, to raw nats-py": 1.5,
    "replay by Journal.read, to raw nats-py": 3.0,
    "replay by Journal.tail, to raw nats-py": 3.0,
    "ordered delivery to 64 groups, to core NATS by agent99.wire": 0.65,
    "ordered delivery to 64 groups, to core NATS by nats-py": 0.65,
    "CloudEvent built and encoded, to the cloudevents package": 6.0,
    "audit log, entries verified": 200_000,
}


@pytest.fixture(params=["_mesh_appends", "_replays"])
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module of a part, as the bench imports it."""
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module(request.param)


RATES: dict[str, list[float]] = {
    "ours_1": [4.0, 2.0, 2.0],
    "ours_64": [4.0, 2.0, 2.0],
    "read": [4.0, 2.0, 2.0],
    "tail": [4.0, 2.0, 2.0],
}
PEERS: dict[str, list[float]] = {
    name: [1.0, 1.0, 2.0] for name in ("natspy_1", "natspy_64", "natspy_ids_1", "natspy_ids_64")
} | {"natspy": [1.0, 1.0, 2.0]}


@pytest.mark.slow
def test_every_promise_is_measured_or_says_why_not() -> None:
    """Standard output is a JSON array, and each row of it has a figure or a reason."""
    by_name = rows_of("events")
    for name, row in by_name.items():
        assert row["value"] is None or row["value"] > 0, name
    check_budgets(by_name, BUDGETS)


def test_a_peer_that_is_there_is_compared_round_by_round(part: ModuleType) -> None:
    """The ratio is the median of those of each round, against its budget."""
    with_budget = {row.name: row for row in part.rows_of(RATES | PEERS) if row.budget is not None}
    assert with_budget.keys() <= BUDGETS.keys()
    for name, row in with_budget.items():
        assert (2.0, BUDGETS[name]) == (row.value, row.budget)
        assert row.met is (2.0 >= 0.9 * BUDGETS[name])


def test_an_absent_peer_keeps_its_row(part: ModuleType) -> None:
    """What is not installed has no figure of its own, and the ratio to it says why."""
    rows = part.rows_of(RATES)
    absent = {row.name for row in rows if row.value is None}
    assert 2 == len(absent)
    assert absent <= BUDGETS.keys()
    assert {"nats-py is not installed"} == {row.why for row in rows if row.value is None}
    assert 4 == len(rows)
