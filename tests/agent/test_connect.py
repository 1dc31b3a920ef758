"""Opening the mesh: in a coroutine, in a script, on the embedded server."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent99 import Blocking, Mesh, Settings, connect, named
from agent99.agent._blocking import LoopThread
from agent99.errors import (
    ClosedError,
    NoAgentError,
    ServerUnavailableError,
    UsageError,
)
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.agent._agents import Greeter, Shop


async def test_connect_reads_the_environment(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`AGENT99_URL` and `AGENT99_MESH` say where the mesh is; nothing is started."""
    monkeypatch.setenv("AGENT99_URL", nats_server.url)
    monkeypatch.setenv("AGENT99_MESH", "connect-env")
    async with connect() as mesh:
        assert mesh.name == "connect-env"
        assert mesh.url == nats_server.url
        await mesh.host(Greeter())
        assert await mesh.request("greeter", "greet", returns=str) == "Hello, World!"


def test_a_script_may_block(nats_server: NatsServer) -> None:
    """`with connect()` gives the verbs in blocking form, and takes its thread away at the end."""
    before = {*threading.enumerate()}
    with connect(nats_server.url, mesh="connect-blocking") as mesh:
        assert isinstance(mesh, Blocking)
        with pytest.raises(NoAgentError):
            mesh.request("greeter", "greet")
        assert mesh.discover("greeter") == []
        assert mesh.survey("greeter").answers == ()
        assert mesh.control(named("greeter"), "status", timeout_s=0.1).answers == ()
        mesh.publish("order.placed", {"a": 1})
        assert "Blocking" in repr(mesh)
    assert {*threading.enumerate()} <= before  # those of others may end meanwhile
    with pytest.raises(ClosedError):
        mesh.discover("greeter")


async def test_a_script_that_ends_ends_what_its_threads_wait_for(nats_server: NatsServer) -> None:
    """A verb that another thread waits in is told; the thread does not wait for ever."""
    async with Mesh(nats_server.url, mesh="connect-ends") as mesh:
        shop = Shop()
        await mesh.host(shop)
        running = shop._running
        assert running is not None
        may_end, outcomes = threading.Event(), queue.Queue[Any]()

        def script() -> None:
            with connect(nats_server.url, mesh="connect-ends") as blocking:
                for verb in (blocking.control, blocking.survey):
                    threading.Thread(target=ask, args=(verb,), daemon=True).start()
                assert may_end.wait(10)

        def ask(verb: Callable[..., object]) -> None:
            target = named("shop") if verb.__name__ == "control" else "shop"
            try:
                outcomes.put(verb(target, "nap" if target != "shop" else "wait", timeout_s=60))
            except ClosedError as error:
                outcomes.put(error)

        scripted = asyncio.ensure_future(asyncio.to_thread(script))
        for taker in (running.control, running.dispatcher):
            await eventually(lambda taker=taker: taker.statistics().in_flight == 1)
        may_end.set()
        await asyncio.wait_for(scripted, 10)
        for _ in range(2):
            outcome = await asyncio.to_thread(outcomes.get, timeout=5)
            assert isinstance(outcome, ClosedError)
        shop.gate.set()


def test_a_loop_that_ends_ends_its_tasks() -> None:
    """Whoever waits in another thread for one of them is woken."""
    loop_thread, outcomes = LoopThread(), queue.Queue[BaseException]()
    loop_thread.start()
    waits = threading.Event()

    async def wait() -> None:
        waits.set()
        await asyncio.Event().wait()

    def ask() -> None:
        try:
            loop_thread.run(wait())
        except concurrent.futures.CancelledError as error:
            outcomes.put(error)

    threading.Thread(target=ask, daemon=True).start()
    assert waits.wait(5)
    loop_thread.stop()
    assert isinstance(outcomes.get(timeout=5), concurrent.futures.CancelledError)


async def test_a_blocking_verb_in_the_event_loop_is_refused(nats_server: NatsServer) -> None:
    """It would stand still for ever: the error says what to use instead."""
    async with Mesh(nats_server.url, mesh="connect-misuse") as mesh:
        greeter = Greeter()
        await mesh.host(greeter)
        with pytest.raises(UsageError, match="await self.request"):
            greeter.blocking.request("greeter", "greet")


def test_a_script_learns_that_nobody_is_there() -> None:
    """A dead address is one sentence, within a bounded time, and no thread stays behind."""
    before = {*threading.enumerate()}
    with (
        pytest.raises(ServerUnavailableError, match="no NATS server answers"),
        connect("nats://127.0.0.1:9"),
    ):
        pytest.fail("there is nobody")
    assert {*threading.enumerate()} <= before  # those of others may end meanwhile


async def test_a_dead_address_is_one_sentence() -> None:
    """The same in a coroutine, and the credential is not shown."""
    with pytest.raises(ServerUnavailableError) as caught:
        async with connect("nats://user:secret@127.0.0.1:9"):
            pytest.fail("there is nobody")
    assert "secret" not in str(caught.value)


async def test_a_mesh_opens_once(nats_server: NatsServer) -> None:
    """Opening it twice is a mistake of the programme."""
    mesh = Mesh(nats_server.url, mesh="connect-once")
    assert "closed" in repr(mesh)
    async with mesh:
        assert nats_server.url in repr(mesh)
        with pytest.raises(UsageError, match="open already"):
            await mesh.__aenter__()


async def test_without_an_address_the_embedded_server_is_started(tmp_path: Path) -> None:
    """Zero infrastructure: the first mesh of a project starts a server, and the next finds it."""
    settings = Settings(project=tmp_path, state_folder=tmp_path / ".agent99", linger_s=0)
    async with Mesh(settings=settings) as mesh:
        await mesh.host(Greeter())
        async with Mesh(settings=settings) as other:
            await other.wait_for("greeter")
            assert await other.request("greeter", "greet", {"name": "Ada"}) == "Hello, Ada!"
        assert mesh.url.startswith("nats://127.0.0.1:")
        assert "@" not in mesh.url


async def test_meshes_of_different_names_do_not_see_each_other(nats_server: NatsServer) -> None:
    """The name is the namespace, on one server."""
    async with (
        Mesh(nats_server.url, mesh="connect-one") as one,
        Mesh(nats_server.url, mesh="connect-two") as two,
    ):
        await one.host(Greeter())
        with pytest.raises(NoAgentError):
            await two.request("greeter", "greet", timeout_s=1)
        assert await two.discover("greeter") == []


async def test_a_cancelled_opening_leaves_nothing(nats_server: NatsServer) -> None:
    """Giving up while it opens closes what was open."""
    mesh = Mesh(nats_server.url, mesh="connect-cancel")
    task = asyncio.ensure_future(mesh.__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert "closed" in repr(mesh)
    await mesh.aclose()
