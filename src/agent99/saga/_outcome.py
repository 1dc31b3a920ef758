"""What an error says of the step that raised it. Pure."""

from __future__ import annotations

from typing import Final, Literal

from agent99 import errors
from agent99.errors import (
    Agent99Error,
    BadRequestError,
    Failure,
    HandlerError,
    JournalError,
    NoAgentError,
    OverloadedError,
    PausedError,
    RequestError,
    StoreError,
    StreamFullError,
    TransportError,
    UnknownOperationError,
    UsageError,
)

PENDING: Final = "PENDING"
"""The code of the answer that a saga goes on: whoever asks again with the same key learns more."""
SAGA_STUCK: Final = "SAGA_STUCK"
"""The code of the answer that a saga cannot go on until somebody has mended something."""

Says = Literal["refused", "later", "unknown", "broken"]
"""`refused`: it took no effect, and would not the next time. `later`: it took no effect this time.
`unknown`: it may have taken effect. `broken`: so it may, and the code is wrong."""

_BROKE_HALF_WAY = (TransportError, JournalError, StoreError, UsageError)
"""What an operation meets while it runs; it arrives as a `RemoteError` with the same code."""
_CODES: Final = {
    each.code: each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, _BROKE_HALF_WAY)
}
_OPEN = {PENDING, SAGA_STUCK}
"""What a saga answers that another one asked: it has not ended."""


def what_says(error: Exception, *, may_have_run: bool = False) -> Says:
    """Return what an error says of the step that raised it.

    Args:
        may_have_run: Whether an attempt before may have taken effect. What is refused by who would
            have recognised the key took none. What is refused before that, by this side, a
            dispatcher or a table, says nothing of attempts before.
    """
    if isinstance(error, Failure) and error.code not in _CODES:
        return _what_failure_says(error)
    says = _what_breakdown_says(error)
    return "broken" if says == "refused" and may_have_run else says


def _what_failure_says(error: Failure) -> Says:
    """Return what somebody says who knows the key."""
    if error.code in _OPEN:
        return "unknown"
    return "later" if error.retryable else "refused"


def _what_breakdown_says(error: Exception) -> Says:
    if isinstance(error, Failure):  # it came from another process, and says nothing of before
        kind = _CODES[error.code]
        is_blind = issubclass(kind, (StoreError, UsageError)) and not error.retryable
        return "refused" if is_blind else "unknown"
    if isinstance(error, (BadRequestError, UnknownOperationError, UsageError)):
        return "refused"
    if isinstance(error, (NoAgentError, OverloadedError, PausedError, StreamFullError)):
        return "later"
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
