"""What a handler may not do to its neighbours; `tests/wire/test_lessons.py` has the list."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent99 import Agent, Mesh, named, on, operation
from agent99.envelope import Name
from agent99.errors import HandlerError
from tests._wait import eventually


class Clerk(Agent):
    """Does what it is told, and hears what is said."""

    capabilities = ("clerk",)

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.heard: list[str] = []

    @operation
    async def do(self, what: str) -> str:
        """Answer at once, wait for the gate, await a cancelled task, or ask another agent."""
        if what == "wait":
            await self.gate.wait()
        elif what == "await a cancelled task":
            await _cancelled()
        elif what == "ask after the gate":
            await self.gate.wait()
            return str(await self.request("adviser", "advise"))
        return what

    @operation
    async def tell_headers(self) -> dict[str, str]:
        """Return the headers of the request."""
        return dict(self.context.header)

    @on("said.>")
    async def hear(self, event: dict[str, Any]) -> None:
        """Remember, or await a cancelled task."""
        self.heard.append(event["what"])
        if event["what"] == "await a cancelled task":
            await _cancelled()


class Adviser(Agent):
    """Advises."""

    capabilities = ("adviser",)

    @operation
    async def advise(self) -> str:
        """Return advice."""
        return "advice"


def _cancelled() -> asyncio.Task[None]:
    """Return a task that was cancelled: awaiting it raises CancelledError."""
    task = asyncio.ensure_future(asyncio.sleep(0))
    task.cancel()
    return task


@pytest.fixture
async def clerk(mesh: Mesh, client: Mesh) -> Clerk:
    """Give a clerk that the client knows, and that knows an adviser elsewhere."""
    one = Clerk()
    await mesh.host(one)
    await client.host(Adviser())
    await client.wait_for("clerk")
    await mesh.wait_for("adviser")
    return one


async def test_a_handler_that_awaits_what_was_cancelled_ends_alone(
    client: Mesh, clerk: Clerk
) -> None:
    """Its caller is told, an event is counted; the operation and the listener go on."""
    for _ in range(3):
        with pytest.raises(HandlerError, match="cancelled from within"):
            await client.request("clerk", "do", {"what": "await a cancelled task"})
        await client.publish("said.so", {"what": "await a cancelled task"})
    assert await client.request("clerk", "do", {"what": "on"}, returns=str) == "on"
    await client.publish("said.so", {"what": "on"})
    await eventually(lambda: clerk.heard[-1:] == ["on"])
    assert len(clerk.heard) == 4
    status = (await client.control(named("clerk"), "status")).results[0]
    assert (status["operations"]["errors"], status["events"]["errors"]) == (3, 3)


async def test_a_handler_that_waits_holds_up_nobody(client: Mesh, clerk: Clerk) -> None:
    """Requests for the same operation are handled at once, up to the bound of the instance."""
    held = [
        asyncio.ensure_future(client.request("clerk", "do", {"what": "wait"}))
        for _ in range(Clerk.concurrency_max - 1)
    ]
    running = clerk._running
    assert running is not None
    await eventually(lambda: running.dispatcher.statistics().in_flight == len(held))
    assert await client.request("clerk", "do", {"what": "on"}, returns=str) == "on"
    assert not any(task.done() for task in held)
    clerk.gate.set()
    assert await asyncio.gather(*held) == ["wait"] * len(held)


async def test_an_answer_has_no_header_of_its_request(client: Mesh, clerk: Clerk) -> None:
    """What a caller sends comes back to nobody; not as a header of NATS either."""
    link = client._link
    assert link is not None
    secret = {"authorization": "secret", "status": "503"}
    told = await client.request("clerk", "tell_headers", headers=secret)
    assert {name: told[name] for name in secret} == secret
    answers: list[bytes] = []
    inbox = link.wire.open_inbox(lambda m: answers.append(m.headers + m.payload))
    subject = link.subjects.capability(Name("clerk"), Name("do"))
    request = (
        b'{"header":{"type":"request","from_uuid":"x","to_uuid":"clerk","event_uuid":"e",'
        b'"timestamp":1,"authorization":"secret"},"what":"on"}'
    )
    block = b"NATS/1.0\r\nStatus: 503\r\nAuthorization: secret\r\n\r\n"
    link.wire.publish(subject, request, reply=inbox, headers=block)
    await eventually(lambda: answers)
    assert b"secret" not in answers[0]
    assert answers[0].startswith(b'{"header":{')
    assert clerk.heard == []


async def test_a_handler_may_ask_others_while_its_agent_drains(
    mesh: Mesh, client: Mesh, clerk: Clerk
) -> None:
    """What it asks is answered, and so is its own caller; then the agent has stopped."""
    held = asyncio.ensure_future(client.request("clerk", "do", {"what": "ask after the gate"}))
    running = clerk._running
    assert running is not None
    await eventually(lambda: running.dispatcher.statistics().in_flight == 1)
    stopping = asyncio.ensure_future(mesh.stop(clerk))
    await eventually(lambda: running.dispatcher.refusal == "draining")
    clerk.gate.set()
    assert await held == "advice"
    await stopping
    assert mesh.hosted == []
