"""The contract that every wire is held to: the memory one, the NATS one, and yours."""

from __future__ import annotations

from agent99.testing._wire_messages import MESSAGE_CHECKS
from agent99.testing._wire_requests import REQUEST_CHECKS
from agent99.testing._wire_world import Check, MakeWire

WIRE_CHECKS: tuple[Check, ...] = (*MESSAGE_CHECKS, *REQUEST_CHECKS)
"""Each takes `make`; run them one by one, so that a failure names its rule."""


async def check_wire(make: MakeWire) -> None:
    """Run the whole suite.

    Args:
        make: Connects a wire with the given sender to one broker, the same at every call.

    Raises:
        AssertionError: a rule is broken; the message names it.
    """
    for check in WIRE_CHECKS:
        await check(make)
