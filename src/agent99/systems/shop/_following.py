"""Waiting for what follows the orders: shipments, messages and events that are on their way."""

from __future__ import annotations

from typing import Final

from agent99 import Mesh
from agent99.clock import Clock
from agent99.errors import RequestError, TransportError
from agent99.systems.shop._display import Display
from agent99.systems.shop._model import Backlog

STANDSTILL_S: Final = 60.0
"""Seconds in which nothing moves; then what is missing is not waited for. The work of a process
that was killed comes back after 30."""
TELL_S: Final = 3.0
"""Seconds in which nothing moves; then it is told that, and for what, the demo waits."""
LOOK_S: Final = 0.2
"""Seconds between two looks at what is left."""
_WHAT: Final = "shipments, messages and events"


async def follow_up(mesh: Mesh, clock: Clock, display: Display) -> None:
    """Return when every confirmed order is shipped and told of, or nothing moves any more.

    What is missing then is the check's to say.
    """
    left = await _left(mesh)
    moved_s, is_told = clock.monotonic_s(), False
    with display.bar(_WHAT, left or 0) as bar:
        while left != 0:
            still_s = clock.monotonic_s() - moved_s
            if still_s >= STANDSTILL_S:
                display.warn(f"nothing moves any more: {_said(left)}; going on without")
                return
            if still_s >= TELL_S and not is_told:
                display.warn(f"{_said(left)}; what a killed process had in hand takes 30 s")
                is_told = True
            await clock.sleep(LOOK_S)
            now = await _left(mesh)
            if now is not None and now != left:
                bar.advance((left or now) - now)
                left, moved_s, is_told = now, clock.monotonic_s(), False


async def _left(mesh: Mesh) -> int | None:
    """Return how much is left to do; None: nobody knows now."""
    try:
        found = await mesh.request("order_processing", "backlog", returns=Backlog)
    except (RequestError, TransportError):
        return None
    return found.to_ship + found.to_tell + found.to_send


def _said(left: int | None) -> str:
    if left is None:
        return f"order processing does not say how many {_WHAT} are left"
    return f"{_WHAT} that are left: {left:,}"
