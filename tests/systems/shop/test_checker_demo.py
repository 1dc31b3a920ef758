"""The checker in the demo: a process among the others, killed like them, whose word counts."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from agent99.systems.shop._check import CheckReport
from agent99.systems.shop._checker_model import Verdict
from agent99.systems.shop._display import rows_of
from agent99.systems.shop._figures import Figures, Work, figures_of
from agent99.systems.shop._history_model import HistoryDigest, Rebuilt
from agent99.systems.shop._replay import Tally
from agent99.systems.shop._year import Counts
from tests._wait import wait_until
from tests.systems.shop._programme import READY, Programme, write_tiny

_EMPTY = HistoryDigest(0, {}, "e3b0")
_ALIKE = Rebuilt(_EMPTY, _EMPTY, 0, identical=True)
_SOUND = Verdict(looks=3, rounds=1, violations=(), late=(), last_look_us=1, unread="")


def _figures(verdict: Verdict | None, *told: str, rebuilt: Rebuilt | None = _ALIKE) -> Figures:
    """Return the figures of a run in which nobody placed an order."""
    report = CheckReport(
        findings=(),
        counts=dict.fromkeys(("invoices", "orders"), 0),
        skipped={},
        confirmed=0,
        rejected={},
        revenue_pence=0,
        captured_pence=0,
        refunded_pence=0,
        shipped=0,
        notified=0,
        messages=0,
        cancelled=0,
        back_orders=0,
        events=0,
    )
    counts = msgspec.convert(dict.fromkeys(Counts.__struct_fields__, 0) | {"skipped": {}}, Counts)
    work = Work(Tally(), 0.0, None, (), None, verdict, rebuilt)
    return figures_of(counts, work, report, told)


def test_a_violation_is_not_ok() -> None:
    """Also one of which a checker told before it was killed; each counts once."""
    figures = _figures(_SOUND)
    assert (True, 3, 0) == (figures.ok, figures.checker.looks, figures.checker.violations)
    assert ("looked at while it ran", "3 times, no violations") in rows_of(figures)
    figures = _figures(msgspec.structs.replace(_SOUND, violations=("a (b): c",)), "a (b): c", "d")
    assert ("violation: a (b): c", "violation: d") == figures.findings
    assert (False, 2) == (figures.ok, figures.checker.violations)
    assert ("looked at while it ran", "3 times, 2 violations") in rows_of(figures)


def test_what_nobody_saw_is_not_proved() -> None:
    """A checker that says nothing, or has not seen everything, is a finding."""
    assert ("checker_silent: the checker gives no verdict",) == _figures(None).findings
    blind = msgspec.structs.replace(_SOUND, rounds=0, unread="stock.db is away")
    (finding,) = _figures(blind).findings
    assert "checker_blind: the checker did not see all: stock.db is away" == finding


def test_a_read_model_that_differs_is_not_ok() -> None:
    """From itself, made anew, or from the check's counts; one that was not made anew is not ok."""
    assert ("read model, made anew", "identical, 0 orders, hash e3b0") in rows_of(_figures(_SOUND))
    other = HistoryDigest(1, {"paid": 1}, "aaaa")
    figures = _figures(_SOUND, rebuilt=Rebuilt(_EMPTY, other, 4, identical=False))
    differs, counts = figures.findings
    assert "history_differs: the read model's hash was e3b0 and is aaaa, " in differs
    assert (
        "history_counts: orders by state are {'paid': 1} by the events, {} by the check" == counts
    )
    assert ("read model, made anew", "different, 1 orders, hash aaaa") in rows_of(figures)
    (silent,) = _figures(_SOUND, rebuilt=None).findings
    assert "history_silent: the read model was not made anew" == silent


@pytest.fixture
def demos() -> Iterator[list[Programme]]:
    """Give a list for demos, which are gone with the test."""
    started: list[Programme] = []
    yield started
    for programme in started:
        programme.close()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--chaos",)])
def test_the_shop_is_proved_while_it_runs(
    demos: list[Programme], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Some hundred orders, also with everybody killed at random: looked at, and always sound."""
    data = write_tiny(tmp_path / "more.parquet", 600)
    demos.append(Programme("--data", str(data), "--json", *arguments))
    demos[0].process.wait(240)
    assert 0 == demos[0].wait(), demos[0].text
    found = demos[0].document
    assert found["checker"]["looks"] > 0
    assert 0 == found["checker"]["violations"]


@pytest.mark.slow
def test_what_was_wrong_for_a_moment_outlives_the_checker(
    demos: list[Programme], tmp_path: Path
) -> None:
    """The fault was mended, and who saw it killed: its event in the log is a finding still."""
    data, store = write_tiny(tmp_path / "more.parquet", 400), tmp_path / "shop.db"
    demo = Programme("--data", str(data), "--speed", "1", "--store", f"sqlite:///{store}")
    demos.append(demo)
    demo.wait_line(READY)
    with closing(sqlite3.connect(store, isolation_level=None)) as link:
        for name in ("odd", "even"):  # the second is seen when the first is in the log
            link.execute(f"INSERT INTO ledger VALUES ('{name}', 'cash', 'nobody', 1, 0)")
            demo.wait_line(f"what may never be: ledger_unbalanced ({name})")
            link.execute(f"DELETE FROM ledger WHERE transaction_id = '{name}'")
    checker = demo.family()[-1]
    os.kill(checker, signal.SIGKILL)
    wait_until(lambda: f"checker/1 (process {checker}) was killed" in demo.text)
    demo.process.wait(120)
    assert 1 == demo.wait(), demo.text
    faults = [line for line in demo.lines if line.startswith("FAULT")]
    assert any(line.startswith("FAULT violation: ledger_unbalanced (odd)") for line in faults)
    assert all(line.startswith("FAULT violation: ") for line in faults)
