"""The bench of what lasts: it runs, and it says what it could not measure."""

from __future__ import annotations

import importlib

import pytest

from tests.benches._rows import BENCHES, rows_of

SQLITE = "idempotent transactions, 64 callers, SQLite with full sync, to one commit each"
APPENDS = "journal append, 256 in flight, to raw nats-py"
TASKIQ = "jobs, one worker, to Taskiq on JetStream, acknowledged when executed"
CELERY = "jobs, one worker, to Celery on Redis, acks_late, solo pool"
SAGAS = "sagas of four steps, 32 at once, to ten appends by raw nats-py"
POSTGRES = "idempotent transactions, 64 callers, PostgreSQL, to one commit each"


@pytest.mark.slow
def test_every_promise_is_measured_or_says_why_not() -> None:
    """Standard output is a JSON array, and each row of it has a figure or a reason."""
    by_name = rows_of("durable")
    for name, row in by_name.items():
        assert row["value"] is None or row["value"] > 0, name
    for name, budget in ((APPENDS, 1.5), (SAGAS, 0.6), (SQLITE, 2.0)):
        assert budget == by_name[name]["budget"], name
        assert isinstance(by_name[name]["met"], bool), name
    assert {TASKIQ, CELERY, "jobs, one worker, agent99", POSTGRES} <= by_name.keys()


def test_an_absent_database_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no PostgreSQL its row stays, without a value, and says why."""
    monkeypatch.syspath_prepend(str(BENCHES))
    durable, report = importlib.import_module("durable"), importlib.import_module("_report")
    monkeypatch.setattr(durable, "find_postgres", lambda: None)
    options = durable.Options(json=True, rounds=1, seconds=0.1, quick=True)
    rows = durable.postgres_rows(options, report.Progress())
    assert [report.absent(POSTGRES, "x", "PostgreSQL is not installed")] == rows


def test_an_absent_peer_keeps_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed has no figure of its own, and the ratio to it says why."""
    monkeypatch.syspath_prepend(str(BENCHES))
    jobs, report = importlib.import_module("_jobs"), importlib.import_module("_report")
    monkeypatch.setattr(jobs, "is_installed", lambda _module: False)
    stacks = jobs.make_stacks()
    stacks["ours"].jobs_per_s = [3.0, 1.0, 2.0]
    expected = [
        report.absent(TASKIQ, "x", "taskiq and taskiq-nats are not installed"),
        report.absent(CELERY, "x", "celery and redis are not installed"),
        report.figure("jobs, one worker, agent99", [2.0], "jobs/s"),
    ]
    assert expected == jobs.rows_of(stacks)


def test_a_peer_that_is_there_is_compared_round_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ratio is the median of those of each round, against its budget where it has one."""
    monkeypatch.syspath_prepend(str(BENCHES))
    jobs, report = importlib.import_module("_jobs"), importlib.import_module("_report")
    stacks = jobs.make_stacks()
    for stack in stacks.values():
        stack.why_absent, stack.jobs_per_s = "", [1.0, 10.0, 5.0]
    stacks["ours"].jobs_per_s = [2.0, 10.0, 20.0]
    rows = jobs.rows_of(stacks)
    assert [
        report.Row(TASKIQ, 2.0, "x", 1.5, met=True),
        report.Row(CELERY, 2.0, "x", None, None),
    ] == rows[:2]
    assert len(stacks) == len(rows[2:])
