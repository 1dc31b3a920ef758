"""Wait for a condition, with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 30.0
"""How long to wait for what is to come: a bound against hanging, and no rule. A machine under load
takes its time, and a test that passes waits no longer for it."""
_PAUSE_S = 0.005


async def eventually(condition: Callable[[], object], *, timeout_s: float = PATIENCE_S) -> None:
    """Return once `condition()` is true; other tasks run meanwhile.

    Raises:
        AssertionError: it was not, after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        await asyncio.sleep(_PAUSE_S)


def wait_until(condition: Callable[[], object], *, timeout_s: float = PATIENCE_S) -> None:
    """Block until `condition()` is true.

    Raises:
        AssertionError: it was not, after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(_PAUSE_S)
