"""What reaches a terminal."""

from __future__ import annotations

import json

import pytest

from agent99.cli._show import count, duration, print_json, print_table


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1.0, "0 s"),
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60.0, "1 min"),
        (3_599.0, "59 min"),
        (3_600.0, "1 h"),
        (7_500.0, "2 h 5 min"),
        (86_400.0, "1 d"),
        (273_600.0, "3 d 4 h"),
    ],
)
def test_a_duration_for_people(seconds: float, expected: str) -> None:
    """Two units at most."""
    assert expected == duration(seconds)


def test_a_number_with_its_noun() -> None:
    """One is one."""
    assert ("1 agent", "1,200 agents", "2 processes") == (
        count(1, "agent"),
        count(1200, "agent"),
        count(2, "process", "processes"),
    )


def test_json_is_one_line_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Programmes read lines; whatever JSON has no word for is text."""
    print_json({"a": [1, "☂"], "b": 1 + 2j})
    out = capsys.readouterr().out
    assert out == '{"a":[1,"☂"],"b":"(1+2j)"}\n'
    assert json.loads(out)


def test_a_narrow_table_breaks_no_instance(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is copied from a table stands whole, also at 50 characters."""
    monkeypatch.setattr("agent99.cli._show.PIPED_WIDTH", 50)
    columns = ("agent", "instance", "state", "capabilities", "version", "uptime", "where")
    what = (
        "warehouse",
        "3f2a91c0",
        "ready",
        "inventory, stock",
        "0.1.0",
        "2 h 5 min",
        "a-host.example/1234",
    )
    print_table(columns, [what])
    out = capsys.readouterr().out
    assert all(whole in out for whole in ("3f2a91c0", "ready", "a-host.example/1234")), out


def test_a_table_shows_brackets_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """What agents say is text, and no markup."""
    print_table(("agent", "says"), [("greeter", "[bold]hello[/bold]")])
    assert "[bold]hello[/bold]" in capsys.readouterr().out
