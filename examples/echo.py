"""What comes goes back, with what the envelope says of it: the request in hand, headers included.

$ agent99 run examples/echo.py
$ agent99 call echo text='"hi"'
"""

from typing import Any

import msgspec

from agent99 import Agent


class Echo(msgspec.Struct):
    """What came, and who sent it."""

    payload: dict[str, Any]
    sender: str
    event_id: str
    remaining_s: float
    headers: dict[str, str]


class EchoAgent(Agent):
    """Sends everything back."""

    capabilities = ("echo",)

    async def process_request(self, payload: dict[str, Any]) -> Echo:
        """Answer with the request, as its context tells it."""
        context = self.context
        return Echo(
            payload=payload,
            sender=context.sender,
            event_id=context.event_id,
            remaining_s=context.remaining_s(),
            headers=dict(context.header),
        )
