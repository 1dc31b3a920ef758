"""What a caller is told of a request that failed, from elsewhere and from the same process."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent99 import Agent, Failure, Mesh, operation, pick
from agent99.errors import (
    BadAnswerError,
    BadRequestError,
    DeadlineExceededError,
    HandlerError,
    NoAgentError,
    RemoteError,
    RequestCancelledError,
    RequestError,
    UsageError,
)
from tests._wait import PATIENCE_S, eventually
from tests.agent.conftest import OpenMesh

LENGTH = 95
"""Of a chain of requests; each holds a place, and an instance has a hundred."""


class TextlessError(Exception):
    """It has no text."""

    def __str__(self) -> str:
        """Raise."""
        return self.args[5]


class Troubled(Agent):
    """Fails in every way."""

    capabilities = ("troubled",)
    concurrency_max = 100
    waiting_max = 0

    async def start(self) -> None:
        """Remember which requests came."""
        self.events: list[str] = []

    @operation
    async def fail(self, how: str) -> int:
        """Fail."""
        self.events.append(self.context.event_id)
        match how:
            case "textless":
                raise TextlessError
            case "large":
                raise ValueError("x" * 2_000_000)
            case "large details":
                raise Failure("no", code="NO", details={"a": "x" * 2_000_000})
            case "wait":
                await asyncio.Event().wait()
        return 1

    @operation
    async def count(self, n: int) -> int:
        """Ask oneself, n times over."""
        return 1 + await self.request("troubled", "count", {"n": n - 1}, returns=int) if n else 0


@pytest.fixture(params=["remote", "local"])
async def asked(
    request: pytest.FixtureRequest, mesh: Mesh, client: Mesh
) -> AsyncIterator[tuple[Mesh, Troubled]]:
    """Give who asks, elsewhere or in the same process, and the agent, which has its places back."""
    agent = Troubled()
    await mesh.host(agent)
    await client.wait_for("troubled")
    yield (mesh if request.param == "local" else client), agent
    running = agent._running
    assert running is not None
    await eventually(lambda: running.dispatcher.statistics().in_flight == 0)


Asked = tuple[Mesh, Troubled]


@pytest.mark.parametrize(
    ("how", "kind", "message", "details"),
    [
        (
            "textless",
            HandlerError,
            "the operation raised TextlessError: a TextlessError that has no text",
            {"exception": "TextlessError"},
        ),
        (
            "large",
            HandlerError,
            f"the operation raised ValueError: {'x' * 4063}… (2,000,033 characters)",
            {"exception": "ValueError"},
        ),
        (
            "large details",
            RemoteError,
            "no",
            {"unreadable": "the details of NO were over the limit of 1,032,192 bytes"},
        ),
    ],
    ids=["textless", "large", "large details"],
)
async def test_an_error_that_cannot_travel_as_it_is_arrives_in_part(
    asked: Asked, how: str, kind: type[RequestError], message: str, details: dict[str, Any]
) -> None:
    """At once, from elsewhere as from the same process."""
    caller, _ = asked
    logging.getLogger("agent99.dispatch").addFilter(_nothing)  # a traceback of megabytes
    try:
        with pytest.raises(kind) as caught:
            await caller.request("troubled", "fail", {"how": how})
    finally:
        logging.getLogger("agent99.dispatch").removeFilter(_nothing)
    assert (caught.value.message, caught.value.details) == (message, details)


def _nothing(_record: logging.LogRecord) -> bool:
    return False


async def test_an_agent_may_ask_itself_as_often_as_it_has_places(asked: Asked) -> None:
    """A chain of requests ends with its result, however long it is."""
    caller, _ = asked
    assert await caller.request("troubled", "count", {"n": LENGTH}, returns=int) == LENGTH


async def test_a_failed_request_names_itself_as_the_agent_does(asked: Asked) -> None:
    """Its event id is the agent's, in `event_id`, in its repr and beneath its traceback."""
    caller, agent = asked
    for how, returns, timeout_s, kind in (
        ("large details", Any, 5, RemoteError),
        ("none", str, 5, BadAnswerError),
        ("wait", Any, 0.1, DeadlineExceededError),
    ):
        with pytest.raises(kind) as caught:
            await caller.request(
                "troubled", "fail", {"how": how}, returns=returns, timeout_s=timeout_s
            )
        error = caught.value
        assert error.event_id == agent.events[-1]
        assert repr(error).endswith(f", event_id={error.event_id!r})")
        assert f"\nevent {error.event_id}" in "".join(traceback.format_exception(error))
        assert error.event_id not in str(error)


async def test_a_request_that_ran_out_of_time_says_that_it_may_have_run(asked: Asked) -> None:
    """Whoever reads the message alone knows that to ask again may be to do it twice."""
    caller, _ = asked
    with pytest.raises(DeadlineExceededError, match="whether it ran, in part or whole, is unknown"):
        await caller.request("troubled", "fail", {"how": "wait"}, timeout_s=0.1)


async def test_what_was_refused_before_it_was_a_request_has_no_event(mesh: Mesh) -> None:
    """The event id is empty where nothing was made that it could name."""
    with pytest.raises(NoAgentError) as caught:
        await mesh.request(pick("nobody_here"), "work")
    assert (caught.value.event_id, "event_id" in repr(caught.value)) == ("", False)


async def test_a_refused_payload_names_its_request(asked: Asked) -> None:
    """A request that reached the agent, and not its code, has a name too."""
    caller, _ = asked
    with pytest.raises(BadRequestError) as caught:
        await caller.request("troubled", "fail", {"how": 3})
    assert len(caught.value.event_id) == 36


@pytest.mark.parametrize(
    "timeout_s", ["5", None, 0, -1, 10**400, -(10**400), float("nan"), float("inf"), 2e9, [], 1j]
)
async def test_a_time_that_is_none_is_refused(mesh: Mesh, timeout_s: Any) -> None:
    """Before anything is sent, and with a sentence."""
    with pytest.raises(UsageError, match="timeout_s is a number of seconds above 0"):
        await mesh.request("troubled", "fail", timeout_s=timeout_s)


async def test_an_instance_that_did_not_answer_is_avoided(mesh: Mesh, client: Mesh) -> None:
    """The next pick goes to another one, for a while; to ask for it by name still works."""
    agents = [Troubled(), Troubled()]
    await mesh.host(*agents)
    await client.registry.wait_until(
        lambda t: len(t.discover("troubled")) == 2, timeout_s=PATIENCE_S
    )
    first, _ = await client.discover("troubled")
    with pytest.raises(DeadlineExceededError):
        await client.request(first, "fail", {"how": "wait"}, timeout_s=0.1)
    for _ in range(10):
        await client.request(pick("troubled"), "fail", {"how": "none"})
    heard = {agent.instance: len(agent.events) for agent in agents}
    assert (heard.pop(first.instance), list(heard.values())) == (1, [10])
    assert await client.request(first, "fail", {"how": "none"}) == 1


async def test_a_mesh_that_an_operation_abandons_ends_it(open_mesh: OpenMesh) -> None:
    """Even in the first step of that very operation: its caller is told at once."""
    mesh, client = await open_mesh(), await open_mesh()

    class Quitter(Agent):
        """Leaves."""

        capabilities = ("quitter",)

        @operation
        async def quit(self) -> None:
            """Leave, and do not return."""
            mesh.abandon()
            await asyncio.Event().wait()

    await mesh.host(Quitter())
    await client.wait_for("quitter")
    with pytest.raises(RequestCancelledError, match="the instance stopped"):
        await client.request("quitter", "quit", timeout_s=5)
