"""Work that goes on after the answer: in the request's trace, and without its deadline."""

from __future__ import annotations

import asyncio
import logging
import math

import pytest

from agent99 import Agent, Mesh, operation
from agent99.errors import DeadlineExceededError
from agent99.observe import RequestFinished, draw_trace
from tests._wait import eventually
from tests.agent._agents import Greeter


class Clerk(Agent):
    """Answers at once, and greets afterwards."""

    capabilities = ("clerk",)

    async def start(self) -> None:
        """Nobody has answered yet."""
        self.answered = asyncio.Event()
        self.outcomes: list[object] = []
        self.tasks: list[asyncio.Task[None]] = []

    @operation
    async def take(self, *, has_deadline: bool) -> str:
        """Leave the greeting for later."""
        where = None if has_deadline else self.context.without_deadline()
        self.tasks.append(asyncio.create_task(self._greet(), context=where))
        return self.context.event_id

    async def _greet(self) -> None:
        await self.answered.wait()
        self.log.info("greets now, with %s left", self.context.remaining_s())
        try:
            self.outcomes.append(await self.request("greeter", "greet", timeout_s=5.0))
        except DeadlineExceededError as error:
            self.outcomes.append(error)


async def test_it_outlives_the_deadline_and_belongs_to_the_trace(
    mesh: Mesh, client: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """What it asks hangs beneath the request that was answered, and so do its log lines."""
    clerk = Clerk()
    told: list[RequestFinished] = []
    for each in (mesh, client):
        each.hooks.listen(RequestFinished, told.append)
    await mesh.host(Greeter(), clerk)
    await client.wait_for("clerk")
    event_id = await client.request("clerk", "take", {"has_deadline": False}, timeout_s=0.05)
    await asyncio.wait_for(_passed(0.06), 5)
    with caplog.at_level(logging.INFO):
        clerk.answered.set()
        await eventually(lambda: clerk.outcomes)
    assert ["Hello, World!"] == clerk.outcomes
    _, root, greeting = draw_trace(told).splitlines()
    assert root.startswith("clerk.take  ok ")
    assert greeting.startswith("└─ greeter.greet  ok ")
    [record] = [r for r in caplog.records if "greets now" in r.getMessage()]
    assert f"with {math.inf} left" in record.getMessage()
    assert event_id == record.event_id  # type: ignore[attr-defined] - set by the log


async def test_a_mere_task_ends_with_the_request(mesh: Mesh, client: Mesh) -> None:
    """It inherits the deadline: nobody waits for it any longer."""
    clerk = Clerk()
    await mesh.host(Greeter(), clerk)
    await client.wait_for("clerk")
    await client.request("clerk", "take", {"has_deadline": True}, timeout_s=0.05)
    await asyncio.wait_for(_passed(0.06), 5)
    clerk.answered.set()
    await eventually(lambda: clerk.outcomes)
    assert [DeadlineExceededError] == [type(outcome) for outcome in clerk.outcomes]


async def _passed(seconds: float) -> None:
    """Return when so much time has passed: a deadline is a moment, not an event."""
    end_s = asyncio.get_running_loop().time() + seconds
    await eventually(lambda: asyncio.get_running_loop().time() > end_s)
