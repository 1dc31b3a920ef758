"""What is broken off midway is seen through, and what stops leaves nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent99 import Agent, Mesh, Settings, named, on, operation
from agent99.agent._running import Running
from agent99.dispatch import find_context
from agent99.errors import ClosedError, PayloadTooLargeError
from agent99.testing import MemoryEngine
from tests._wait import PATIENCE_S, eventually
from tests.agent._agents import Greeter, Shop, Watcher
from tests.agent.conftest import OpenMesh


class Moody(Agent):
    """An agent whose hooks a test decides."""

    capabilities = ("moody",)

    def __init__(self) -> None:
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.on_start: Any = None
        self.on_stop: Any = None
        self.heard: list[bool] = []
        self.started = self.stopping = False

    async def start(self) -> None:
        """Wait until it may, then do what the test says."""
        await self.may_start.wait()
        if self.on_start is not None:
            await self.on_start()
        self.started = True

    async def stop(self) -> None:
        """Do what the test says."""
        self.stopping = True
        if self.on_stop is not None:
            await self.on_stop()

    @operation
    async def answer(self) -> int:
        """Answer."""
        return 42

    @on("moody.>")
    async def hear(self, _event: dict[str, Any]) -> None:
        """Note whether the clean-up has begun."""
        self.heard.append(self.stopping)


def running_of(agent: Agent) -> Running:
    """Return what runs an agent."""
    running = agent._running
    assert running is not None
    return running


async def gone(mesh: Mesh, name: str) -> None:
    """Wait until nobody of that name is in the table, in any state."""
    await mesh.registry.wait_until(
        lambda table: all(d.name != name for d in table.everybody()), timeout_s=5
    )


async def test_a_pause_whose_asker_gave_up_is_seen_through(mesh: Mesh, client: Mesh) -> None:
    """Whoever asked does not wait: the instance is paused all the same, and it shows."""
    greeter = Greeter()
    await mesh.host(greeter)
    assert "agents=1" in repr(mesh)
    await client.wait_for("greeter")
    asked = asyncio.ensure_future(running_of(greeter).pause())
    await asyncio.sleep(0)
    asked.cancel()
    await client.registry.wait_until(
        lambda table: [d.state for d in table.everybody()] == ["paused"], timeout_s=5
    )
    assert running_of(greeter).dispatcher.refusal == "paused"
    assert (await client.control(named("greeter"), "pause")).results[0]["changed"] is False
    await client.control(named("greeter"), "resume", timeout_s=0.001)
    await client.registry.wait_until(
        lambda t: len(t.discover("greeter")) == 1, timeout_s=PATIENCE_S
    )
    assert await client.request("greeter", "greet") == "Hello, World!"


@pytest.mark.parametrize("delay", range(8))
async def test_hosting_that_is_broken_off_leaves_no_ghost(
    mesh: Mesh, client: Mesh, delay: int
) -> None:
    """Wherever it is cancelled, what it prepared is cleaned up and nobody finds it afterwards."""
    moody = Moody()
    task = asyncio.ensure_future(mesh.host(moody))
    for _ in range(delay):
        await asyncio.sleep(0)
    task.cancel()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    if outcome is None:  # it was there before it was cancelled
        await mesh.stop(mesh.hosted[0])
    await gone(client, "moody")
    assert moody.stopping == moody.started
    assert mesh.hosted == []
    await asyncio.wait_for(mesh.wait_empty(), 1)


async def test_a_shutdown_while_it_announces_itself_is_obeyed_after(
    mesh: Mesh, client: Mesh
) -> None:
    """The instance comes up, then stops; the mesh does not wait for it for ever."""
    moody = Moody()

    async def shut_down_soon() -> None:
        asyncio.get_running_loop().call_soon(running_of(moody).begin_stop)

    moody.on_start = shut_down_soon
    await mesh.host(moody)
    await running_of(moody).begin_stop()
    assert moody.stopping
    await asyncio.wait_for(mesh.wait_empty(), 5)
    assert mesh.hosted == []
    await gone(client, "moody")


@pytest.mark.parametrize("how", ["stop", "aclose"])
async def test_a_start_that_hangs_is_broken_off_when_it_is_to_stop(mesh: Mesh, how: str) -> None:
    """Whoever hosts learns it by a typed error; those after it are not begun."""
    moody, next_one = Moody(), Greeter()
    moody.may_start.clear()
    hosting = asyncio.ensure_future(mesh.host(moody, next_one))
    await eventually(lambda: moody._running is not None)
    await asyncio.wait_for(mesh.stop(moody) if how == "stop" else mesh.aclose(), 5)
    with pytest.raises(ClosedError, match="agent 'moody' is closed"):
        await asyncio.wait_for(hosting, 5)
    assert mesh.hosted == []
    assert next_one._running is None
    assert not moody.stopping


async def test_nobody_is_hosted_once_a_mesh_closes(mesh: Mesh) -> None:
    """An agent that another one's clean-up would host is refused: it would never be stopped."""
    moody, late = Moody(), Greeter()
    refused: list[ClosedError] = []

    async def host_another() -> None:
        with pytest.raises(ClosedError) as caught:
            await mesh.host(late)
        refused.append(caught.value)

    moody.on_stop = host_another
    await mesh.host(moody)
    await mesh.aclose()
    assert [error.what for error in refused] == ["mesh"]
    assert late._running is None


