"""What the checker and the read model have to say at the end of the demo."""

from __future__ import annotations

from typing import Final

from agent99 import Mesh
from agent99.clock import Clock
from agent99.errors import RequestError, TransportError
from agent99.systems.shop._checker_model import Verdict
from agent99.systems.shop._history_model import Rebuild, Rebuilt

VERDICT_S: Final = 30.0
"""Seconds that the checker has to see the whole shop once; it may have been killed just before."""
PATIENCE_S: Final = 40.0
"""Seconds that the read model has to catch up with the log. What a process that was killed had in
hand comes back after 30."""
REBUILD_S: Final = 120.0
"""Seconds for making it anew, of a whole year too, and for catching up."""
_PAUSE_S: Final = 0.2


async def ask_verdict(mesh: Mesh, clock: Clock) -> Verdict | None:
    """Return the checker's verdict, once it has seen everything since it was started last.

    Asking makes it look, so that a large shop is soon seen. When the time is up what it said last
    is returned; None: it said nothing.
    """
    until_s = clock.monotonic_s() + VERDICT_S
    said: Verdict | None = None
    while clock.monotonic_s() < until_s:
        try:
            said = await mesh.request("shop_checker", "verdict", returns=Verdict)
        except (RequestError, TransportError):
            await clock.sleep(_PAUSE_S)
            continue
        if said.unread:
            await clock.sleep(_PAUSE_S)
        elif said.rounds:
            break
    return said


async def ask_rebuilt(mesh: Mesh, clock: Clock) -> Rebuilt | None:
    """Have the read model made anew from the log, and return how it compares; None: it was not."""
    until_s = clock.monotonic_s() + REBUILD_S
    while (left_s := until_s - clock.monotonic_s()) > 0:
        try:
            return await mesh.request(
                "order_history",
                "rebuild",
                Rebuild(PATIENCE_S),
                returns=Rebuilt,
                timeout_s=left_s,
            )
        except (RequestError, TransportError):
            await clock.sleep(_PAUSE_S)
    return None
