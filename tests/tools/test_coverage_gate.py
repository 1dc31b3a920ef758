"""The coverage gate can fail, and counts what it should."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def gate() -> ModuleType:
    """Load the programme."""
    spec = importlib.util.spec_from_file_location("gate", ROOT / "tools" / "coverage_gate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _file(lines: int, taken: int, branches: int = 0, branches_taken: int = 0) -> dict[str, Any]:
    return {
        "summary": {
            "num_statements": lines,
            "covered_lines": taken,
            "num_branches": branches,
            "covered_branches": branches_taken,
        }
    }


def _files(gate: ModuleType, pure: dict[str, Any], rest: dict[str, Any]) -> dict[str, Any]:
    names = [name if name.endswith(".py") else f"{name}_one.py" for name in gate.PURE]
    return {**{gate.PACKAGE + name: pure for name in names}, "src/agent99/agent/_mesh.py": rest}


def test_whole_coverage_passes(gate: ModuleType) -> None:
    """Both gates pass when every line and branch was taken."""
    assert [] == gate.judge(_files(gate, _file(10, 10, 4, 4), _file(100, 100)))


def test_overall_gate_fails(gate: ModuleType) -> None:
    """Too little of everything fails, although the pure rooms are whole."""
    wrong = gate.judge(_files(gate, _file(10, 10), _file(1_000, 800)))
    assert 1 == len(wrong)
    assert "coverage of everything" in wrong[0]


def test_pure_gate_counts_branches(gate: ModuleType) -> None:
    """A pure room whose lines are all taken fails when its branches are not."""
    wrong = gate.judge(_files(gate, _file(10, 10, 10, 8), _file(10_000, 10_000)))
    assert 1 == len(wrong)
    assert "pure rooms" in wrong[0]


def test_missing_pure_file_fails(gate: ModuleType) -> None:
    """A pure file that was renamed cannot leave the gate unseen."""
    files = _files(gate, _file(10, 10), _file(10, 10))
    del files["src/agent99/clock.py"]
    assert any("clock.py is on the list" in sentence for sentence in gate.judge(files))


def test_pure_files_exist(gate: ModuleType) -> None:
    """Every entry of the list is there today."""
    missing = [name for name in gate.PURE if not (ROOT / gate.PACKAGE / name).exists()]
    assert [] == missing


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("src/agent99/errors.py", True),
        ("src/agent99/envelope/_codec.py", True),
        ("src/agent99/wire/_parser.py", True),
        ("src/agent99/wire/_connection.py", False),
        ("src/agent99/errors.py.py", False),
    ],
)
def test_pure_is_by_path(gate: ModuleType, path: str, expected: bool) -> None:
    """Rooms count as a whole, files by their whole name."""
    assert expected is gate.is_pure(path)
