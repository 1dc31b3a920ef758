"""Discovery, surveys, events and control: one to many."""

from __future__ import annotations

import asyncio
import logging

import pytest

from agent99 import Agent, Mesh, named
from agent99.errors import (
    BadAnswerError,
    BadRequestError,
    ClosedError,
    InvalidNameError,
    PayloadTooLargeError,
    UnknownOperationError,
    UsageError,
)
from tests._wait import PATIENCE_S, eventually
from tests.agent._agents import Greeter, Shop, Watcher
from tests.agent.conftest import OpenMesh


async def everyone(mesh: Mesh, capability: str, count: int) -> None:
    """Wait until so many offer it."""
    await mesh.registry.wait_until(
        lambda table: len(table.discover(capability)) == count, timeout_s=5
    )


async def test_discover_wants_all_of_the_capabilities(mesh: Mesh, client: Mesh) -> None:
    """Without regard to case; nobody is an empty list, never an error."""
    await mesh.host(Greeter(), Shop())
    await client.wait_for("shop")
    await client.wait_for("greeter")
    assert [peer.name for peer in await client.discover("GREETER", "hello_world")] == ["greeter"]
    assert await client.discover("greeter", "shop") == []
    assert await client.discover("nothing") == []
    assert await client.discover("a.b", ">") == []
    [peer] = await client.discover("greeter")
    assert peer in set(await client.discover("hello_world"))
    assert "greeter" in repr(peer)


async def test_what_is_discovered_is_the_callers_own(mesh: Mesh, client: Mesh) -> None:
    """The list may be changed; the next one is right all the same, and follows every change."""
    greeter = Greeter()
    await mesh.host(greeter)
    await client.wait_for("greeter")
    found = await client.discover("greeter")
    found.clear()
    assert [peer.instance for peer in await client.discover("greeter")] == [greeter.instance]
    await mesh.stop(greeter)
    await client.registry.wait_until(
        lambda table: not table.discover("greeter"), timeout_s=PATIENCE_S
    )
    assert await client.discover("greeter") == []


async def test_a_clean_stop_withdraws_at_once(mesh: Mesh, client: Mesh) -> None:
    """What has stopped is found by nobody, and its mesh knows that it is empty."""
    greeter = Greeter()
    await mesh.host(greeter)
    await client.wait_for("greeter")
    await mesh.stop(greeter)
    await everyone(client, "greeter", 0)
    await mesh.wait_empty()
    assert mesh.hosted == []


async def test_a_survey_asks_every_instance(mesh: Mesh, open_mesh: OpenMesh) -> None:
    """All that are known are asked once, and the result counts them."""
    other, client = await open_mesh(), await open_mesh()
    await mesh.host(Shop(), Shop())
    await other.host(Shop())
    await everyone(client, "shop", 3)
    survey = await client.survey("shop", "whoami")
    assert len({answer["id"] for answer in survey.results}) == 3
    assert survey.silent == ()
    assert str(survey) == "3 of 3 answered"


async def test_a_survey_names_who_said_no_and_who_was_silent(mesh: Mesh, client: Mesh) -> None:
    """Refusals are answers; those who do not answer by the deadline are named."""
    quick, slow = Shop(), Shop()
    await mesh.host(quick, slow)
    await everyone(client, "shop", 2)
    quick.gate.set()
    survey = await client.survey("shop", "wait", timeout_s=0.3)
    assert survey.results == ["open"]
    assert survey.silent == (slow.instance,)
    refused = await client.survey("shop", "refuse", {"reason": "no"})
    assert [answer.error.code for answer in refused.answers if answer.error] == ["SHOP_CLOSED"] * 2


async def test_a_survey_may_want_only_so_many(mesh: Mesh, client: Mesh) -> None:
    """It ends with the answers that were wanted, without waiting for the rest."""
    quick, slow = Shop(), Shop()
    await mesh.host(quick, slow)
    await everyone(client, "shop", 2)
    quick.gate.set()
    survey = await client.survey("shop", "wait", timeout_s=30, wanted=1)
    assert survey.results == ["open"]
    await eventually(lambda: len(slow.cancelled) == 1)
    assert (await client.survey("nobody", "x")).answers == ()
    for bad in ({"wanted": 0}, {"timeout_s": 0}, {"payload": [1]}, {"operation": "a b"}):
        with pytest.raises(UsageError):
            await client.survey("shop", **{"operation": "wait", **bad})


