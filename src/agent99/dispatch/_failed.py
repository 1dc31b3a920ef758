"""What a caller is told of something that a handler raised."""

from __future__ import annotations

import asyncio
import logging

from agent99.dispatch._call import Call
from agent99.errors import DID_NOT_RUN, Failure, HandlerError, RequestError

_log = logging.getLogger("agent99.dispatch")


def answer_to(call: Call, error: BaseException) -> RequestError:
    """Return the answer that an error is."""
    if isinstance(error, Failure):
        if error.code not in DID_NOT_RUN:
            return error
        # An operation that runs may not say that nothing ran: the caller would ask again.
        return HandlerError(
            f"the operation failed: {error.message}", details={"cause": error.code, **error.details}
        )
    if isinstance(error, RequestError):  # the outcome of a request that the operation made
        return HandlerError(
            f"a request that the operation made failed: {error.message}",
            details={"cause": error.code, **error.details},
        )
    if isinstance(error, asyncio.CancelledError):
        return HandlerError("the operation was cancelled from within")
    if not call.ended:
        text = "operation %s broke, event %s"
        _log.error(text, call.operation, call.event_id, exc_info=error)
    name = type(error).__name__
    return HandlerError(f"the operation raised {name}: {error}", details={"exception": name})
