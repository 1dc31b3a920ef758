"""The bench of sagas: every comparison has its row, and what cannot be compared says why."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHES = Path(__file__).parents[2] / "benches"
SYNCED = "sagas of four steps, {} at once, sync always, to {}"
POSTGRES = {1: 3.0, 32: 6.0, 128: None}
SQLITE = "sagas of four steps, 1 at once, acknowledged before fsync, to DBOS on SQLite, after it"
APPENDS = "ten appends by raw nats-py"


@pytest.fixture
def sagas(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The bench's module, as its programme imports it."""
    monkeypatch.syspath_prepend(str(BENCHES))
    return importlib.import_module("_sagas")


def measured(stacks: dict[str, Any], per_s: float) -> None:
    """Give every stack the same figures, as if it were there."""
    for stack in stacks.values():
        stack.why_absent = ""
        stack.per_s = {at_once: [per_s, 2 * per_s, per_s] for at_once in stack.at_once}


def test_every_comparison_has_its_budget(sagas: ModuleType) -> None:
    """Each peer is compared at each concurrency; a budget stands where one was set."""
    stacks = sagas.make_stacks()
    measured(stacks, 10.0)
    stacks["ours"].per_s[1] = [200.0, 100.0, 100.0]
    rows = {row.name: row for row in sagas.rows_of(stacks)}
    for at_once, budget in POSTGRES.items():
        row = rows[SYNCED.format(at_once, "DBOS on PostgreSQL")]
        assert (budget, 1.0) == (row.budget, row.value)
        assert rows[SYNCED.format(at_once, APPENDS)].budget is None
        natspy = rows[f"sagas of four steps, {at_once} at once, to {APPENDS}"]
        assert (0.6, True) == (natspy.budget, natspy.met)
    assert (10.0, 10.0, True) == (rows[SQLITE].value, rows[SQLITE].budget, rows[SQLITE].met)
    assert 10 + sum(len(stack.at_once) for stack in stacks.values()) == len(rows)


def test_one_asked_by_another_process_is_a_figure_alone(sagas: ModuleType) -> None:
    """What another process asks for is told, and compared with nothing: its peers are in one."""
    stacks = sagas.make_stacks()
    measured(stacks, 10.0)
    remote = [row for row in sagas.rows_of(stacks) if "another process" in row.name]
    assert [("sagas/s", None)] * 6 == [(row.unit, row.budget) for row in remote]


def test_absent_peers_keep_their_rows(sagas: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is not installed has no figure of its own, and the ratios to it say why."""
    monkeypatch.setattr(sagas, "is_installed", lambda _module: False)
    stacks = sagas.make_stacks()
    for key in ("ours", "ours_synced", "remote", "remote_synced"):
        stacks[key].per_s = {at_once: [10.0] for at_once in sagas.AT_ONCE}
    rows = sagas.rows_of(stacks)
    without = [row for row in rows if row.value is None]
    assert {"dbos is not installed", "nats-py is not installed"} == {row.why for row in without}
    assert 10 == len(without)
    assert all("agent99" in row.name for row in rows if row.value is not None)


def test_without_a_database_server_sqlite_is_compared(
    sagas: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no PostgreSQL its rows say so, and DBOS is measured on SQLite."""
    monkeypatch.setattr(sagas, "is_installed", lambda _module: True)
    monkeypatch.setattr(sagas, "find_postgres", lambda: None)
    stacks = sagas.make_stacks()
    assert "PostgreSQL is not installed" == stacks["postgres"].why_absent
    assert not stacks["sqlite"].why_absent


def test_the_appends_are_those_of_a_saga(sagas: ModuleType) -> None:
    """The yardstick stores ten records: the beginning, four times two, and the end."""
    pytest.importorskip("nats")
    natspy = importlib.import_module("_sagas_natspy")
    kinds = [record.split(b'"')[3].decode() for record in natspy.RECORDS]
    assert ["started", *["intent", "result"] * 4, "finished"] == kinds