async def test_a_survey_that_is_too_large_is_said(mesh: Mesh, client: Mesh) -> None:
    """It is the caller's mistake, not everybody's silence; also where there is nobody to ask."""
    payload = {"text": "x" * 2_000_000}
    for caller in (mesh, client):
        with pytest.raises(PayloadTooLargeError):
            await caller.survey("shop", "wait", payload)
    await mesh.host(Shop())
    await client.wait_for("shop")
    for caller in (mesh, client):
        with pytest.raises(PayloadTooLargeError):
            await caller.survey("shop", "wait", payload)


@pytest.mark.parametrize("how", ["survey", "control"])
async def test_what_is_gathered_ends_when_its_mesh_closes(
    mesh: Mesh, client: Mesh, how: str
) -> None:
    """Whoever waits for many answers learns at once that there will be none."""
    shop = Shop()
    await mesh.host(shop)
    [peer] = await client.wait_for("shop")
    running = shop._running
    assert running is not None
    if how == "survey":
        asked, taken = client.survey("shop", "wait", timeout_s=30), running.dispatcher
    else:
        asked, taken = client.control(peer, "nap", timeout_s=30), running.control
    gathering = asyncio.ensure_future(asked)
    await eventually(lambda: taken.statistics().in_flight == 1)
    await client.aclose()
    with pytest.raises(ClosedError):
        await asyncio.wait_for(gathering, 5)
    shop.gate.set()


@pytest.mark.parametrize(
    "said",
    [
        b'"outcome":"value"}}',
        b'"outcome":"value"},"result":1e999}',
        b'"outcome":"ok"},"x":"\\ud800"}',
        b'"outcome":"ok"},"x":{"a":[1,2}}',
    ],
)
async def test_a_control_answer_that_cannot_be_read_is_no_result(
    mesh: Mesh, client: Mesh, said: bytes
) -> None:
    """Whoever sent it is told apart from those who did it."""
    await mesh.host(Greeter())
    await client.wait_for("greeter")
    wire = mesh._open().wire
    known = b'"type":"response","from_uuid":"odd","to_uuid":"you","event_uuid":"e","timestamp":1'
    subject = f"a99.{mesh.name}.ctl.>".encode()
    wire.subscribe(
        subject, lambda asked: wire.publish(asked.reply, b'{"header":{%b,%b' % (known, said))
    )
    await wire.flush()
    answers = (await client.control(None, "status", timeout_s=0.3)).answers
    [odd] = [answer for answer in answers if answer.instance == "odd"]
    assert not odd.ok
    assert isinstance(odd.error, BadAnswerError)


async def test_an_event_reaches_every_listener_once(mesh: Mesh, open_mesh: OpenMesh) -> None:
    """Every instance that listens for the topic hears it; others do not; order is kept."""
    other, client = await open_mesh(), await open_mesh()
    shops = [Shop(), Shop()]
    await mesh.host(shops[0])
    await other.host(shops[1])
    await everyone(client, "shop", 2)
    for number in range(20):
        await client.publish("order.placed", {"n": number})
    await client.publish("order.placed.eu", {"n": -1})
    await client.publish("stock.low", {"n": -2})
    await eventually(lambda: all(len(shop.heard) == 20 for shop in shops))
    for status in (await client.control(named("shop"), "status")).results:
        assert status["events"]["requests"] == 20
        assert status["connection"]["messages_in"] >= 20
    expected = [("order.placed", {"n": number}) for number in range(20)]
    assert [shop.heard for shop in shops] == [expected, expected]
    for topic in ("", "order.*", ">", "a b", "a\r\n", "é"):
        with pytest.raises(InvalidNameError):
            await client.publish(topic, {})
    with pytest.raises(UsageError):
        await client.publish("order.placed", "no object")


