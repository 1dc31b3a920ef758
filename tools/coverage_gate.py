"""Hold the coverage gates: `make coverage` runs it on the data that the tests left.

Two gates: everything, and the pure rooms, where a branch that no test takes has no excuse.
A figure is coverage.py's own with branches: (lines + branches taken) / (lines + branches).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "src/agent99/"
OVERALL_PERCENT_MIN = 90.0
PURE_PERCENT_MIN = 95.0
PURE = (
    "errors.py",
    "clock.py",
    "ids.py",
    "settings.py",
    "envelope/",
    "dispatch/",
    "groups/_assignment.py",
    "groups/_place.py",
    "groups/_trust.py",
    "groups/_view.py",
    "journal/_grammar.py",
    "journal/_headers.py",
    "registry/_description.py",
    "registry/_explain.py",
    "registry/_selection.py",
    "registry/_table.py",
    "registry/_where.py",
    "systems/analytics/_anomalies.py",
    "systems/analytics/_board.py",
    "systems/analytics/_board_cells.py",
    "systems/analytics/_board_counts.py",
    "systems/analytics/_board_panes.py",
    "systems/analytics/_board_sessions.py",
    "systems/analytics/_board_sliding.py",
    "systems/analytics/_buffer.py",
    "systems/analytics/_columns.py",
    "systems/analytics/_compute.py",
    "systems/analytics/_delta.py",
    "systems/analytics/_detector.py",
    "systems/analytics/_due.py",
    "systems/analytics/_figures.py",
    "systems/analytics/_fold.py",
    "systems/analytics/_grouping.py",
    "systems/analytics/_repeats.py",
    "systems/analytics/_sieve.py",
    "systems/analytics/_sketches.py",
    "systems/analytics/_watermark.py",
    "systems/analytics/_windows.py",
    "systems/cache/_arc.py",
    "systems/cache/_edits.py",
    "systems/cache/_hot.py",
    "systems/cache/_lookup.py",
    "systems/cache/_near.py",
    "systems/cache/_placing.py",
    "systems/cache/_plan.py",
    "systems/cache/_resolve.py",
    "systems/cache/_resp_parser.py",
    "systems/cache/_ring.py",
    "systems/cache/_spread.py",
    "systems/cache/_staging.py",
    "systems/cache/_steps.py",
    "systems/cache/_store.py",
    "systems/cache/_table.py",
    "systems/cache/_values.py",
    "wire/_encoder.py",
    "wire/_headers.py",
    "wire/_matching.py",
    "wire/_parser.py",
)
"""Rooms and files that decide and touch nothing: no socket, no disk."""


class Tally(NamedTuple):
    """Lines and branches: how many there are, how many were taken."""

    total: int
    taken: int
    branches: int
    branches_taken: int

    @property
    def percent(self) -> float:
        """Lines and branches together; 100 for nothing."""
        return 100.0 * self.taken / self.total if self.total else 100.0

    @property
    def branch_percent(self) -> float:
        """Branches alone; 100 for none."""
        return 100.0 * self.branches_taken / self.branches if self.branches else 100.0


def tally(summaries: list[dict[str, Any]]) -> Tally:
    """Add up what coverage.py says of some files."""
    lines = sum(file["num_statements"] for file in summaries)
    lines_taken = sum(file["covered_lines"] for file in summaries)
    branches = sum(file["num_branches"] for file in summaries)
    branches_taken = sum(file["covered_branches"] for file in summaries)
    return Tally(lines + branches, lines_taken + branches_taken, branches, branches_taken)


def is_pure(path: str) -> bool:
    """Tell whether a file of the package is one of the pure ones."""
    inside = path.removeprefix(PACKAGE)
    return any(
        inside.startswith(entry) if entry.endswith("/") else inside == entry for entry in PURE
    )


def judge(files: dict[str, dict[str, Any]]) -> list[str]:
    """Print the figures and return what is wrong, in sentences."""
    summaries = {path: file["summary"] for path, file in files.items()}
    everything = tally(list(summaries.values()))
    pure = tally([summary for path, summary in summaries.items() if is_pure(path)])
    wrong = [
        f"{PACKAGE}{entry} is on the list of pure files but was not measured"
        for entry in PURE
        if not any(path.startswith(PACKAGE + entry) for path in summaries)
    ]
    for name, found, percent_min in (
        ("everything", everything, OVERALL_PERCENT_MIN),
        ("pure rooms", pure, PURE_PERCENT_MIN),
    ):
        print(
            f"coverage, {name}: {found.percent:.1f} % of {found.total:,} lines and branches"
            f" (branches alone {found.branch_percent:.1f} %); the gate is {percent_min:.0f} %"
        )
        if found.percent < percent_min:
            wrong.append(f"coverage of {name} is {found.percent:.1f} %, under {percent_min:.0f} %")
    if wrong:
        for path, summary in sorted(summaries.items(), key=_missing, reverse=True)[:15]:
            one = tally([summary])
            mark = "  pure" if is_pure(path) else ""
            print(f"  {one.total - one.taken:4} missing  {one.percent:5.1f} %  {path}{mark}")
    return wrong


def _missing(entry: tuple[str, dict[str, Any]]) -> int:
    one = tally([entry[1]])
    return one.total - one.taken


def main() -> int:
    """Read the data in the current folder; returns the exit code."""
    report = subprocess.run(
        [sys.executable, "-m", "coverage", "json", "--quiet", "-o", "-"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if report.returncode != 0:
        print(f"no coverage to judge: {report.stdout}{report.stderr}".strip(), file=sys.stderr)
        return 2
    wrong = judge(json.loads(report.stdout)["files"])
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
