"""A campaign's figures are checked, kept and laid out as a table that has a row for each."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest

from tests._faults import Fault, Figure, Run

ROOT = Path(__file__).resolve().parents[2]
RUN = Run("F1", "kill one of three", "tests/agent/test_it.py::test_it", "short", seed=7)


def test_a_report_is_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure is shown with its bounds, and the whole run stands in a file of its own."""
    figures = (
        Figure("noticed after", 1.23456, "s", at_most=3),
        Figure("failed", 0, at_least=0, at_most=0),
        Figure("asked", 500),
    )
    Fault(RUN, str(tmp_path / "made")).report(*figures)
    assert capsys.readouterr().out.splitlines() == [
        "",
        "F1: kill one of three (seed 7)",
        "  noticed after: 1.235 s (at most 3; met)",
        "  failed: 0 (exactly 0; met)",
        "  asked: 500",
    ]
    (kept,) = (tmp_path / "made").iterdir()
    assert kept.name == "F1-test_it-8f2890a2.json"
    told = msgspec.json.decode(kept.read_bytes(), type=Run)
    assert msgspec.structs.replace(RUN, figures=figures) == told


@pytest.mark.parametrize(
    "figure",
    [Figure("noticed after", 3.1, "s", at_most=3), Figure("asked", 4, at_least=5)],
)
def test_a_figure_that_breaks_its_bounds_fails_the_campaign(figure: Figure, tmp_path: Path) -> None:
    """It is kept none the less; only a reason lets the campaign pass."""
    with pytest.raises(AssertionError):
        Fault(RUN, str(tmp_path)).report(figure)
    assert len(list(tmp_path.iterdir())) == 1
    explained = msgspec.structs.replace(figure, why="the machine is slow")
    Fault(RUN).report(explained)
    assert not explained.is_met


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    """Load the programme."""
    spec = importlib.util.spec_from_file_location("faults", ROOT / "tools" / "faults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _written(*runs: Run) -> list[Any]:
    return [msgspec.to_builtins(run) for run in runs]


def test_the_page_has_a_row_for_each_figure(faults: ModuleType) -> None:
    """By fault; figures of several runs as a range; what is missed says why, if it can."""
    late = Run(
        "F10",
        "stop it",
        "b::test_b",
        figures=(
            Figure("asked", 12_345),
            Figure("slow", 2.5, "s", at_most=2, why="two cores"),
            Figure("lost", 1, at_least=0, at_most=0),
            Figure("kept", 5, at_least=5, at_most=5),
        ),
    )
    first = msgspec.structs.replace(RUN, figures=(Figure("late", 0.51234, "s", at_most=3),))
    second = msgspec.structs.replace(
        first, variant="other", seed=4, figures=(Figure("late", 1, "s", at_most=3),)
    )
    text = faults.page(_written(late, first, second), "on a toaster")
    assert "run, on a toaster." in text
    assert [line for line in text.splitlines() if line.startswith("|")][2:] == [
        "| F1 | kill one of three (short form) | late: at most 3 s | 0.512 to 1 s | 4, 7 | yes |",
        "| F10 | stop it | asked | 12,345 | none | told |",
        "|  |  | slow: at most 2 s | 2.5 s |  | no: two cores |",
        "|  |  | lost: 0 | 1 |  | no: unexplained |",
        "|  |  | kept: exactly 5 | 5 |  | yes |",
    ]


def test_the_faults_of_a_system_have_rows_too(faults: ModuleType) -> None:
    """What the plan of a system numbers (E3) comes before what that of the server does (F1)."""
    runs = [
        msgspec.structs.replace(RUN, fault=fault, figures=(Figure("asked", 1),))
        for fault in ("F2", "E10", "F1", "E3")
    ]
    rows = faults.page(_written(*runs), "here").splitlines()[-4:]
    assert ["E3", "E10", "F1", "F2"] == [row.split(" | ")[0].removeprefix("| ") for row in rows]


def test_full_counts_stand_for_the_short_form(faults: ModuleType) -> None:
    """Where a campaign ran in both forms, the table shows the full one alone."""
    short = msgspec.structs.replace(RUN, figures=(Figure("asked", 10),))
    full = msgspec.structs.replace(
        RUN, variant="full", is_full=True, seed=8, figures=(Figure("asked", 99),)
    )
    (row,) = faults.page(_written(short, full), "here").splitlines()[-1:]
    assert row == "| F1 | kill one of three | asked | 99 | 8 | told |"


def test_the_programme_writes_the_page(
    faults: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reads what the reports left, and writes nothing where there are none."""
    page = tmp_path / "page.md"
    assert faults.main(str(tmp_path / "runs"), str(page)) == 1
    assert not page.exists()
    Fault(RUN, str(tmp_path / "runs")).report(Figure("asked", 3))
    assert faults.main(str(tmp_path / "runs"), str(page)) == 0
    assert "| F1 | kill one of three (short form) | asked | 3 | 7 | told |" in page.read_text()


class Campaign(NamedTuple):
    """A test that is marked `fault`, as its source has it."""

    place: str
    fault: str
    done: str
    uses_fixture: bool
    is_full_only: bool
    """It has no short form, and no row in the table of one."""


def _campaigns() -> Iterator[Campaign]:
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        source = path.read_text()
        if "pytest.mark.fault(" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
            for fault, done in filter(None, map(_words, node.decorator_list)):
                is_full_only = "pytest.mark.chaos" in marks
                place = f"{path.name}::{node.name}"
                yield Campaign(place, fault, done, "fault" in used, is_full_only)


def _words(decorator: ast.expr) -> list[str]:
    """Return the arguments of `pytest.mark.fault(…)`; of every other decorator none."""
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault":
        return [ast.literal_eval(argument) for argument in decorator.args]
    return []


def test_every_campaign_reports() -> None:
    """Who is marked `fault` uses the fixture, which says what was measured."""
    assert [] == [campaign.place for campaign in _campaigns() if not campaign.uses_fixture]


def test_the_table_has_a_row_for_each_campaign() -> None:
    """It has been made since the last campaign came, went or was renamed; all is met, or why not.

    Where this fails, `make faults`.
    """
    rows = (ROOT / "docs" / "reference" / "faults.md").read_text().splitlines()
    cells = [row.removeprefix("| ").split(" | ") for row in rows if re.match(r"\| [A-Z]\d", row)]
    shown = {(fault, done.removesuffix(" (short form)")) for fault, done, *_ in cells}
    campaigns = list(_campaigns())
    assert shown <= {(one.fault, one.done) for one in campaigns}
    assert shown >= {(one.fault, one.done) for one in campaigns if not one.is_full_only}
    assert [] == [row for row in rows if row.endswith("no: unexplained |")]
