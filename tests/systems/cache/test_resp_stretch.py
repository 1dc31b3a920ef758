"""Stretches: commands that came together are done together, and nobody can tell."""

from __future__ import annotations

import logging

import pytest

from agent99.clock import SystemClock
from agent99.errors import Failure
from agent99.systems.cache._resp_commands import prepare
from agent99.systems.cache._resp_session import Figures, Session
from agent99.systems.cache._resp_stretch import Stretch

from ._strings import AwayError, MemoryStrings


class Stage:
    """Strings, and a stretch of one client."""

    def __init__(self, size_max: int = 100) -> None:
        clock = SystemClock()
        self.strings = MemoryStrings(clock)
        self.session = Session(
            1, self.strings, clock, Figures(started_s=0.0), password="", is_trusted=True
        )
        self.stretch = Stretch(self.strings, size_max)

    def add(self, line: str) -> bool:
        """Add a command if the stretch takes it; return whether it did."""
        command, call = prepare(self.session, [word.encode() for word in line.split()])
        takes = not self.stretch.is_full and self.stretch.takes(command, call)
        if takes:
            self.stretch.add(command, call)
        return takes

    async def run(self, *lines: str) -> list[str]:
        """Return the answers to commands that are all taken."""
        assert all(self.add(line) for line in lines)
        return (await self.stretch.run()).decode().split("\r\n")[:-1]


async def test_reads_share_a_round_and_plain_writes_another() -> None:
    """GET, MGET and STRLEN ask once, SET and MSET write once, and answers keep their order."""
    stage = Stage()
    heard = await stage.run("SET a 1", "GET b", "MSET c 3 d 4", "STRLEN e", "MGET f g", "PING")
    assert heard == ["+OK", "$-1", "+OK", ":0", "*2", "$-1", "$-1", "+PONG"]
    assert stage.strings.calls == {"set_many": 1, "get_many": 1}


@pytest.mark.parametrize(
    ("first", "second", "is_together"),
    [
        ("GET a", "GET a", True),
        ("GET a", "SET b 1", True),
        ("GET a", "SET a 1", False),
        ("SET a 1", "GET a", False),
        ("SET a 1", "SET a 2", False),
        ("SET a 1 EX 5", "SET b 2 EX 5", True),
        ("INCR a", "INCR a", False),
        ("MSET a 1 b 2", "DEL c b", False),
        ("DEL a b", "MGET c d", True),
        ("GET a", "SCAN 0", False),
        ("SCAN 0", "GET a", False),
        ("FLUSHALL", "PING", False),
        ("PING", "HELLO 3", False),
    ],
)
def test_only_what_cannot_tell_is_made_together(first: str, second: str, is_together: bool) -> None:
    """A key that is written is in one call of a stretch, and what sees all keys is alone."""
    stage = Stage()
    assert stage.add(first)
    assert stage.add(second) == is_together


@pytest.mark.parametrize(
    ("lines", "is_full"), [(["GET a", "GET b"], False), (["PING"] * 3, True), (["DEL a b c"], True)]
)
def test_a_stretch_is_bounded(lines: list[str], is_full: bool) -> None:
    """It is full after so many calls, and after so many keys."""
    stage = Stage(size_max=3)
    assert all(stage.add(line) for line in lines)
    assert stage.stretch.is_full == is_full


async def test_a_failure_is_of_the_call_that_has_it() -> None:
    """What one call did wrong is the answer to that call, though it went with the others."""
    stage = Stage()
    stage.strings.broken["bad"] = Failure("it is bad", code="TOO_BAD")
    heard = await stage.run("GET a", "MGET bad b", "SET c 3", "SET dad 1", "INCR e", "STRLEN bad")
    no = "-ERR TOO_BAD: it is bad"
    assert heard == ["$-1", no, "+OK", "+OK", ":1", no]
    assert stage.strings.held["c"].value == b"3"


async def test_a_failure_of_all_is_not_tried_one_by_one() -> None:
    """Where nobody can be asked, each is told to try again, and it is not asked for each."""
    stage = Stage()
    stage.strings.broken["a"] = AwayError("nobody is there\r\nnow")
    heard = await stage.run("GET a", "GET b", "GET c")
    assert heard == ["-TRYAGAIN AWAY: nobody is there  now"] * 3
    assert stage.strings.calls["get_many"] == 1


async def test_what_breaks_is_logged_and_answered(caplog: pytest.LogCaptureFixture) -> None:
    """A defect behind a command is no answer for the client, and no end of the others."""
    stage = Stage()
    stage.strings.broken["a"] = ZeroDivisionError("secret")
    with caplog.at_level(logging.ERROR, "agent99.cache"):
        heard = await stage.run("APPEND a x", "APPEND b x")
    assert heard == ["-ERR internal error", ":1"]
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [
        stage.strings.broken["a"]
    ]


def test_a_stretch_says_its_length() -> None:
    """Its representation, and its length, is the number of answers it will give."""
    stage = Stage()
    assert stage.add("PING")
    stage.stretch.add_answer(b"")
    assert (repr(stage.stretch), len(stage.stretch)) == ("Stretch(2)", 2)