async def test_what_start_prepared_is_cleaned_up_when_the_rest_fails(
    mesh: Mesh, client: Mesh
) -> None:
    """An agent that cannot be announced has its `stop` run; nobody finds it."""

    class Huge(Moody):
        name = "huge"
        metadata = {"label": "x" * 2_000_000}

    huge = Huge()
    with pytest.raises(PayloadTooLargeError):
        await mesh.host(huge)
    assert huge.stopping
    assert mesh.hosted == []
    await gone(client, "huge")


async def test_hooks_do_not_share_the_deadline_of_whoever_asked(mesh: Mesh, client: Mesh) -> None:
    """What an operation hosts, and what a control action stops, is served by no request's time."""
    worker = Moody()
    seen: list[tuple[str, object, str]] = []

    def look(hook: str) -> Any:
        async def ask() -> None:
            greeting = await worker_request()
            seen.append((hook, find_context(), greeting))

        return ask

    async def worker_request() -> str:
        greeting: str = await mesh.request("greeter", "greet")
        return greeting

    worker.on_start, worker.on_stop = look("start"), look("stop")

    class Boss(Greeter):
        name = "boss"
        capabilities = ("boss",)

        @operation
        async def hire(self) -> None:
            await mesh.host(worker)

    await mesh.host(Greeter(), Boss())
    await client.wait_for("boss")
    await client.request("boss", "hire")
    await client.control(named("moody"), "shutdown")
    await eventually(lambda: worker not in mesh.hosted)
    hello = "Hello, World!"
    assert seen == [("start", None, hello), ("stop", None, hello)]


async def test_a_mesh_may_be_opened_again_on_another_loop(tmp_path: Path) -> None:
    """What waits for its agents belongs to the loop that it is open on."""
    settings = Settings(project=tmp_path, state_folder=tmp_path, url=None, mesh="again")
    mesh = Mesh(settings=settings, engine=MemoryEngine())

    async def once() -> None:
        async with mesh:
            await mesh.host(Greeter())
            waiting = asyncio.ensure_future(mesh.wait_empty())
            await asyncio.sleep(0)
        await waiting

    for _ in range(2):
        await asyncio.to_thread(asyncio.run, once())


async def cancel_itself() -> None:
    """Await what was cancelled: the commonest clean-up."""
    task = asyncio.ensure_future(asyncio.Event().wait())
    await asyncio.sleep(0)
    task.cancel()
    await task


async def fail() -> None:
    """Break."""
    raise OSError("the clean-up broke")


@pytest.mark.parametrize("clean_up", [cancel_itself, fail])
async def test_a_clean_up_that_breaks_does_not_keep_an_agent_from_stopping(
    mesh: Mesh, client: Mesh, clean_up: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever `stop` raises is logged; the instance is gone, and can be hosted again."""
    moody = Moody()
    moody.on_stop = clean_up
    await mesh.host(moody)
    await client.wait_for("moody")
    await client.control(named("moody"), "shutdown")
    await asyncio.wait_for(mesh.wait_empty(), 5)
    await gone(client, "moody")
    assert any("the agent's stop failed" in record.getMessage() for record in caplog.records)
    moody.on_stop = None
    await mesh.host(moody)
    assert await mesh.request("moody", "answer") == 42


async def test_no_event_is_heard_once_the_clean_up_has_begun(
    mesh: Mesh, open_mesh: OpenMesh
) -> None:
    """`stop` runs after the last operation and the last event handler."""
    publisher = await open_mesh()
    moody = Moody()
    await mesh.host(moody)
    await publisher.wait_for("moody")

    async def publish() -> None:
        for _ in range(20):
            await publisher.publish("moody.now", {})
            await asyncio.sleep(0)

    await publish()
    await eventually(lambda: len(moody.heard) == 20)
    moody.on_stop = publish
    await mesh.stop(moody)
    assert True not in moody.heard


async def test_an_instance_that_drains_answers_a_change_at_once(mesh: Mesh, client: Mesh) -> None:
    """It says that it drains, and goes on: whoever asked need not wait for what runs."""
    shop = Shop()
    await mesh.host(shop)
    [peer] = await client.wait_for("shop")
    running = asyncio.ensure_future(client.request("shop", "wait", timeout_s=20))
    await eventually(lambda: running_of(shop).dispatcher.statistics().in_flight == 1)
    stopping = asyncio.ensure_future(mesh.stop(shop))
    await eventually(lambda: running_of(shop).dispatcher.refusal == "draining")
    for action in ("pause", "resume"):
        survey = await client.control(peer, action, timeout_s=10)
        assert survey.results == [{"state": "draining", "changed": False}]
    assert not stopping.done()
    shop.gate.set()
    assert await running == "open"
    await stopping


async def test_a_client_that_resumes_leaves_nothing_behind(mesh: Mesh) -> None:
    """An agent without operations has no queue groups, and enters them once all the same."""
    watcher = Watcher()
    await mesh.host(watcher)
    for _ in range(3):
        await mesh.control(named("watcher"), "resume")
    await mesh.control(named("watcher"), "pause")
    assert mesh._open()._locals == {}
    await mesh.control(named("watcher"), "resume")
    await mesh.stop(watcher)
    assert mesh._open()._locals == {}


async def test_stopping_twice_is_stopping_once(mesh: Mesh) -> None:
    """Both wait for the same end."""
    shop = Shop()
    await mesh.host(shop)
    await asyncio.gather(mesh.stop(shop), mesh.stop(shop))
    await mesh.stop(shop)
    assert mesh.hosted == []
