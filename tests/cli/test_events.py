"""Stored events from the command line: tail, publish."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator

import msgspec
import pytest

from agent99.cli._tail import _cut, _document, _line
from agent99.groups import Event
from tests.cli._cli import Cli, Done
from tests.cli._programmes import CREW

Ask = Callable[..., Done]
STORED = (
    ("order.placed", "number=1", "--key", "7"),
    ("order.paid", "number=2", "--key", "7"),
    ("stock.low", "number=3", "--key", "tea\x1b[2J"),
    ("order.placed", "number=4"),
)
WHOLE = ("order.*", "stock.*")


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Give a project whose log begins with four events."""
    cli = Cli(tmp_path_factory.mktemp("events") / "project")
    cli.write("crew.py", CREW)
    try:
        cli.start("run", "crew.py").wait_line("^ready: ")
        for words in STORED:
            assert (0, "") == cli.run("events", "publish", *words)[::2]
        yield cli
    finally:
        cli.close()


def sequences(done: Done) -> list[str]:
    """Return the second word of each line."""
    return [line.split("  ")[1] for line in done.out.splitlines()]


# --- tail -----------------------------------------------------------------------------------------


def test_tail_prints_what_is_there(ask: Ask) -> None:
    """In a pipe a line is whole: time, sequence, topic, key and data; nothing steers a terminal."""
    done = ask("events", "tail", "--until-end", *WHOLE)
    assert (0, "") == (done.code, done.err)
    lines = [line.split("  ") for line in done.out.splitlines()]
    assert [
        ["1", "order.placed", "7", '{"number":1}'],
        ["2", "order.paid", "7", '{"number":2}'],
        ["3", "stock.low", r"tea\u001b[2J", '{"number":3}'],
        ["4", "order.placed", "-", '{"number":4}'],
    ] == [line[1:] for line in lines]
    assert all(line[0].startswith("20") and line[0].endswith("Z") for line in lines)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("order.paid", "stock.*"), ["2", "3"]),
        ((*WHOLE, "--from", "last"), ["4"]),
        (("order.placed", "order.paid", "--from", "last-per-key"), ["2", "4"]),
        ((*WHOLE, "--from", "3"), ["3", "4"]),
        (("--from", "-1h", "--limit", "2"), ["1", "2"]),
        (("--from", "new"), []),
    ],
    ids=" ".join,
)
def test_tail_begins_where_it_is_told_to(
    ask: Ask, words: tuple[str, ...], expected: list[str]
) -> None:
    """Of these topics alone, in the order of the log; where nothing is found, it says so."""
    done = ask("events", "tail", "--until-end", *words)
    assert (0, expected) == (done.code, sequences(done))
    assert bool(expected) != ("no such events on mesh 'main'" in done.err)


def test_tail_as_json_is_a_cloud_event_a_line(ask: Ask) -> None:
    """With its sequence and key; on an empty mesh there is none, and that is no failure."""
    lines = ask("events", "tail", "--until-end", "--json", "--limit", "3").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [("1.0", "order.placed", "1"), ("1.0", "order.paid", "2")] == [
        (event["specversion"], event["type"], event["sequence"]) for event in events[:2]
    ]
    assert ({"number": 3}, "tea\x1b[2J") == (events[2]["data"], events[2]["subject"])
    assert (0, "", "") == ask("events", "tail", "--until-end", "--json", "--mesh", "empty")


def test_tail_of_what_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    """For people it is shown as it is; with `--json` it is left out, and named."""
    event = Event(
        id="e",
        source="s",
        type="order.paid",
        subject="",
        time_us=0,
        data=msgspec.Raw(b'{"a":\x7f'),
        sequence=7,
        partition=0,
        stored_us=0,
    )
    assert '1970-01-01 00:00:00Z  7  order.paid  -  {"a":\\u007f' == _line(event)
    assert _document(event) is None
    assert "event e, sequence 7, is left out: JSON is malformed" in capsys.readouterr().err
    lines = msgspec.structs.replace(event, data=msgspec.Raw(b'{"a":\n1}'))
    assert '{"a":1}' in (_document(lines) or "")


