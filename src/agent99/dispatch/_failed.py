"""What a caller is told of something that a handler raised."""

from __future__ import annotations

import asyncio
import logging

from agent99.dispatch._call import Call
from agent99.errors import DID_NOT_RUN, Failure, HandlerError, RequestError

_log = logging.getLogger("agent99.dispatch")


def answer_to(call: Call, error: BaseException) -> RequestError:
    """Return the answer that an error is.

    Raises:
        error itself: it is not for the caller, but ends the process.
    """
    # Not even a `Failure` may say that nothing ran: the caller would ask again.
    if isinstance(error, Failure) and error.code not in DID_NOT_RUN:
        return error
    if isinstance(error, RequestError):  # the outcome of a request that the operation made
        return HandlerError(
            f"a request that the operation made failed: {error.message}",
            details={"cause": error.code, **error.details},
        )
    if isinstance(error, asyncio.CancelledError):
        return HandlerError("the operation was cancelled from within")
    if not isinstance(error, (Exception, SystemExit)):
        raise error
    if not call.ended:
        text = "operation %s broke, event %s"
        _log.error(text, call.operation, call.event_id, exc_info=error)
    name = type(error).__name__
    return HandlerError(f"the operation raised {name}: {error}", details={"exception": name})
