"""Requests end in exactly one of a typed result and a typed error, by the deadline."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from agent99 import Mesh, RemoteError, named
from agent99.errors import (
    Agent99Error,
    BadAnswerError,
    BadRequestError,
    ClosedError,
    DeadlineExceededError,
    HandlerError,
    InvalidNameError,
    NoAgentError,
    OverloadedError,
    PayloadTooLargeError,
    UnknownOperationError,
    UsageError,
)
from tests._wait import PATIENCE_S, eventually
from tests.agent._agents import Greeter, Item, Order, Receipt, Shop
from tests.agent.conftest import OpenMesh

ORDER = Order([Item("a", 2), Item("b", 3)])


@pytest.fixture(params=["remote", "local"])
async def caller(request: pytest.FixtureRequest, mesh: Mesh, client: Mesh) -> Mesh:
    """Give who asks: another process's mesh, or the one that hosts the agents."""
    await mesh.host(Greeter(), Shop())
    if request.param == "local":
        return mesh
    await client.wait_for("greeter")
    await client.wait_for("shop")
    return client


async def test_a_typed_request_gets_a_typed_answer(caller: Mesh) -> None:
    """A Struct goes out, a Struct comes back; the default operation is `process_request`."""
    receipt = await caller.request("shop", payload=ORDER, returns=Receipt)
    assert isinstance(receipt, Receipt)
    assert receipt.count == 5


async def test_parameters_are_the_payloads_fields(caller: Mesh) -> None:
    """Defaults hold, keyword-only ones too, and plain Python values come back without a type."""
    assert await caller.request("greeter", "greet") == "Hello, World!"
    assert await caller.request("GREETER", "Greet", {"name": "Ada"}, returns=str) == "Hello, Ada!"
    assert await caller.request("shop", "quote", {"quantity": 4, "discount": 0.5}) == 2.0


async def test_a_target_may_be_a_name_or_one_instance(caller: Mesh) -> None:
    """`named` means an agent's name, a peer that very instance."""
    assert await caller.request(named("Greeter"), "greet") == "Hello, World!"
    [peer] = await caller.discover("hello_world")
    assert await peer.request("greet", {"name": "you"}, returns=str) == "Hello, you!"
    assert peer.capabilities == ("greeter", "hello_world")


async def test_a_failure_arrives_with_its_code_and_details(caller: Mesh) -> None:
    """What an operation raises as `Failure` the caller sees as `RemoteError`."""
    with pytest.raises(RemoteError) as caught:
        await caller.request("shop", "refuse", {"reason": "closed"})
    error = caught.value
    assert (error.code, error.details, error.retryable) == ("SHOP_CLOSED", {"until": 9}, True)
    assert str(error) == "closed"


@pytest.mark.parametrize(
    ("operation", "payload", "path"),
    [
        ("greet", {"name": 3}, "$.name"),
        ("quote", {}, "$"),
        ("quote", {"quantity": "x"}, "$.quantity"),
        ("request", {"items": [{"sku": "a", "quantity": 0}]}, "$.items[0].quantity"),
    ],
)
async def test_a_payload_that_breaks_the_schema_names_the_path(
    caller: Mesh, operation: str, payload: Any, path: str
) -> None:
    """The error says where, and the handler never ran."""
    target = "greeter" if operation == "greet" else "shop"
    with pytest.raises(BadRequestError) as caught:
        await caller.request(target, operation, payload)
    assert caught.value.path == path


async def test_an_answer_of_another_type_is_the_callers_error(caller: Mesh) -> None:
    """The caller asked for something else than it got."""
    with pytest.raises(BadAnswerError):
        await caller.request("greeter", "greet", returns=int)


async def test_nobody_there_is_said_at_once_and_why(caller: Mesh) -> None:
    """No listener is an immediate error; a near miss is named."""
    with pytest.raises(NoAgentError) as caught:
        await caller.request("greter", "greet", timeout_s=30)
    assert caught.value.reason == "nobody"
    assert "did you mean 'greeter'" in str(caught.value)
    assert caught.value.retryable


