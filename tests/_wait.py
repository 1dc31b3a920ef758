"""Wait for a condition, with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

PATIENCE_S = 30.0
"""How long to wait for what is to come: a bound against hanging, and no rule. A machine under load
takes its time, and a test that passes waits no longer for it."""
_PAUSE_S = 0.005
_ASK_PAUSE_S = 0.02
"""Who asks a database, or another agent, has them work all the time that it waits."""


async def eventually(condition: Callable[[], object], *, timeout_s: float = PATIENCE_S) -> Any:
    """Return what `condition()` gives, once that is true; other tasks run meanwhile.

    Args:
        condition: A function, or a coroutine function.
        timeout_s: The bound.

    Raises:
        AssertionError: it was not, after `timeout_s`.
    """
    pause_s = _PAUSE_S
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                found = condition()
                if iscoroutine(found):
                    pause_s = _ASK_PAUSE_S
                    found = await found
                if found:
                    return found
                await asyncio.sleep(pause_s)
    except TimeoutError as error:
        raise AssertionError(f"not within {timeout_s} s") from error


def wait_until(condition: Callable[[], object], *, timeout_s: float = PATIENCE_S) -> None:
    """Block until `condition()` is true.

    Raises:
        AssertionError: it was not, after `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(_PAUSE_S)
