"""What a caller is told of something that a handler raised."""

from __future__ import annotations

import asyncio

from agent99.errors import DID_NOT_RUN, Failure, HandlerError, RequestError, text_of

LAST_ERROR_CHARACTERS_MAX = 1000
"""Of an error that is kept for whoever asks for the status."""


def is_break(error: BaseException) -> bool:
    """Tell whether a handler raised what it should not: neither a refusal nor a cancellation."""
    return not isinstance(error, RequestError | asyncio.CancelledError)


def answer_to(error: BaseException) -> RequestError:
    """Return the answer that an error is. Its texts are texts, whatever the error's class is."""
    try:
        return _answer_to(error)
    except Exception:  # noqa: BLE001 - attributes of a class of the user's may raise anything
        return HandlerError(f"the operation raised {type(error).__name__}, which cannot be read")


def last_error(answer: RequestError) -> str:
    """Return what is kept of an error for the status."""
    return text_of(f"{answer.code}: {answer.message}")[:LAST_ERROR_CHARACTERS_MAX]


def _answer_to(error: BaseException) -> RequestError:
    if isinstance(error, RequestError):
        code, text = text_of(error.code), text_of(error.message)
        details = {"cause": code, **error.details}
        if not isinstance(error, Failure):  # the outcome of a request that the operation made
            return HandlerError(
                f"a request that the operation made failed: {text}", details=details
            )
        if code in DID_NOT_RUN:
            # An operation that runs may not say that nothing ran: the caller would ask again.
            return HandlerError(f"the operation failed: {text}", details=details)
        # A plain one: the user may have set any attribute to anything.
        return Failure(text, code=code, details=error.details, retryable=error.retryable is True)
    if isinstance(error, asyncio.CancelledError):
        return HandlerError("the operation was cancelled from within")
    name = type(error).__name__
    return HandlerError(
        f"the operation raised {name}: {text_of(error)}", details={"exception": name}
    )