def test_tail_goes_on_until_ctrl_c(crew: Cli) -> None:
    """What comes is printed; Ctrl-C is its end, and no failure."""
    running = crew.start("events", "tail", "note.*", "--from", "last")
    for number in range(2):
        crew.run("events", "publish", "note.written", f"number={number}")
    line = running.wait_line('"number":1')
    assert '  note.written  -  {"number":1}' in line
    running.signal(signal.SIGINT)
    assert 0 == running.wait()
    assert "(end of output)" == running.lines[-1]


def test_tail_that_was_to_end_by_itself(crew: Cli) -> None:
    """Ctrl-C comes before its end: exit code 130."""
    running = crew.start("events", "tail", "--from", "first", "--limit", "9999")
    running.wait_line("order.placed")
    running.signal(signal.SIGINT)
    assert 130 == running.wait()


def test_tail_on_a_terminal_cuts_its_lines(crew: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the terminal's width, in which a wide letter counts twice."""
    ours, theirs = pty.openpty()
    monkeypatch.setenv("COLUMNS", "40")
    assert "日" * 19 + " …" == _cut("日" * 30)
    assert "short" == _cut("short")
    environ = {**crew.environ, "COLUMNS": "40"}
    words = crew._command(("events", "tail", "--until-end", "--limit", "1"))
    done = subprocess.run(
        words, cwd=crew.folder, env=environ, stdin=theirs, stdout=theirs, check=False
    )
    os.close(theirs)
    line = os.read(ours, 4096).decode().rstrip()
    os.close(ours)
    assert (0, 40, "…") == (done.returncode, len(line), line[-1])


# --- publish --------------------------------------------------------------------------------------


def test_publish_is_append(ask: Ask) -> None:
    """One thing under two names: the id alone on stdout, and a repeat is stored once."""
    for verb in (("append",), ("events", "publish")) * 2:
        done = ask(*verb, "paper.new", "--json-payload", '{"paper": "a"}', "--id", "a-is-new")
        assert (0, "a-is-new\n", "") == done
    assert {"id": "b"} == ask("events", "publish", "paper.new", "--id", "b", "--json").document
    assert 2 == len(ask("events", "tail", "paper.*", "--until-end").out.splitlines())


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ("tail order..paid", 2, "is no topic pattern"),
        ("tail order.* order.paid --until-end", 2, "the topics order.*, order.paid overlap"),
        ("tail --from soon", 2, "'soon' is no place in the log: first, new"),
        ("tail --from 0", 2, "sequences begin with 1"),
        ("tail --from 99999", 2, "start is 99999, in the future: the log ends with"),
        ("tail --from 2999-01-01", 2, "in the future"),
        ("tail --limit 0", 2, "--limit"),
        ("tail --url nats://127.0.0.1:1", 5, "no NATS server answers at"),
        ("publish paper..new", 2, "is no topic"),
        ("publish paper.new paper", 2, "is no name=value"),
        ("publish paper.new --url nats://127.0.0.1:1", 5, "no NATS server answers at"),
    ],
)
def test_a_mistake_is_one_sentence(ask: Ask, words: str, code: int, part: str) -> None:
    """It names what is wrong; nothing is on stdout."""
    done = ask("events", *words.split())
    assert (code, "", 1) == (done.code, done.out, len(done.err.splitlines()))
    assert part in done.err


def test_without_a_mesh(cli: Cli) -> None:
    """Each says that none is up: exit code 5."""
    for words in (("tail",), ("publish", "a.b"), ("groups",), ("replay", "g", "--from", "new")):
        done = cli.run("events", *words)
        assert (5, True) == (done.code, "no mesh is up" in done.err), words
