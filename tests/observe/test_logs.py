"""Logs: one line for each record, by its importance, whole and without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from agent99.errors import UsageError
from agent99.observe import (
    HandlerBroke,
    Hooks,
    Record,
    RequestFinished,
)
from agent99.observe._hooks import _SLOTS
from agent99.observe.logs import ConsoleFormatter, JsonFormatter, log_records, set_up_logging
from tests.observe._records import EVENT, INSTANCE, finished, one_of_each

TRACE = EVENT.replace("-", "")
NAME = "agent99.tests_of_logs"


@pytest.fixture
def stream() -> io.StringIO:
    """Give what lines are written to."""
    return io.StringIO()


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """Give hooks whose records are logged."""
    hooks = Hooks()
    forget = log_records(hooks, NAME)
    yield hooks
    forget()
    assert "Hooks()" == repr(hooks)


def _tell(hooks: Hooks, record: Record) -> None:
    tell: Any = getattr(hooks, _SLOTS[type(record)])
    tell(record)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_record_of_a_message_is_one_json_line(hooks: Hooks, stream: io.StringIO) -> None:
    """Every record of a message is one JSON object: who, and of which request and trace."""
    undo = set_up_logging("json", level="DEBUG", stream=stream, logger=NAME)
    records = [*one_of_each()[:5], finished(side="caller", code="NO_AGENT")]
    for record in records:
        _tell(hooks, record)
    undo()
    lines = _lines(stream)
    levels = ["DEBUG", "DEBUG", "DEBUG", "WARNING", "INFO", "WARNING"]
    assert levels == [line["level"] for line in lines]
    for record, line in zip(records, lines, strict=True):
        assert NAME == line["logger"]
        assert (EVENT, TRACE) == (line["event_id"], line["trace_id"])
        agent = getattr(record, "agent", "")
        assert (agent or None) == line.get("agent")
    assert "served inventory reserve: OK after 2.0 ms" == lines[2]["message"]
    assert "was answered inventory reserve: NO_AGENT after 2.0 ms" == lines[5]["message"]


def test_what_is_logged_anyway_is_not_logged_twice(hooks: Hooks) -> None:
    """Ejections, connections and broken operations have their lines without `log_records`."""
    assert (None, None, None) == (hooks.ejected, hooks.connection, hooks.broke)


def test_what_goes_well_is_quiet(hooks: Hooks, stream: io.StringIO) -> None:
    """At the level INFO a request that goes well writes nothing, a failed one a line."""
    undo = set_up_logging(stream=stream, logger=NAME)
    for record in (*one_of_each()[:3], finished(code="SOLD_OUT")):
        _tell(hooks, record)
    undo()
    (line,) = stream.getvalue().splitlines()
    assert "WARNING served inventory reserve: SOLD_OUT after 2.0 ms" in line
    assert line.endswith(f"  agent=stock instance={INSTANCE[:8]} event_id={EVENT}")


def test_a_line_for_people_names_a_trace_that_began_elsewhere(stream: io.StringIO) -> None:
    """One that the request itself began has its id, in other letters."""
    undo = set_up_logging(stream=stream, logger=NAME)
    for trace_id in (TRACE, "4bf92f3577b34da6a3ce929d0e0e4736"):
        logging.getLogger(NAME).info("so", extra={"event_id": EVENT, "trace_id": trace_id})
    undo()
    own, other = stream.getvalue().splitlines()
    assert own.endswith(f"so  event_id={EVENT}")
    assert other.endswith(f"so  event_id={EVENT} trace_id=4bf92f3577b34da6a3ce929d0e0e4736")


@pytest.mark.parametrize("form", ["console", "json"])
def test_what_an_agents_log_puts_before_its_text_stands_in_fields(
    form: Any, stream: io.StringIO
) -> None:
    """Who speaks, and of which request, is said once."""
    undo = set_up_logging(form, stream=stream, logger=NAME)
    about = {"agent": "stock", "instance": INSTANCE, "event_id": EVENT}
    log = logging.getLogger(NAME)
    log.info("stock %s [%s] stock is low", INSTANCE[:8], EVENT, extra=about)
    log.info("stock %s is up", INSTANCE[:8], extra={**about, "event_id": ""})
    log.info("stock market", extra={})
    undo()
    lines = stream.getvalue().splitlines()
    if form == "json":
        assert ["stock is low", "is up", "stock market"] == [
            json.loads(x)["message"] for x in lines
        ]
    else:
        texts = [re.sub(r"^[\d:.]+ INFO +", "", line).partition("  ")[0] for line in lines]
        assert ["stock is low", "is up", "stock market"] == texts


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_secret_is_written(form: Any, stream: io.StringIO) -> None:
    """Secrets show in no part of a line: message, arguments, fields, traceback."""
    undo = set_up_logging(form, stream=stream, logger=NAME)
    log = logging.getLogger(NAME)
    try:
        raise ValueError("cannot reach nats://user:Zq7@host:4222")
    except ValueError:
        log.exception(
            "with token=%s and %s",
            "Zq7",
            {"password": "Zq7"},
            extra={"url": "tls://u:Zq7@h", "headers": {"Authorization": "Zq7"}, "secret": "Zq7"},
            stack_info=True,
        )
    undo()
    written = stream.getvalue()
    assert "Zq7" not in written
    assert "nats://***@host:4222" in written
    assert "tls://***@h" in written
    assert "Traceback" in written


def test_json_line_survives_anything(stream: io.StringIO) -> None:
    """What JSON cannot carry is written as text; every line is an object still."""
    undo = set_up_logging("json", stream=stream, logger=NAME)
    log = logging.getLogger(NAME)
    odd = {"big": 2**80, "nan": float("nan"), "set": {1}, "thing": object(), "half": "\ud800"}
    log.info("odd\nlines", extra=odd)
    undo()
    (line,) = _lines(stream)
    assert "odd\nlines" == line["message"]
    assert {"big", "nan", "set", "thing", "half"} <= line.keys()
    assert "1208925819614629174706176" == str(line["big"])


def test_set_up_is_undone() -> None:
    """Undoing leaves the logger as it was found."""
    log = logging.getLogger(NAME)
    before = (list(log.handlers), log.level, log.propagate)
    undo = set_up_logging(logger=NAME)
    assert len(before[0]) + 1 == len(log.handlers)
    undo()
    undo()
    assert before == (list(log.handlers), log.level, log.propagate)


@pytest.mark.parametrize("wrong", [{"form": "xml"}, {"level": "LOUD"}])
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    """An unknown form or level is a mistake, said at once; nothing was changed."""
    log = logging.getLogger(NAME)
    before = (list(log.handlers), log.level, log.propagate)
    with pytest.raises(UsageError):
        set_up_logging(**wrong, logger=NAME)
    assert before == (list(log.handlers), log.level, log.propagate)


def test_text_of_an_earlier_formatter_is_kept() -> None:
    """A traceback that another handler has put into words already is written as it is."""
    record = logging.makeLogRecord({"msg": "odd", "exc_text": "its words", "levelname": "INFO"})
    for formatter in (JsonFormatter(), ConsoleFormatter()):
        assert "its words" in formatter.format(record)
    assert ("JsonFormatter()", "ConsoleFormatter()") == (
        repr(JsonFormatter()),
        repr(ConsoleFormatter()),
    )


def test_only_finished_requests_can_be_heard_alone() -> None:
    """Logging ends with its hooks: afterwards a record is told to nobody."""
    hooks = Hooks()
    log_records(hooks, NAME)()
    assert hooks.finished is None
    assert RequestFinished in _SLOTS
    assert HandlerBroke in _SLOTS
