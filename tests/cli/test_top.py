"""`agent99 top`: what it makes of the answers, and how it draws."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from agent99.agent import Answer, Survey
from agent99.cli._rates import Counted, Said
from agent99.cli._show import GAP, fit
from agent99.cli._top_view import (
    COLUMNS,
    LEAVING,
    Look,
    compare,
    drops_line,
    figure,
    head_line,
    last_answers,
    look_document,
    look_rows,
)
from agent99.errors import UnknownOperationError
from agent99.registry import Description
from tests._wait import wait_until
from tests.cli._cli import TIMEOUT_S, Cli
from tests.cli._screen import Screen

BUSY, IDLE, NEW, HUNG, OLD = (
    Description(name=name, instance=f"{name}-instance", process=process, host="a-host", pid=pid)
    for name, process, pid in (
        ("busy", "p1", 1),
        ("idle", "p1", 1),
        ("new", "p2", 2),
        ("hung", "p3", 3),
        ("old", "p4", 4),
    )
)


def status(uptime_s: float, requests: int = 0, **more: Any) -> dict[str, Any]:
    """Return an answer to `status`, as it travels."""
    operations = {"requests": requests, "processing_ns": requests * 4_000_000, **more}
    connection = {"reconnects": 2}
    return {"state": "ready", "uptime_s": uptime_s, "operations": operations} | {
        "connection": connection
    }


@pytest.fixture
def look() -> Look:
    """Give what a look finds of one instance of each kind."""
    before = {
        BUSY.instance: Said("ready", 10.0, operations=Counted(100, processing_ns=400_000_000)),
        IDLE.instance: Said("ready", 10.0),
        HUNG.instance: Said("ready", 10.0),
    }
    answers = (
        Answer(NEW.instance, "new", status(0.5, 3)),
        Answer(BUSY.instance, "busy", status(12.0, 350, errors=5, dropped={"stale": 4})),
        Answer(IDLE.instance, "idle", status(12.0, dropped={"overloaded": 1})),
        Answer(OLD.instance, "old", error=UnknownOperationError("what?", details={})),
        Answer("unheard-of", "", status(1.0)),
    )
    return compare((BUSY, HUNG, IDLE, NEW, OLD), Survey(answers, (HUNG.instance,)), before)


def test_the_busiest_comes_first_and_the_silent_last(look: Look) -> None:
    """Who did not answer is silent, who answered an error shows its code."""
    found = [(one.about.name, one.state) for one in look.seen]
    assert [
        ("busy", "ready"),
        ("idle", "ready"),
        ("new", "ready"),
        ("hung", "silent"),
        ("old", "UNKNOWN_OPERATION"),
    ] == found


def test_a_rate_is_that_of_the_instances_own_time(look: Look) -> None:
    """However late an answer comes; of one that has just come there is none yet."""
    assert [125.0, 0.0, None, None, None] == [
        one.rates.requests if one.rates else None for one in look.seen
    ]


def test_the_last_answer_of_a_silent_one_is_kept(look: Look) -> None:
    """When it is back its rates are those of the whole gap; who is gone is forgotten."""
    before = {HUNG.instance: Said("ready", 10.0), "gone": Said("ready", 10.0)}
    last = last_answers(look, before)
    assert {BUSY.instance, HUNG.instance, IDLE.instance, NEW.instance} == set(last)
    assert (10.0, 12.0) == (last[HUNG.instance].uptime_s, last[BUSY.instance].uptime_s)


def test_rows_for_people(look: Look) -> None:
    """A dash where nothing is known, and the sum of all beneath; one process has one connection."""
    rows = look_rows(look)
    assert {len(COLUMNS)} == {len(row) for row in rows}
    busy, idle, new, hung, _old, total = rows
    assert ("busy", "busy-ins", "ready", "125", "2.5", "0", "4.00") == busy[:7]
    assert ("0", "0", "4", "2", "a-host/1") == busy[7:]
    assert ("0", "0", "0", "-") == idle[3:7]
    assert (("-",) * 4, "2") == (new[3:7], new[-2])
    assert ("silent", *("-",) * 8, "a-host/3") == hung[2:]
    assert ("total", "", "", "125", "2.5", "0", "4.00", "0", "0", "5", "4", "") == total


def test_there_is_a_row_for_those_without_room(look: Look) -> None:
    """The busiest are shown, and how many are not; the sum is that of all."""
    rows = look_rows(look, 2)
    assert ["busy", "idle", "… 3 more", "total"] == [row[0] for row in rows]
    assert "125" == rows[-1][3]


def test_lines_around_the_table(look: Look) -> None:
    """Who is there, how many are silent, and why messages were dropped."""
    expected = "5 instances of 5 agents, 2 silent on mesh 'main' at nats://here"
    assert expected == head_line(look, "main", "nats://here")
    assert "dropped since they started: stale 4, overloaded 1" == drops_line(look)
    assert "" == drops_line(Look(()))


def test_a_narrow_terminal_does_without_some_columns(look: Look) -> None:
    """Never without names and rates; what is shown fits, down to the least."""
    rows = look_rows(look)
    whole, _, widths = fit(COLUMNS, rows, 200, LEAVING)
    assert COLUMNS == whole
    needed = sum(widths) + GAP * (len(widths) - 1)
    assert COLUMNS == fit(COLUMNS, rows, needed, LEAVING)[0]
    assert COLUMNS[:-1] == fit(COLUMNS, rows, needed - 1, LEAVING)[0]
    for width in range(60, 140):
        columns, cells, widths = fit(COLUMNS, rows, width, LEAVING)
        assert sum(widths) + GAP * (len(widths) - 1) <= width
        assert {"agent", "instance", "req/s", "err/s", "mean ms"} <= set(columns)
        assert {len(columns)} == {len(row) for row in cells}


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0.0, "0"),
        (0.04, "0.0"),
        (9.96, "10.0"),
        (12.3, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
    ],
)
def test_a_figure_has_few_digits(number: float, expected: str) -> None:
    """As many as one reads at a glance."""
    assert expected == figure(number)


def test_a_look_as_json(look: Look) -> None:
    """What is not known is null, not nought."""
    found = look_document(look)
    busy, _, new, hung, _ = found["instances"]
    assert (125.0, 2.5, 4.0) == (busy["requests_per_s"], busy["errors_per_s"], busy["mean_ms"])
    assert (None, 0) == (new["requests_per_s"], new["in_flight"])
    assert ("silent", None, None) == (hung["state"], hung["in_flight"], hung["dropped"])
    total = found["total"]
    assert (5, 2, 125.0, 4) == (
        total["instances"],
        total["silent"],
        total["requests_per_s"],
        total["reconnects"],
    )
    assert {"stale": 4, "overloaded": 1} == total["dropped"]
    assert look_document(Look(()))["total"]["requests_per_s"] is None


@pytest.mark.parametrize("words", [("--once",), ()], ids=["asked for", "in a pipe"])
def test_once_is_one_table_after_one_interval(ask: Any, words: tuple[str, ...]) -> None:
    """So it is wherever stdout is no terminal."""
    done = ask("top", "--interval", "0.2", *words)
    assert (0, "") == (done.code, done.err)
    names = [line.split()[0] for line in done.out.splitlines()]
    assert ["AGENT", "echo", "echo", "greeter", "greeter", "total", "4"] == names
    assert "4 instances of 2 agents on mesh 'main' at nats://" in done.out


def test_once_as_json(ask: Any) -> None:
    """One document, with the mesh and the interval."""
    found = ask("top", "--interval", "0.2", "--once", "--json").document
    assert ("main", 0.2, 4) == (found["mesh"], found["interval_s"], len(found["instances"]))
    assert 0 == found["total"]["requests_per_s"]  # known: there were two looks


def test_an_empty_mesh_is_no_failure(ask: Any) -> None:
    """It says so."""
    done = ask("top", "--once", "--interval", "0.1", "--mesh", "empty")
    assert (0, True) == (done.code, done.out.startswith("no agents on mesh 'empty' at nats://"))


def test_json_is_a_line_for_each_interval(crew: Cli) -> None:
    """Until Ctrl-C, which is its end and no failure."""
    running = crew.start("top", "--interval", "0.2", "--json")
    running.wait_line("^{", times=3)
    running.signal(signal.SIGINT)
    assert 0 == running.wait()
    *lines, last = running.lines
    assert "(end of output)" == last
    found = [json.loads(line) for line in lines]
    assert [one["time_us"] for one in found] == sorted({one["time_us"] for one in found})
    assert {0} == {one["total"]["requests_per_s"] for one in found}


@pytest.fixture
def screen(crew: Cli) -> Iterator[Screen]:
    """Give a terminal that shows the crew."""
    screen = Screen(crew, "top", "--interval", "0.2")
    yield screen
    screen.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_on_a_terminal_it_redraws_until_ctrl_c(screen: Screen, number: signal.Signals) -> None:
    """Then the terminal is as it was: its own screen, its cursor; the last look stays on it."""
    wait_until(lambda: screen.text.count("total") >= 3, timeout_s=TIMEOUT_S)
    assert "\x1b[?1049h" in screen.text  # the other screen
    screen.process.send_signal(number)
    assert 0 == screen.process.wait(TIMEOUT_S)
    *_, after = screen.text.rpartition("\x1b[?1049l")
    before = screen.text.removesuffix(after)
    assert before.rindex("\x1b[?25l") < before.rindex("\x1b[?25h")  # the cursor is back
    assert 1 == after.count("total")
    assert "4 instances of 2 agents" in after


def test_what_it_does_not_understand_is_one_sentence(crew: Cli) -> None:
    """An interval too short to measure anything in."""
    done = crew.run("top", "--interval", "0")
    assert (2, 1) == (done.code, len(done.err.splitlines()))
    assert "--interval" in done.err
