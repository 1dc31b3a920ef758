"""The bench of the audit log: it runs, and its budget is that of the verified entries."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHES = Path(__file__).parents[2] / "benches"


def test_a_round_has_every_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries are written in batches and one by one, and all are sound."""
    monkeypatch.syspath_prepend(str(BENCHES))
    audit, report = importlib.import_module("_audit"), importlib.import_module("_report")
    options = importlib.import_module("_bench").Options(
        json=True, rounds=2, seconds=0.05, quick=True
    )
    rows = audit.audit_rows(options, report.Progress())
    assert [200_000, None, None, None] == [row.budget for row in rows]
    assert all(row.value > 0 for row in rows)
    assert ["entries/s", "x", "entries/s", "entries/s"] == [row.unit for row in rows]


def test_the_median_of_the_rounds_is_held_to_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow round is the machine's; the ratio is of each round."""
    monkeypatch.syspath_prepend(str(BENCHES))
    audit, report = importlib.import_module("_audit"), importlib.import_module("_report")
    rates = {
        "verified": [10.0, 210_000.0, 220_000.0],
        "batches": [200.0, 200.0, 400.0],
        "alone": [20.0, 50.0, 10.0],
    }
    verified, ratio, *_ = audit.rows_of(rates)
    name = "audit log, entries verified"
    assert report.Row(name, 210_000.0, "entries/s", 200_000, met=True) == verified
    assert 10.0 == ratio.value
