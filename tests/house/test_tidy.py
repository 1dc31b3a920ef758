"""The house is tidy: every rule of `_rules.py`, on the tree as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from ._rules import CHECKS
from ._tree import House

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def house() -> House:
    """Parse the tree once."""
    return House(ROOT)


@pytest.mark.parametrize("name", CHECKS)
def test_rule_holds(house: House, name: str) -> None:
    """A rule has no findings in the tree."""
    findings = sorted(set(map(str, CHECKS[name](house))))
    assert not findings, f"{len(findings)} findings:\n" + "\n".join(findings)
