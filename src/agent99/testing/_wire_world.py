"""What a wire's contract suite is given, and how it says what it expects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent99.clock import SystemClock
from agent99.ids import SystemIds
from agent99.wire import Message, Receive, Subscription, Wire

WAIT_S_MAX = 5.0
"""Nothing that a check waits for may take longer."""

MakeWire = Callable[[bytes], Awaitable[Wire]]
"""Connects a wire with that sender to one broker, always the same; the suite closes it."""

ErrorT = TypeVar("ErrorT", bound=BaseException)


class WireWorld:
    """Some wires on one broker, and subjects that nobody else uses."""

    def __init__(self, make: MakeWire) -> None:
        self._make = make
        self._ids = SystemIds()
        self._clock = SystemClock()
        self._wires: list[Wire] = []
        self.subject = b"t" + self._ids.token()
        """One token, this check's own."""

    def __repr__(self) -> str:
        return f"WireWorld({self.subject!r}, wires={len(self._wires)})"

    async def wire(self, sender: bytes = b"tester") -> Wire:
        """Connect another wire."""
        wire = await self._make(sender)
        self._wires.append(wire)
        return wire

    def soon(self, delay_s: float = WAIT_S_MAX) -> float:
        """Return the monotonic time `delay_s` from now."""
        return self._clock.monotonic_s() + delay_s

    def now(self) -> float:
        """Return the monotonic time."""
        return self._clock.monotonic_s()

    async def until(self, condition: Callable[[], object], rule: str) -> None:
        """Wait until the condition is true; `AssertionError` with the rule when it never is."""
        deadline = self.soon()
        while not condition():
            if self.now() > deadline:
                raise AssertionError(f"{rule}: not within {WAIT_S_MAX:g} s")
            await self._clock.sleep(0.002)

    async def listen(
        self, wire: Wire, subject: bytes, receive: Receive, *, queue: bytes = b""
    ) -> Subscription:
        """Subscribe, and wait until the broker knows."""
        subscription = wire.subscribe(subject, receive, queue=queue)
        await wire.flush()
        return subscription

    async def settle(self, *wires: Wire) -> None:
        """Wait until what the wires sent has been delivered to all of them."""
        for wire in (*wires, *wires):
            await wire.flush()

    async def close(self) -> None:
        """Close every wire."""
        for wire in self._wires:
            await wire.aclose()


Check = Callable[[MakeWire], Awaitable[None]]


def in_world(check: Callable[[WireWorld], Awaitable[None]]) -> Check:
    """Return the check as one that makes its world itself, and takes it down."""

    async def run(make: MakeWire) -> None:
        world = WireWorld(make)
        try:
            async with asyncio.timeout(4 * WAIT_S_MAX):
                await check(world)
        finally:
            await world.close()

    run.__name__ = run.__qualname__ = check.__name__
    run.__doc__ = check.__doc__
    return run


def equal(expected: object, actual: object, rule: str) -> None:
    """Raise `AssertionError` that names the rule unless the two are equal."""
    if expected != actual:
        raise AssertionError(f"{rule}: expected {expected!r}, got {actual!r}")


def holds(condition: object, rule: str) -> None:
    """Raise `AssertionError` that names the rule unless the condition is true."""
    if not condition:
        raise AssertionError(rule)


def refused(kind: type[ErrorT], call: Callable[[], object], rule: str) -> ErrorT:
    """Return the error of `kind` that `call` raises; it must raise one."""
    try:
        result = call()
    except kind as error:
        return error
    raise AssertionError(f"{rule}: expected {kind.__name__}, got {result!r}")


async def failed(kind: type[ErrorT], call: Awaitable[object], rule: str) -> ErrorT:
    """Return the error of `kind` that the awaited call raises; it must raise one."""
    try:
        result = await call
    except kind as error:
        return error
    raise AssertionError(f"{rule}: expected {kind.__name__}, got {result!r}")


def ignore(_message: Message) -> None:
    """Receive a message and do nothing with it."""
