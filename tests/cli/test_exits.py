"""Which error ends with which exit code."""

from __future__ import annotations

import pytest

from agent99.cli._command import report
from agent99.cli._exits import MEANINGS, Exit, RefusalError, error_document, exit_of, exit_table
from agent99.cli._scope import Output
from agent99.errors import (
    Agent99Error,
    AuthenticationError,
    BadAnswerError,
    BadRequestError,
    ClosedError,
    DeadlineExceededError,
    HandlerError,
    InvalidNameError,
    NoAgentError,
    OverloadedError,
    PausedError,
    PayloadTooLargeError,
    RemoteError,
    ServerStartError,
    ServerUnavailableError,
    StateFolderError,
    StreamFullError,
    UnknownOperationError,
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RemoteError("no", code="NO"), Exit.FAILED),
        (HandlerError("broke"), Exit.FAILED),
        (BadAnswerError("what"), Exit.FAILED),
        (ClosedError("mesh"), Exit.FAILED),
        (InvalidNameError("capability", "a b", "rule"), Exit.USAGE),
        (PayloadTooLargeError("payload", 2, 1), Exit.USAGE),
        (BadRequestError("schema"), Exit.USAGE),
        (NoAgentError("nobody"), Exit.NOBODY),
        (UnknownOperationError("what"), Exit.NOBODY),
        (DeadlineExceededError("late"), Exit.DEADLINE),
        (ServerUnavailableError("nats://x", "gone"), Exit.MESH),
        (AuthenticationError("nats://x", "no"), Exit.MESH),
        (ServerStartError("no"), Exit.MESH),
        (StateFolderError("no"), Exit.MESH),
        (StreamFullError("full"), Exit.MESH),
        (OverloadedError("full"), Exit.BUSY),
        (PausedError("paused"), Exit.BUSY),
        (RefusalError("no", Exit.NOBODY), Exit.NOBODY),
    ],
)
def test_an_error_has_its_exit_code(error: Agent99Error, expected: Exit) -> None:
    """Scripts can tell outcomes apart."""
    assert expected == exit_of(error)


def test_every_exit_code_has_a_meaning_in_the_help() -> None:
    """No code is a riddle."""
    assert set(Exit) == set(MEANINGS)
    for code, meaning in MEANINGS.items():
        assert f"{code:>4}  {meaning}" in exit_table()


def test_an_error_as_json() -> None:
    """It carries what a programme wants to know."""
    error = RemoteError("no stock", code="NO_STOCK", details={"left": 1}, retryable=True)
    expected = {"code": "NO_STOCK", "message": "no stock", "details": {"left": 1}}
    assert {"error": {**expected, "retryable": True, "event_id": ""}} == error_document(error)


def test_a_request_is_told_with_its_event_id(capsys: pytest.CaptureFixture[str]) -> None:
    """The agent's log has the same; a mistake before anything was sent has none, and no code."""
    error = RemoteError("no stock", code="NO_STOCK")
    error.event_id = "3f2a"
    error.add_note("event 3f2a")  # as a request does, for tracebacks: not to be said twice
    report(Output(), error)
    report(Output(), RemoteError("no stock", code="NO_STOCK"))
    report(Output(), InvalidNameError("capability", "a b", "no spaces"))
    report(Output(json=True), error)
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "agent99: no stock (NO_STOCK, event 3f2a)",
        "agent99: no stock (NO_STOCK)",
        "agent99: 'a b' is no capability: no spaces",
        "agent99: no stock (NO_STOCK, event 3f2a)",
    ]
    assert '"event_id":"3f2a"' in out
