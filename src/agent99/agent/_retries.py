"""When a request may be made again, and how soon.

Only what provably did not run is made again, or what may run twice because its operation or its key
says so; within a budget, so that a mesh in trouble is not asked the more the worse it gets; with
full jitter; and by the caller alone, so that layers do not multiply. The budget is Finagle's
(`RetryBudget`), the waits are those of "Exponential Backoff And Jitter" (AWS Builders' Library).
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from agent99.errors import DID_NOT_RUN, OverloadedError, RequestCancelledError, RequestError

BUDGET_SHARE = 0.1
"""Retries to requests, in the long run."""
BUDGET_FLOOR = 10.0
"""Retries in a second that are allowed however few the requests are."""
BUDGET_MAX = 100.0
"""The most that is saved up for worse times."""
WAIT_S_MIN = 0.05
WAIT_S_MAX = 2.0
"""The bound of the wait before the first retry; it doubles up to the second."""
PUSH_BACK_S_MAX = 5.0
"""The most that an overloaded instance may ask a caller to wait."""


class Budget:
    """What one caller may spend on retries of requests to one target.

    Invariant: its credit is from 0 to `BUDGET_MAX`.
    """

    __slots__ = ("_at_s", "_credit", "asked")

    def __init__(self, now_s: float) -> None:
        self.asked = 0
        """Requests since the budget was last looked at; whoever asks counts them."""
        self._credit = BUDGET_MAX
        self._at_s = now_s

    def __repr__(self) -> str:
        return f"Budget({self._credit:.1f}, asked={self.asked})"

    def take(self, now_s: float) -> bool:
        """Spend one retry; returns False where nothing is left."""
        earned = BUDGET_FLOOR * max(now_s - self._at_s, 0.0) + BUDGET_SHARE * self.asked
        credit = min(self._credit + earned, BUDGET_MAX)
        self._at_s, self.asked = now_s, 0
        may = credit >= 1
        self._credit = credit - 1 if may else credit
        return may


class Lane(msgspec.Struct, eq=False):
    """What one caller keeps of one subject that it asks."""

    prefix: bytes
    """What is the same in every plain request to there."""
    budget: Budget


def wait_s(error: RequestError, attempt: int, fraction: float) -> float:
    """Return the seconds to wait before the next attempt: full jitter.

    Args:
        error: How the last one ended.
        attempt: Its number; starts at 1.
        fraction: A random number in [0, 1).
    """
    most_s = min(WAIT_S_MIN * 2.0 ** (attempt - 1), WAIT_S_MAX)
    if isinstance(error, OverloadedError):
        most_s = max(most_s, _push_back_s(error))
    return fraction * most_s


def is_harmless(error: RequestError, *, may_run_twice: Callable[[], bool]) -> bool:
    """Tell whether a request that ended so may be made again.

    What an operation itself says is an answer, `retryable` or not: when to ask again is then the
    application's affair.

    Args:
        may_run_twice: Tells whether its operation is idempotent, or it has a key that makes it so;
            asked only where that counts, since most errors are what an operation says.
    """
    is_broken_off = error.code == RequestCancelledError.code  # its instance stopped
    return error.code in DID_NOT_RUN or (is_broken_off and may_run_twice())


def _push_back_s(error: RequestError) -> float:
    asked = error.details.get("retry_after_s")
    if isinstance(asked, int | float) and asked > 0:  # NaN is not above 0
        return min(float(asked), PUSH_BACK_S_MAX)
    return 0.0