async def test_an_unknown_operation_is_said_with_those_that_there_are(caller: Mesh) -> None:
    """By capability the table explains it; by instance the agent itself does."""
    with pytest.raises(NoAgentError) as caught:
        await caller.request("greeter", "grete", timeout_s=30)
    assert caught.value.reason == "unknown_operation"
    assert "greet" in str(caught.value)
    [peer] = await caller.discover("greeter")
    with pytest.raises(UnknownOperationError):
        await peer.request("grete")
    with pytest.raises(UnknownOperationError):
        await caller.request("greeter")


async def test_everyone_paused_is_said(caller: Mesh, mesh: Mesh) -> None:
    """Paused agents leave the queue groups; a caller learns that they are only paused."""
    outcome = await mesh.control(named("greeter"), "pause")
    assert outcome.results == [{"state": "paused", "changed": True}]
    await caller.registry.wait_until(
        lambda table: "paused" in [d.state for d in table.everybody()], timeout_s=5
    )
    with pytest.raises(NoAgentError) as caught:
        await caller.request("greeter", "greet", timeout_s=30)
    assert caught.value.reason == "paused"
    await mesh.control(named("greeter"), "resume")
    assert await caller.request("greeter", "greet") == "Hello, World!"


async def test_no_request_outlives_its_deadline(caller: Mesh) -> None:
    """An operation that does not return costs its caller the time that was given, no more."""
    began_s = time.monotonic()
    with pytest.raises(DeadlineExceededError):
        await caller.request("shop", "wait", timeout_s=0.2)
    assert 0.2 <= time.monotonic() - began_s < 0.2 + 0.4  # 100 ms are promised; a busy machine adds


async def test_a_caller_that_gives_up_ends_the_operation(caller: Mesh, mesh: Mesh) -> None:
    """Cancelling the request cancels its handler, wherever it runs."""
    shop = mesh.hosted[1]
    assert isinstance(shop, Shop)
    task = asyncio.ensure_future(caller.request("shop", "wait", timeout_s=30))
    await eventually(lambda: _running(shop) == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: _running(shop) == 0)
    assert len(shop.cancelled) == 1


def _running(shop: Shop) -> int:
    running = shop._running
    assert running is not None
    return running.dispatcher.statistics().in_flight


async def test_a_nested_request_gets_the_time_that_is_left(caller: Mesh) -> None:
    """Deadlines shrink down the call tree, whatever a nested call asks for."""
    assert await caller.request("shop", "relay", {"timeout_s": 60}, timeout_s=2) <= 2


async def test_headers_of_the_user_travel(caller: Mesh) -> None:
    """They are read from the context, and so is who asks."""
    answer = await caller.request("shop", "whoami", headers={"user_agent": "tests"})
    assert answer["agent"] == "tests"
    assert answer["sender"]


async def test_plain_functions_run_on_threads_with_blocking_verbs(caller: Mesh) -> None:
    """A `def` operation may ask others, and knows its own request."""
    answer = await caller.request("shop", "block", {"text": "thread"})
    assert answer["greeting"] == "Hello, thread!"
    assert answer["event_id"]