async def test_control_reaches_an_instance_a_name_or_all(mesh: Mesh, client: Mesh) -> None:
    """The answers are per instance, and say which."""
    greeter, shops = Greeter(), [Shop(), Shop()]
    await mesh.host(greeter, *shops)
    await everyone(client, "shop", 2)
    await client.wait_for("greeter")
    every = await client.control(None, "status")
    assert {a.instance for a in every.answers} == {greeter.instance, *(s.instance for s in shops)}
    by_name = await client.control(named("shop"), "status")
    assert {a.instance for a in by_name.answers} == {s.instance for s in shops}
    [peer] = await client.discover("greeter")
    [one] = (await client.control(peer, "status")).answers
    assert (one.instance, one.name) == (greeter.instance, "greeter")
    assert one.result["state"] == "ready"
    assert one.result["operations"]["in_flight"] == 0
    assert one.result["uptime_s"] >= 0
    with pytest.raises(UsageError, match="a control action goes to"):
        await client.control("shop", "status")


async def test_pausing_is_idempotent_and_shown(mesh: Mesh, client: Mesh) -> None:
    """It leaves the queue groups, goes on with what runs, and comes back."""
    paused, ready = Shop(), Shop()
    await mesh.host(paused, ready)
    await everyone(client, "shop", 2)
    peer = next(p for p in await client.discover("shop") if p.instance == paused.instance)
    assert (await client.control(peer, "pause")).results[0]["changed"] is True
    assert (await client.control(peer, "pause")).results[0]["changed"] is False
    answers = [await client.request("shop", "whoami") for _ in range(20)]
    assert {answer["id"] for answer in answers} == {ready.instance}
    await everyone(client, "shop", 1)
    survey = await client.control(peer, "status")
    assert survey.results[0]["state"] == "paused"
    assert (await client.control(named("shop"), "resume")).asked == 2
    await everyone(client, "shop", 2)


async def test_update_config_checks_the_whole_before_applying_any(mesh: Mesh, client: Mesh) -> None:
    """A bad value, or an unknown key, changes nothing and names the path."""
    shop = Shop()
    await mesh.host(shop)
    [peer] = await client.wait_for("shop")
    applied = await client.control(peer, "update_config", {"discount": 0.25})
    assert applied.results == [{"config": {"discount": 0.25, "banner": "welcome"}}]
    assert await client.request("shop", "quote", {"quantity": 4}) == 3.0
    for bad, path in (
        ({"banner": "new", "discount": 7}, "$.discount"),
        ({"banner": "new", "discuont": 0}, "$.discuont"),
        ({"banner": 3}, "$.banner"),
    ):
        [answer] = (await client.control(peer, "update_config", bad)).answers
        assert isinstance(answer.error, BadRequestError)
        assert answer.error.path == path
    assert (shop.config.discount, shop.config.banner) == (0.25, "welcome")


async def test_an_agents_own_actions_work_while_it_is_paused(mesh: Mesh, client: Mesh) -> None:
    """Control does not pass through what it controls; an unknown action is said."""
    shop = Shop()
    await mesh.host(shop)
    [peer] = await client.wait_for("shop")
    await client.control(peer, "pause")
    assert (await client.control(peer, "open_gate")).results == ["opened"]
    assert shop.gate.is_set()
    [answer] = (await client.control(peer, "explode")).answers
    assert isinstance(answer.error, UnknownOperationError)
    assert "shutdown" in answer.error.details["operations"]


async def test_shutdown_answers_then_stops(mesh: Mesh, client: Mesh) -> None:
    """Whoever asked gets an answer; then the agent drains and withdraws."""
    await mesh.host(Shop(), Shop())
    await everyone(client, "shop", 2)
    survey = await client.control(named("shop"), "shutdown")
    assert str(survey) == "2 of 2 answered"
    await mesh.wait_empty()
    await everyone(client, "shop", 0)


async def test_those_who_do_not_answer_control_are_named(mesh: Mesh, client: Mesh) -> None:
    """An action that takes longer than the caller waits leaves its instance among the silent."""
    shop = Shop()
    await mesh.host(shop)
    [peer] = await client.wait_for("shop")
    survey = await client.control(peer, "nap", timeout_s=0.2)
    assert survey.silent == (shop.instance,)


