"""What an error says of the step that raised it. Pure."""

from __future__ import annotations

from typing import Literal

from agent99.errors import (
    Agent99Error,
    BadRequestError,
    Failure,
    HandlerError,
    NoAgentError,
    OverloadedError,
    PausedError,
    RequestError,
    StoreError,
    StreamFullError,
    UnknownOperationError,
    UsageError,
)

Says = Literal["refused", "later", "unknown", "broken"]
"""`refused`: it took no effect, and would not the next time. `later`: it took no effect this time.
`unknown`: it may have taken effect. `broken`: so it may, and the code is wrong."""

_REFUSED = (BadRequestError, UnknownOperationError, UsageError)
_LATER = (NoAgentError, OverloadedError, PausedError, StreamFullError)


def what_says(error: Exception) -> Says:
    """Return what an error says of the step that raised it."""
    if isinstance(error, _REFUSED):
        return "refused"
    if isinstance(error, _LATER):
        return "later"
    if isinstance(error, Failure):
        return "later" if error.retryable else "refused"
    if isinstance(error, StoreError):
        return "unknown" if error.retryable else "refused"
    if isinstance(error, (Agent99Error, TimeoutError)):
        return "unknown"
    return "broken"


def as_request_error(error: Exception) -> RequestError:
    """Return an error in the form in which a journal keeps it, and a caller is told of it."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, Agent99Error):
        return Failure(str(error), code=error.code, retryable=error.retryable)
    return HandlerError(f"{type(error).__name__}: {error}")
