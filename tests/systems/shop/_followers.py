"""Those who follow the orders in one process, to be killed.

`python -m tests.systems.shop._followers URL MESH DATABASE`. What a killed process had in hand comes
again soon, and what fails is tried again soon.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

import agent99.work
from agent99 import Mesh, Settings, job
from agent99.systems.shop import FulfillmentAgent, NotificationAgent, OrderHistoryAgent
from agent99.systems.shop._model import Channel, Notified, Notify
from agent99.systems.shop._provider import Provider, Receipt
from agent99.systems.shop._settings import settings_on
from agent99.work import Assignment, events_for, jobs_for

ACK_WAIT_S = 0.5
LINGER_S = 0.2


class Lingering:
    """A provider that takes a message, and takes its time to say so: then processes are killed."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def send(self, channel: Channel, customer_id: UUID, text: str, *, key: str) -> Receipt:
        """Send it."""
        receipt = await self._provider.send(channel, customer_id, text, key=key)
        await asyncio.sleep(LINGER_S)
        return receipt


class Hasty(NotificationAgent):
    """Tries again at once, and has ten messages in hand."""

    concurrency_max = 10

    async def start(self) -> None:
        """Have a provider that lingers."""
        await super().start()
        self._messages.provider = Lingering(self._messages.provider)

    @job(attempts_max=1_000, delay_s=0.05, delay_s_max=0.2)
    async def process_request(self, request: Notify) -> Notified:
        """Tell a customer."""
        return await super().process_request(request)


def _soon(make: Callable[..., Assignment]) -> Callable[..., Assignment]:
    """Return what makes assignments whose work comes again sooner."""

    def quick(*given: Any) -> Assignment:
        made = make(*given)
        consumer = msgspec.structs.replace(made.consumer, ack_wait_s=ACK_WAIT_S)
        return msgspec.structs.replace(made, consumer=consumer)

    return quick


async def main(url: str, mesh_name: str, database: str) -> None:
    """Host until the process is ended; print a line when the agents are there."""
    shop, folder = settings_on(database), Path(database.removeprefix("sqlite:///")).parent
    settings = Settings(project=folder, state_folder=folder, url=url, mesh=mesh_name)
    async with Mesh(settings=settings) as mesh:
        await mesh.host(FulfillmentAgent(shop), Hasty(shop), OrderHistoryAgent(shop))
        print("ready", flush=True)  # noqa: T201 - the test waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    setattr(agent99.work, "jobs_for", _soon(jobs_for))  # noqa: B010 - where durable work looks for it
    setattr(agent99.work, "events_for", _soon(events_for))  # noqa: B010 - likewise
    asyncio.run(main(*sys.argv[1:]))
