"""Exit codes: one table for all commands, and which error ends with which. Pure."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from agent99.errors import (
    Agent99Error,
    BadRequestError,
    DeadlineExceededError,
    EmbeddedServerError,
    JournalError,
    NoAgentError,
    OverloadedError,
    PausedError,
    RequestError,
    TransportError,
    UnknownOperationError,
    UsageError,
)


class Exit(IntEnum):
    """How a command ended."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOBODY = 3
    DEADLINE = 4
    MESH = 5
    BUSY = 6
    INTERRUPTED = 130


MEANINGS: dict[Exit, str] = {
    Exit.OK: "done; of `run`, `serve`: drained after Ctrl-C or SIGTERM, or shut down by `ctl`",
    Exit.FAILED: (
        "an agent said no, broke, or did not start;"
        " `ctl`, `survey`, `trace`, `quarantine`, `saga`: not all; `audit`: a breach;"
        " `events groups`: an alert"
    ),
    Exit.USAGE: "the command, the agent's code or the payload is wrong",
    Exit.NOBODY: (
        "nobody is there who can do it;"
        " of `trace`, `jobs`, `quarantine`, `saga`, `schedule`, `audit`, `events`, `cache`,"
        " `analytics`: no such record"
    ),
    Exit.DEADLINE: "no answer in time: whether it ran is unknown",
    Exit.MESH: "no mesh, no server, or it refused the credential",
    Exit.BUSY: "refused at the door (overloaded or paused): it did not run, try again",
    Exit.INTERRUPTED: "ended at once, by Ctrl-C; of `run`, `serve`: by the second one",
}

_ORDER: tuple[tuple[type[Agent99Error], Exit], ...] = (
    (NoAgentError, Exit.NOBODY),
    (UnknownOperationError, Exit.NOBODY),
    (DeadlineExceededError, Exit.DEADLINE),
    (OverloadedError, Exit.BUSY),
    (PausedError, Exit.BUSY),
    (BadRequestError, Exit.USAGE),
    (UsageError, Exit.USAGE),
    (TransportError, Exit.MESH),
    (EmbeddedServerError, Exit.MESH),
    (JournalError, Exit.MESH),
)


class RefusalError(Agent99Error):
    """A command cannot do what it was asked to; carries its own exit code."""

    code = "REFUSED"

    def __init__(self, message: str, exit_code: Exit = Exit.USAGE, *, code: str = "USAGE") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.code = code


def exit_of(error: Agent99Error) -> Exit:
    """Return how a command ends that met this error."""
    if isinstance(error, RefusalError):
        return error.exit_code
    for kind, code in _ORDER:
        if isinstance(error, kind):
            return code
    return Exit.FAILED


def event_id_of(error: Agent99Error) -> str:
    """Return what an agent's log knows the request by; empty if the error is of no request."""
    found: str = getattr(error, "event_id", "")
    return found


def error_document(error: Agent99Error) -> dict[str, Any]:
    """Return what `--json` prints for an error."""
    details = error.details if isinstance(error, RequestError) else {}
    return {
        "error": {
            "code": error.code,
            "message": str(error),
            "details": details,
            "retryable": error.retryable,
            "event_id": event_id_of(error),
        }
    }


def exit_table() -> str:
    """Return the table of exit codes as `--help` shows it."""
    rows = (f"{code:>4}  {meaning}" for code, meaning in MEANINGS.items())
    return "\n".join(("Exit codes:", *rows))
