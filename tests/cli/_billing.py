"""A group that the tests look at: its members are processes of their own, which may be killed."""

from __future__ import annotations

BILLING = '''
from agent99 import Agent, Failure, operation
from agent99.groups import Event, EventGroup, EventOptions
from agent99.work import Curve

QUICK = EventOptions(curve=Curve(attempts_max=2, delay_s=0.01, delay_s_max=0.02), commit_s=0.1)


class Billing(Agent):
    """Bills what is ordered."""

    capabilities = ("billing",)

    @operation
    async def nothing(self) -> None:
        """Do nothing: it is its group that works."""

    async def start(self) -> None:
        group = EventGroup(self, "billing", ("order.*",), self.bill, options=QUICK)
        self._group = await group.__aenter__()

    async def stop(self) -> None:
        await self._group.__aexit__(None, None, None)

    async def bill(self, event: Event) -> None:
        if b"bad" in bytes(event.data):
            raise Failure("it cannot be billed", code="BAD")
'''
