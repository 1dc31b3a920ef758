"""Asking again: how the shop treats a request to another agent that brought no answer.

Every request of the shop is named by its order, so asking twice takes effect once. What the other
side said is final; what it did not say is asked for again, until the time is up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from agent99.clock import Clock
from agent99.errors import (
    DeadlineExceededError,
    RequestCancelledError,
    RequestError,
    TransportError,
)
from agent99.ids import Ids

T = TypeVar("T")


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long one try may take, and how long it is until the next."""

    attempt_s_max: float = 2.0
    """Seconds until a try that brought no answer is given up, and made again."""
    pause_s: float = 0.02
    """Seconds between the first two tries, at most; it doubles each time."""
    pause_s_max: float = 1.0
    """Seconds between two tries, at most."""


class Asker:
    """Makes requests, and makes them again, with full jitter, until they are answered."""

    def __init__(self, clock: Clock, ids: Ids, patience: Patience | None = None) -> None:
        self._clock = clock
        self._ids = ids
        self._patience = patience or Patience()

    def __repr__(self) -> str:
        return f"Asker({self._patience!r})"

    async def ask(self, call: Callable[[float], Awaitable[T]], *, budget_s: float) -> T:
        """Return the answer.

        Args:
            call: Makes the request; is given the seconds that it may take.
            budget_s: Seconds for all tries together.

        Raises:
            RequestError, TransportError: that of the last try. A `Failure` that is not retryable is
                the other side's answer; anything else leaves open whether the call took effect.
        """
        clock, patience = self._clock, self._patience
        end_s = clock.monotonic_s() + budget_s
        pause_s = patience.pause_s
        left_s = budget_s
        if left_s <= 0:
            raise DeadlineExceededError("no time was left to ask")
        while True:
            try:
                return await call(min(left_s, patience.attempt_s_max))
            except (RequestError, TransportError) as error:
                if not may_ask_again(error):
                    raise
                delay_s = pause_s * self._ids.fraction()
                left_s = end_s - clock.monotonic_s() - delay_s
                if left_s <= 0:
                    raise
            await clock.sleep(delay_s)
            pause_s = min(2 * pause_s, patience.pause_s_max)


def may_ask_again(error: RequestError | TransportError) -> bool:
    """Tell whether the same request may be answered if it is made again.

    A request that did not run says so (`retryable`); one whose outcome is unknown may be made again
    because its order names it.
    """
    return error.retryable or isinstance(error, (DeadlineExceededError, RequestCancelledError))
