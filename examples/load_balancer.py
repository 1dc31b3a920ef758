"""Who gets a request: any one, the idlest, the same one for the same key, or by label.

$ agent99 run examples/load_balancer.py --count 3
$ agent99 call balancer spread requests=30 by=hash
"""

import asyncio
from collections import Counter
from typing import Annotated, Literal

from msgspec import Meta

from agent99 import Agent, Target, hash_of, least_loaded, operation, pick, sticky

Way = Literal["any", "least_loaded", "hash", "sticky"]


class Backend(Agent):
    """Does the work."""

    capabilities = ("backend",)
    metadata = {"region": "eu"}  # noqa: RUF012 - Agent declares it as a class variable

    @operation(idempotent=True)
    async def handle(self, item: int) -> str:
        """Say which instance did it."""
        await asyncio.sleep(0.001 * (item % 3))
        return self.instance


class Balancer(Agent):
    """Spreads requests over the backends, in the way that is asked for."""

    capabilities = ("balancer",)
    uses = ("backend",)

    @operation
    async def spread(
        self, requests: Annotated[int, Meta(ge=1, le=1_000)] = 30, by: Way = "any"
    ) -> dict[str, int]:
        """Return how many requests each backend got."""

        def target(item: int) -> Target:
            if by == "least_loaded":
                return pick("backend", least_loaded())
            if by == "hash":
                return pick("backend", hash_of(f"customer-{item % 10}"), where="region=eu")
            if by == "sticky":
                return pick("backend", sticky())
            return "backend"

        answers = await asyncio.gather(
            *(
                self.request(target(item), "handle", {"item": item}, returns=str)
                for item in range(requests)
            )
        )
        return dict(Counter(answers).most_common())
