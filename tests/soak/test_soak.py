"""The soak finds what grows and what comes back late; in short form nothing does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from soak._soaked import Census
from soak.soak import Holdings, Soak

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_nothing_grows_in_a_short_soak() -> None:
    """Two rounds of every fault: all agents come back in time, and what is held stays the same."""
    command = [sys.executable, "-m", "soak.soak", "--minutes", "0.5", "--every", "1.5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("whole again") >= 8


def _held(rss_mb: float, tasks: int = 10, consumers: int = 5) -> Holdings:
    census = Census(rss_mb=rss_mb, descriptors=18, tasks=tasks, threads=4)
    return Holdings(census, census, connections=4, subscriptions=150, consumers=consumers)


@pytest.mark.parametrize(
    ("held", "grown"),
    [
        ([_held(30.0)] * 9, []),
        ([_held(30.0 + 0.1 * n) for n in range(9)], []),
        ([_held(30.0 + 3 * n) for n in range(9)], ["memory of the caller", "memory of a worker"]),
        ([_held(30.0, tasks=10 + 2 * n) for n in range(9)], ["tasks of the caller", "tasks of a"]),
        ([_held(30.0, consumers=5 + n) for n in range(9)], ["consumers"]),
        ([_held(30.0)] * 2, ["too short"]),
    ],
)
def test_what_grows_is_found(held: list[Holdings], grown: list[str]) -> None:
    """The last third is held against the one before; a run without three faults proves nothing."""
    soak = object.__new__(Soak)
    soak.held, soak.findings, soak._say = held, [], lambda _text: None
    soak._judge()
    assert len(soak.findings) == len(grown)
    for finding, begins in zip(soak.findings, grown, strict=True):
        assert finding.startswith(begins)