async def test_an_agent_is_degraded_while_what_it_uses_is_missing(mesh: Mesh, client: Mesh) -> None:
    """It runs all the same, says what it misses, and is well when that comes."""
    watcher, greeter = Watcher(), Greeter()
    await mesh.host(watcher)
    await _state_of(client, "watcher", "degraded")
    [status] = (await client.control(named("watcher"), "status")).results
    assert (status["state"], status["missing"]) == ("degraded", ["greeter"])
    await mesh.host(greeter)
    await _state_of(client, "watcher", "ready")
    await mesh.stop(greeter)
    await _state_of(client, "watcher", "degraded")


async def test_what_comes_while_an_agent_starts_is_seen(mesh: Mesh, client: Mesh) -> None:
    """Hosted at the same time as what it uses, elsewhere, it does not stay degraded."""
    for _ in range(5):
        watcher, greeter = Watcher(), Greeter()
        await asyncio.gather(mesh.host(watcher), client.host(greeter))
        await _state_of(client, "watcher", "ready")
        await asyncio.gather(mesh.stop(watcher), client.stop(greeter))
        await everyone(mesh, "greeter", 0)


async def _state_of(mesh: Mesh, name: str, state: str) -> None:
    await mesh.registry.wait_until(
        lambda table: [d.state for d in table.everybody() if d.name == name] == [state],
        timeout_s=5,
    )


async def test_a_rolling_restart_fails_no_request(mesh: Mesh, open_mesh: OpenMesh) -> None:
    """Two instances replaced one after the other, under load: every request is answered."""
    client = await open_mesh()
    shops = [Shop(), Shop()]
    await mesh.host(*shops)
    await everyone(client, "shop", 2)
    done, answered = asyncio.Event(), 0

    async def load() -> None:
        nonlocal answered
        while not done.is_set():
            await client.request("shop", "whoami")
            answered += 1

    workers = [asyncio.ensure_future(load()) for _ in range(8)]
    for shop in shops:
        seen = answered
        await eventually(lambda seen=seen: answered > seen + 50)
        replacement = Shop()
        await mesh.host(replacement)
        await mesh.stop(shop)
    seen = answered
    await eventually(lambda: answered > seen + 50)
    done.set()
    await asyncio.gather(*workers)
    assert answered >= 150


async def test_stopping_lets_what_runs_finish(mesh: Mesh, client: Mesh) -> None:
    """A drain waits for operations in flight; their callers get their answers."""
    shop = Shop()
    await mesh.host(shop)
    await client.wait_for("shop")
    running = asyncio.ensure_future(client.request("shop", "wait", timeout_s=10))
    await eventually(lambda: shop._running and shop._running.dispatcher.statistics().in_flight == 1)
    stopping = asyncio.ensure_future(mesh.stop(shop))
    await everyone(client, "shop", 0)
    shop.gate.set()
    assert await running == "open"
    await stopping


async def test_an_agents_log_says_who_and_about_what(
    mesh: Mesh, caplog: pytest.LogCaptureFixture
) -> None:
    """Every line carries agent, instance and, within a request, its id and that of its trace."""

    class Talker(Greeter):
        name = "talker"
        capabilities = ("talker",)

        async def process_request(self) -> str:
            self.log.info("asked")
            return self.context.event_id

    class Asker(Agent):
        capabilities = ("asker",)

        async def process_request(self) -> tuple[str, str]:
            return self.context.event_id, await self.request("talker", returns=str)

    talker = Talker()
    await mesh.host(talker, Asker())
    with caplog.at_level(logging.INFO):
        first_id, event_id = await mesh.request("asker", returns=tuple[str, str])
        talker.log.info("asked by nobody")
    [record, outside] = [r for r in caplog.records if "asked" in r.getMessage()]
    assert (outside.event_id, outside.trace_id) == ("", "")  # type: ignore[attr-defined] - set by the log
    assert (record.agent, record.instance) == ("talker", talker.instance)  # type: ignore[attr-defined] - set by the log
    assert record.event_id == event_id  # type: ignore[attr-defined] - set by the log
    assert record.trace_id == first_id.replace("-", "")  # type: ignore[attr-defined] - set by the log
    assert event_id in record.getMessage()
