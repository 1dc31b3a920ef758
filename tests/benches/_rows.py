"""Runs a bench in its quick form, and reads its rows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BENCHES = Path(__file__).resolve().parents[2] / "benches"
Rows = dict[str, dict[str, Any]]


def rows_of(bench: str) -> Rows:
    """Return the rows of a bench by their names: a JSON array, each with a figure or a reason."""
    command = [sys.executable, str(BENCHES / f"{bench}.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    by_name = {row["name"]: row for row in rows}
    assert len(by_name) == len(rows)
    for name, row in by_name.items():
        assert (row["value"] is None) == bool(row.get("why")), name
    return by_name


def check_budgets(rows: Rows, budgets: Mapping[str, float]) -> None:
    """Check that rows are held to their budgets, but for those whose peers are not installed."""
    for name, budget in budgets.items():
        if rows[name]["value"] is None:
            continue  # its peer is not installed, as the row says
        assert budget == rows[name]["budget"], name
        assert isinstance(rows[name]["met"], bool), name
