"""Whether somebody who should answer on a subject of his own is gone, or silent for too long."""

from __future__ import annotations

from agent99.clock import Clock
from agent99.errors import Agent99Error, NoRespondersError, PermissionDeniedError
from agent99.wire import ConnectionState, Wire

GONE_PINGS = 2
"""Times that the server says that nobody listens, until that is believed: a link may be anew."""


async def is_gone(
    wire: Wire, subject: bytes, clock: Clock, *, ping_s: float, lease_s: float
) -> bool:
    """Tell whether whoever answers on a subject is gone, or silent for a lease.

    Gone: the server says twice, half a `ping_s` apart, that nobody listens. What is only silent may
    live, and hang: whoever takes its work needs a fence.

    Args:
        ping_s: How long one answer may take.
        lease_s: Silence after which it counts as gone.
    """
    gone, silent_s = 0, 0.0
    while silent_s < lease_s and gone < GONE_PINGS:
        if gone or silent_s:
            await clock.sleep(ping_s / 2 if gone else 0.0)
        try:
            await wire.request(subject, b"", deadline_s=clock.monotonic_s() + ping_s)
        except NoRespondersError:
            gone += 1
        except PermissionDeniedError:
            return False  # who may not ask knows nothing
        except Agent99Error:
            silent_s += ping_s
            if wire.state is not ConnectionState.CONNECTED:
                return False  # the silence is our own
        else:
            return False
    return True