@pytest.mark.parametrize(
    ("target", "operation"),
    [(bad, "greet") for bad in ("", "*", ">", "a.b", "a b", "a\r\n", "é", "a" * 4096)]
    + [("greeter", bad) for bad in ("", "*", ">", "a.b", "a b", "a\r\n", "é", "a" * 4096)],
)
async def test_names_that_could_break_a_subject_never_leave(
    caller: Mesh, target: str, operation: str
) -> None:
    """Hostile names are the caller's mistake, before anything is sent."""
    with pytest.raises(InvalidNameError):
        await caller.request(target, operation)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"payload": "text"}, UsageError),
        ({"payload": [1]}, UsageError),
        ({"payload": {"header": 1}}, UsageError),
        ({"payload": {"a": object()}}, UsageError),
        ({"payload": {"a": "x" * 1_100_000}}, PayloadTooLargeError),
        ({"headers": {"type": "x"}}, UsageError),
        ({"headers": {"a": "x" * 9000}}, PayloadTooLargeError),
        ({"timeout_s": 0}, UsageError),
        ({"timeout_s": -1}, UsageError),
        ({"timeout_s": float("nan")}, UsageError),
        ({"timeout_s": float("inf")}, UsageError),
        ({"idempotency_key": ""}, UsageError),
        ({"idempotency_key": "k" * 300}, UsageError),
        ({"returns": object}, UsageError),
    ],
)
async def test_a_wrong_call_is_refused_before_it_is_sent(
    caller: Mesh, arguments: dict[str, Any], error: type[Agent99Error]
) -> None:
    """Each mistake has its own typed error, and nothing reaches the agent."""
    with pytest.raises(error):
        await caller.request("greeter", "greet", **arguments)
    with pytest.raises(UsageError):
        await caller.request(3, "greet")  # type: ignore[call-overload] - the mistake under test


async def test_results_are_copies_also_within_a_process(mesh: Mesh) -> None:
    """What a caller does to a result never reaches the agent, and the reverse."""
    shop = Shop()
    await mesh.host(shop)
    first = await mesh.request("shop", "whoami")
    first["id"] = "changed"
    assert (await mesh.request("shop", "whoami"))["id"] == shop.instance


async def test_an_instance_at_its_bounds_answers_at_once(mesh: Mesh, client: Mesh) -> None:
    """Beyond what runs and what waits the answer is `OVERLOADED`, remote and local."""

    class Narrow(Shop):
        capabilities = ("narrow",)
        concurrency_max = 1
        waiting_max = 1

    narrow = Narrow()
    await mesh.host(narrow)
    await client.wait_for("narrow")
    busy = [asyncio.ensure_future(client.request("narrow", "wait")) for _ in range(2)]
    await eventually(lambda: _waiting(narrow) == 1)
    for caller in (client, mesh):
        with pytest.raises(OverloadedError) as caught:
            await caller.request("narrow", "wait", timeout_s=30)
        assert caught.value.retryable
    narrow.gate.set()
    assert await asyncio.gather(*busy) == ["open", "open"]


def _waiting(shop: Shop) -> int:
    running = shop._running
    assert running is not None
    return running.dispatcher.statistics().waiting


async def test_two_instances_share_the_requests(mesh: Mesh, open_mesh: OpenMesh) -> None:
    """Requests by capability go to any one instance; all of them get some."""
    second, caller = await open_mesh(), await open_mesh()
    shops = [Shop(), Shop()]
    await mesh.host(shops[0])
    await second.host(shops[1])
    await caller.registry.wait_until(
        lambda table: len(table.discover("shop")) == 2, timeout_s=PATIENCE_S
    )
    answers = await asyncio.gather(*(caller.request("shop", "whoami") for _ in range(60)))
    seen = {answer["id"] for answer in answers}
    assert seen == {shop.instance for shop in shops}


async def test_after_it_is_closed_a_mesh_says_so(open_mesh: OpenMesh) -> None:
    """A verb on a closed mesh is a typed error, and closing twice is none."""
    closed = await open_mesh()
    await closed.aclose()
    await closed.aclose()
    for work in (
        closed.request("greeter", "greet"),
        closed.publish("order.placed", {}),
        closed.discover("greeter"),
        closed.survey("greeter"),
        closed.control(None, "status"),
    ):
        with pytest.raises(ClosedError):
            await work


@pytest.mark.slow
async def test_work_in_another_process(mesh: Mesh, client: Mesh) -> None:
    """CPU-bound work runs elsewhere; a process that dies is an error to its caller alone."""
    await mesh.host(Shop())
    await client.wait_for("shop")
    pid, total = await client.request("shop", "crunch", {"n": 10}, timeout_s=30)
    assert total == 45
    with pytest.raises(HandlerError, match="died before it finished"):
        await client.request("shop", "die", timeout_s=30)
    other_pid, _ = await client.request("shop", "crunch", {"n": 10}, timeout_s=30)
    assert other_pid != pid
