"""An instance that hangs is noticed, left out and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent99 import Agent, Mesh, Settings, named, operation
from agent99.agent._health import DOUBT_S_MAX, LOOK_S, PING_S, READMIT_S_MAX
from agent99.errors import DeadlineExceededError
from agent99.testing import ManualClock, MemoryEngine
from agent99.wire import Message

NOTICED_S = DOUBT_S_MAX + LOOK_S + PING_S


class Freezer:
    """A wire that can freeze: what arrives meanwhile comes when it thaws."""

    def __init__(self, wire: Any) -> None:
        self._wire = wire
        self.is_frozen = False
        self._subscriptions: list[Any] = []
        self._held: list[tuple[Callable[[Message], None], Message]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)

    def subscribe(self, subject: bytes, receive: Any, *, queue: bytes = b"") -> Any:
        """Subscribe, with a receiver that can freeze."""

        def take(message: Message) -> None:
            if self.is_frozen:
                self._held.append((receive, message))
            else:
                receive(message)

        subscription = self._wire.subscribe(subject, take, queue=queue)
        self._subscriptions.append(subscription)
        return subscription

    def vanish(self) -> None:
        """Listen to nothing any more, as a process that has died."""
        for subscription in self._subscriptions:
            subscription.unsubscribe()

    def thaw(self) -> None:
        """Take what came, and go on."""
        self.is_frozen = False
        held, self._held = self._held, []
        for receive, message in held:
            receive(message)


class Worker(Agent):
    """Says who it is."""

    capabilities = ("work",)

    ran: list[str]

    @operation
    async def who(self) -> str:
        """Return the instance."""
        self.ran.append("who")
        return self.instance

    @operation(idempotent=True)
    async def look(self) -> str:
        """Return the instance, and do no harm."""
        self.ran.append("look")
        return self.instance

    @operation
    async def other(self) -> str:
        """Return the instance, too."""
        return self.instance


class World:
    """Some workers, each in a process's worth of a mesh, and their caller."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self.clock = ManualClock()
        self._engine = MemoryEngine(clock=self.clock)
        self._settings = Settings(project=folder, state_folder=folder, mesh="t")
        self._stack = stack
        self.wires: dict[str, Freezer] = {}
        self.ran: list[str] = []
        """What the workers have run."""
        self.vain: list[asyncio.Future[str]] = []
        """Requests that somebody who hangs was given."""
        self.caller: Mesh

    async def mesh(self) -> Mesh:
        """Open one more mesh."""
        mesh = Mesh(settings=self._settings, engine=self._engine, clock=self.clock)
        return await self._stack.enter_async_context(mesh)

    async def add(self) -> str:
        """Host one more worker; returns its instance."""
        mesh = await self.mesh()
        link = mesh._link
        assert link is not None
        wire = Freezer(link.wire)
        link.wire = link.services._wire = wire  # type: ignore[assignment]  # delegates the rest
        worker = Worker()
        worker.ran = self.ran
        await mesh.host(worker)
        self.wires[worker.instance] = wire
        return worker.instance

    async def ask(self, target: Any = "work", what: str = "who") -> str:
        """Make one request of five seconds; time passes as it needs."""
        return str(await self.caller.request(target, what, timeout_s=5))

    async def ask_many(self, count: int = 30, target: Any = "work", what: str = "who") -> set[str]:
        """Make requests one after the other; returns who answered."""
        return {await self.ask(target, what) for _ in range(count)}

    async def ask_at_once(
        self, count: int = 30, target: Any = "work", what: str = "who"
    ) -> list[str]:
        """Make requests together, and let pass what a hang takes to be noticed.

        Returns who answered; who is not there was asked in vain.
        """
        asking = [asyncio.ensure_future(self.ask(target, what)) for _ in range(count)]
        await self.clock.advance(NOTICED_S + 0.1)
        answered = [task.result() for task in asking if task.done()]
        self.vain += [task for task in asking if not task.done()]
        return answered

    def bury(self, instance: str) -> None:
        """Let its lease have run out, as the caller's table sees it."""
        link = self.caller._link
        assert link is not None
        link.registry._directory.table.remove(instance)

    @property
    def ejected(self) -> set[str]:
        """Who is left out."""
        link = self.caller._link
        assert link is not None
        return set(link.health.ejected)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Give a world with a caller and nobody else."""
    async with AsyncExitStack() as stack:
        made = World(stack, tmp_path)
        made.caller = await made.mesh()
        yield made
        for wire in made.wires.values():
            wire.thaw()
        await made.clock.advance(0)
        for task in made.vain:
            task.cancel()
        await asyncio.gather(*made.vain, return_exceptions=True)


async def test_who_hangs_is_left_out(world: World) -> None:
    """Once a request waits too long, no other goes there; those under way are not made again."""
    workers = [await world.add() for _ in range(3)]
    world.wires[workers[0]].is_frozen = True
    answered = await world.ask_at_once()
    assert set(answered) == {*workers[1:]}
    assert len(world.vain) == 30 - len(answered) > 0
    assert world.ejected == {workers[0]}
    assert await world.ask_many() == {*workers[1:]}


async def test_what_may_run_twice_is_asked_of_another(world: World) -> None:
    """While one hangs, an idempotent request in its hands is answered by who answers a ping."""
    workers = [await world.add() for _ in range(3)]
    world.wires[workers[0]].is_frozen = True
    answered = await world.ask_at_once(30, what="look")
    assert set(answered) == {*workers[1:]}
    assert len(answered) == len(world.ran) == 30
    world.wires[workers[0]].thaw()
    await world.clock.advance(0)
    assert len(world.ran) > 30  # what it holds runs a second time, and its answers are late ones


async def test_what_waits_too_long_during_a_check_is_asked_of_another_too(world: World) -> None:
    """The silent one is given its time; those who wait for it meanwhile are not."""
    workers = [await world.add() for _ in range(3)]
    world.wires[workers[0]].is_frozen = True
    asking = [asyncio.ensure_future(world.ask(what="look")) for _ in range(15)]
    await world.clock.advance(0.3)
    asking += [asyncio.ensure_future(world.ask(what="look")) for _ in range(15)]
    await world.clock.advance(DOUBT_S_MAX + LOOK_S)
    assert world.ejected == set()
    assert {True} == {task.done() for task in asking}
    assert len(world.ran) == 30


async def test_what_may_not_run_twice_never_does(world: World) -> None:
    """A request without that mark is left where it is, however long it hangs."""
    workers = [await world.add() for _ in range(3)]
    world.wires[workers[0]].is_frozen = True
    answered = await world.ask_at_once(30, what="who")
    world.wires[workers[0]].thaw()
    await world.clock.advance(0)
    assert len(answered) < 30 == len(world.ran)


async def test_a_slow_answer_is_waited_for(world: World) -> None:
    """While all who serve answer pings, nothing is asked twice: it is slow, that is all."""
    mesh = await world.mesh()
    await mesh.host(Slow(), Slow())
    await world.clock.advance(0)
    asking = asyncio.ensure_future(world.ask("slow", "nap"))
    await world.clock.advance(4.0)
    Slow.gate.set()
    await world.clock.advance(0)
    assert "woken" == await asking
    assert 1 == Slow.naps


async def test_while_all_is_well_the_server_chooses(world: World) -> None:
    """Nobody is pinged, nobody is left out, however much time passes."""
    workers = [await world.add() for _ in range(3)]
    assert await world.ask_many() == set(workers)
    await world.clock.advance(60)
    assert world.ejected == set()
    assert await world.ask_many() == set(workers)


@pytest.mark.parametrize("target", ["work", named("worker")])
async def test_by_name_as_by_capability(world: World, target: Any) -> None:
    """Whatever the group is, its members are the same."""
    workers = [await world.add() for _ in range(2)]
    world.wires[workers[0]].is_frozen = True
    await world.ask_at_once(target=target)
    assert world.ejected == {workers[0]}
    assert await world.ask_many(target=target) == {workers[1]}
    assert await world.ask_many(what="other") == {workers[1]}


async def test_who_answers_again_is_asked_again(world: World) -> None:
    """A ping now and then brings it back."""
    workers = [await world.add() for _ in range(2)]
    world.wires[workers[0]].is_frozen = True
    await world.ask_at_once()
    assert world.ejected == {workers[0]}
    await world.clock.advance(20)
    assert world.ejected == {workers[0]}
    world.wires[workers[0]].thaw()
    await world.clock.advance(READMIT_S_MAX + PING_S + 0.1)
    assert world.ejected == set()
    assert await world.ask_many() == set(workers)


@pytest.mark.parametrize(
    ("count", "frozen", "left_out"), [(2, 1, 1), (3, 1, 1), (5, 3, 1), (6, 3, 2), (9, 3, 3)]
)
async def test_at_most_a_third_is_left_out_or_one(
    world: World, count: int, frozen: int, left_out: int
) -> None:
    """However many hang: else a few who are slow would leave all the work to fewer and fewer."""
    workers = [await world.add() for _ in range(count)]
    for worker in workers[:frozen]:
        world.wires[worker].is_frozen = True
    await world.ask_at_once(60)
    await world.ask_at_once(60)
    assert len(world.ejected) == left_out
    assert world.ejected <= set(workers[:frozen])


async def test_when_all_are_silent_none_is_left_out(world: World) -> None:
    """It is the link then, or the server; and the only one there is never left out."""
    first = await world.add()
    world.wires[first].is_frozen = True
    await world.ask_at_once(3)
    assert world.ejected == set()
    world.wires[await world.add()].is_frozen = True
    await world.ask_at_once(10)
    assert world.ejected == set()


async def test_a_slow_handler_is_no_hang(world: World) -> None:
    """Who answers pings is alive, however long its work takes."""
    mesh = await world.mesh()
    await mesh.host(Slow(), Slow())
    await world.clock.advance(0)
    asking = [asyncio.ensure_future(world.ask("slow", "sleep")) for _ in range(4)]
    await world.clock.advance(5.1)
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert {DeadlineExceededError} == set(map(type, outcomes))
    assert world.ejected == set()


class Slow(Agent):
    """Takes its time."""

    capabilities = ("slow",)
    gate = asyncio.Event()
    naps = 0

    @operation(idempotent=True)
    async def nap(self) -> str:
        """Return when the gate opens."""
        Slow.naps += 1
        await Slow.gate.wait()
        return "woken"

    @operation
    async def sleep(self) -> str:
        """Never return."""
        await asyncio.Event().wait()
        return "never"


async def test_who_hangs_until_its_lease_runs_out_stays_left_out(world: World) -> None:
    """The registry counts it as dead; the server, which knows better, still hands it requests."""
    workers = [await world.add() for _ in range(3)]
    world.wires[workers[0]].is_frozen = True
    await world.ask_at_once()
    world.bury(workers[0])
    await world.clock.advance(READMIT_S_MAX + PING_S + 0.1)
    assert world.ejected == {workers[0]}
    assert await world.ask_many() == {*workers[1:]}
    world.wires[workers[0]].thaw()
    await world.clock.advance(READMIT_S_MAX + PING_S + 0.1)
    assert world.ejected == set()


async def test_who_is_gone_is_forgotten(world: World) -> None:
    """Once the server says that nobody listens there, it is no longer pinged."""
    workers = [await world.add() for _ in range(2)]
    world.wires[workers[0]].is_frozen = True
    await world.ask_at_once()
    world.wires[workers[0]].vanish()
    await world.clock.advance(READMIT_S_MAX + PING_S + 0.1)
    assert world.ejected == set()
    assert await world.ask_many() == {workers[1]}


async def test_closing_ends_the_watch(world: World) -> None:
    """Nothing is left behind: no task, no timer that asks again."""
    workers = [await world.add() for _ in range(2)]
    world.wires[workers[0]].is_frozen = True
    await world.ask_at_once()
    link = world.caller._link
    assert link is not None
    await world.caller.aclose()
    await world.clock.advance(10)
    assert len(link.health._tasks) == 0
