"""What becomes of stored work after an attempt. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from agent99.errors import (
    BadRequestError,
    Failure,
    RequestError,
    UnknownOperationError,
)
from agent99.work._curve import Curve

Reason = Literal["attempts", "not_retryable", "unreadable"]
"""Why it is in quarantine: every attempt failed; the handler said that none will do; or it is no
message that the handler could be given."""


class Done(msgspec.Struct, frozen=True):
    """It has been done."""


class Again(msgspec.Struct, frozen=True):
    """It is to be tried again."""

    wait_s: float


class Dead(msgspec.Struct, frozen=True):
    """It belongs into quarantine."""

    reason: Reason


Verdict: TypeAlias = Done | Again | Dead


def judge(error: RequestError | None, attempt: int, curve: Curve, fraction: float) -> Verdict:
    """Return what becomes of work whose attempt ended so.

    Args:
        error: None: it went well.
        attempt: Its number; starts at 1.
        fraction: A random number in [0, 1), for the wait.
    """
    if error is None:
        return Done()
    if isinstance(error, BadRequestError | UnknownOperationError):
        return Dead("unreadable")
    if isinstance(error, Failure) and not error.retryable:
        return Dead("not_retryable")
    if attempt >= curve.attempts_max:
        return Dead("attempts")
    return Again(curve.wait_s(attempt, fraction))
