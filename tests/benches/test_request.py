"""The bench of a request: it runs, it says what it could not measure, and a miss is called one."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHES = Path(__file__).parents[2] / "benches"
BUDGETS = {
    "remote request, 64 at once, to raw nats-py",
    "remote request, 64 at once, to the bound",
    "remote request, one at a time, p50, to the bound",
    "request in the same process, to a bare call with the codec",
    "processor time of a request with metrics, to without",
    "discover 10 of 10,000 agents",
    "journal append, 256 in flight, to raw nats-py",
    "import agent99",
    "import agent99, optional dependencies",
    "agent99 run to first answer",
}


@pytest.fixture(scope="module")
def report() -> ModuleType:
    """Give the module that a bench reports by."""
    spec = importlib.util.spec_from_file_location("bench_report", BENCHES / "_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_budget_is_measured_or_says_why_not() -> None:
    """Standard output is a JSON array, and each row of it has a figure or a reason."""
    command = [sys.executable, str(BENCHES / "request.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    by_name = {row["name"]: row for row in rows}
    assert len(by_name) == len(rows)
    assert by_name.keys() >= BUDGETS
    for name, row in by_name.items():
        assert (row["value"] is None) == bool(row.get("why")), name
        assert row["value"] is None or row["value"] >= 0, name
    for name in BUDGETS:
        assert by_name[name]["value"] is None or isinstance(by_name[name]["met"], bool), name


def test_the_median_is_what_counts(report: ModuleType) -> None:
    """One round in which the machine did something else decides nothing."""
    assert report.at_least("x", [0.7, 0.001, 0.8], "x", 0.65).value == 0.7
    assert report.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


@pytest.mark.parametrize(
    ("value", "is_met"), [(1.0, True), (0.91, True), (0.89, False), (0.0, False)]
)
def test_a_bound_from_below_is_met_within_a_tenth(
    report: ModuleType, value: float, is_met: bool
) -> None:
    """So much the machine drifts; what is below that is a miss."""
    assert report.at_least("x", [value], "x", 1.0).met is is_met


@pytest.mark.parametrize(("value", "is_met"), [(1.0, True), (1.09, True), (1.11, False)])
def test_a_bound_from_above_is_met_within_a_tenth(
    report: ModuleType, value: float, is_met: bool
) -> None:
    """As from below."""
    assert report.at_most("x", [value], "x", 1.0).met is is_met


def test_a_table_calls_a_miss_a_miss(
    report: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each row says what was measured, what it must reach, and how that stands."""
    rows = [
        report.at_least("fast", [2.0], "x", 1.0),
        report.at_most("slow", [2.0], "s", 1.0),
        report.absent("peer", "x", "it is not installed"),
        report.figure("count", [12345.6], "of them"),
    ]
    report.print_table(rows)
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == [
        "fast 2 x 1 met",
        "slow 2 s 1 MISSED",
        "peer - it is not installed",
        "count 12,346 of them",
    ]
