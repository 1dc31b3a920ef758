"""Typed operations, a refusal with a code of its own, and CPU-bound work in a process.

$ agent99 run examples/calculator.py
$ agent99 call calculator divide dividend=1 divisor=0
agent99: nothing can be divided by zero (DIVISION_BY_ZERO, event 3f2a91c0-…)
"""

import math
from typing import Annotated

from msgspec import Meta

from agent99 import Agent, Failure, operation


class Calculator(Agent):
    """Calculates."""

    capabilities = ("calculator", "arithmetic")

    @operation(idempotent=True)
    async def add(self, numbers: list[float]) -> float:
        """Add them up, without losing the small ones among the large."""
        return math.fsum(numbers)

    @operation(idempotent=True)
    async def divide(self, dividend: float, divisor: float) -> float:
        """Divide, or say why not."""
        if divisor == 0:
            raise Failure(
                "nothing can be divided by zero",
                code="DIVISION_BY_ZERO",
                details={"dividend": dividend},
            )
        return dividend / divisor

    @operation(idempotent=True, runs_in="process")
    @staticmethod
    def primes(below: Annotated[int, Meta(ge=0, le=10_000_000)]) -> int:
        """Count the primes below a bound: seconds of work that must not hold up the event loop."""
        sieve = bytearray([1]) * below
        sieve[:2] = bytes(min(below, 2))
        for number in range(2, math.isqrt(below) + 1):
            if sieve[number]:
                sieve[number * number :: number] = bytes(len(range(number * number, below, number)))
        return sum(sieve)
