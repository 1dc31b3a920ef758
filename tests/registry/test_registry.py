"""The registry in memory, where time stands still: leases, keepers, breaks, bad input."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator

import pytest

from agent99.errors import (
    ClosedError,
    DeadlineExceededError,
    DisconnectedError,
    InvalidNameError,
    PayloadTooLargeError,
    UsageError,
)
from agent99.registry import Registry, RegistryOptions, Table, TableChange
from tests.registry._describe import describe
from tests.registry._memory_mesh import MemoryMesh


@pytest.fixture
async def mesh() -> AsyncIterator[MemoryMesh]:
    """Give a mesh with the default periods."""
    made = MemoryMesh()
    yield made
    await made.aclose()


def _ids(table: Table) -> set[str]:
    return {description.instance for description in table.everybody()}


async def _gather(mesh: MemoryMesh, count: int) -> list[Registry]:
    """Return registries that have been there for long, each with one agent: `i0`, `i1`."""
    registries = [await mesh.join() for _ in range(count)]
    for number, registry in enumerate(registries):
        await registry.announce(describe(f"i{number}"))
    await mesh.clock.advance(30)
    return registries


async def test_the_killed_are_gone_within_ten_seconds(mesh: MemoryMesh) -> None:
    """With the default periods a killed process leaves every table, and nobody else does."""
    registries = await _gather(mesh, 5)
    keeper = mesh.keepers()[0]
    victim = next(r for r in registries if r is not keeper)
    gone = f"i{registries.index(victim)}"
    await mesh.kill(victim)
    await mesh.clock.advance(4)
    assert gone in _ids(keeper.table)
    await mesh.clock.advance(6)
    living = {f"i{n}" for n in range(5)} - {gone}
    for registry in mesh.wires:
        assert living == _ids(registry.table)
    assert living == await mesh.stored()


async def test_the_killed_keeper_is_gone_within_ten_seconds(mesh: MemoryMesh) -> None:
    """When the keeper itself is killed, another is there before the keeper's lease ends."""
    registries = await _gather(mesh, 5)
    keeper = mesh.keepers()[0]
    await mesh.kill(keeper)
    await mesh.clock.advance(10)
    assert 1 == len(mesh.keepers())
    living = {f"i{n}" for n in range(5)} - {f"i{registries.index(keeper)}"}
    for registry in mesh.wires:
        assert living == _ids(registry.table)


async def test_there_is_one_keeper(mesh: MemoryMesh) -> None:
    """However many start together, one is elected, and stays."""
    registries = [mesh.make() for _ in range(20)]
    await asyncio.gather(*(registry.start() for registry in registries))
    await mesh.clock.advance(10)
    (keeper,) = mesh.keepers()
    await mesh.clock.advance(60)
    assert [keeper] == mesh.keepers()


async def test_few_look_for_a_keeper_among_many(mesh: MemoryMesh) -> None:
    """Among many processes only a handful look each period; still keepers are replaced."""
    few = RegistryOptions(keeper_lookers=4)
    registries = [mesh.make(few) for _ in range(60)]
    await asyncio.gather(*(registry.start() for registry in registries))
    for number, registry in enumerate(registries):
        await registry.announce(describe(f"i{number}"))
    await mesh.clock.advance(10)
    for _ in range(3):
        (keeper,) = mesh.keepers()
        await mesh.kill(keeper)
        await mesh.clock.advance(15)
    assert 57 == len(await mesh.stored())


async def test_an_outage_kills_nobody(mesh: MemoryMesh) -> None:
    """After an outage longer than any lease, all are back within 5 s and nobody is removed."""
    registries = await _gather(mesh, 6)
    mesh.cut(*registries)
    await mesh.clock.advance(60)
    for registry in registries:
        assert 6 == len(registry.table)
    mesh.restore(*registries)
    await mesh.clock.advance(5)
    assert {f"i{n}" for n in range(6)} == await mesh.stored()
    await mesh.clock.advance(60)
    assert 0 == sum(registry.statistics().removed for registry in registries)
    assert 1 == len(mesh.keepers())


async def test_a_split_keeper_does_no_harm(mesh: MemoryMesh) -> None:
    """A keeper that loses its link is replaced; when it is back there is one, and all live."""
    registries = await _gather(mesh, 4)
    old = mesh.keepers()[0]
    mesh.cut(old)
    await mesh.clock.advance(5)
    assert 1 == len([r for r in mesh.keepers() if r is not old])
    mesh.restore(old)
    await mesh.clock.advance(5)
    assert 1 == len(mesh.keepers())
    for registry in registries:
        assert {f"i{n}" for n in range(4)} == _ids(registry.table)


async def test_who_was_cut_off_for_long_comes_back(mesh: MemoryMesh) -> None:
    """A process that was removed while its link was away is everywhere again within 5 s."""
    registries = await _gather(mesh, 3)
    mesh.cut(registries[0])
    await mesh.clock.advance(20)
    assert {"i1", "i2"} == _ids(registries[1].table) == await mesh.stored()
    mesh.restore(registries[0])
    await mesh.clock.advance(5)
    for registry in registries:
        assert {"i0", "i1", "i2"} == _ids(registry.table)
    assert registries[0].statistics().lost >= 1


async def test_what_is_forgotten_is_gone_at_once_here_and_soon_everywhere(mesh: MemoryMesh) -> None:
    """Forgetting needs no answer of the server; it may come at any time and again."""
    registries = await _gather(mesh, 2)
    registries[0].forget("i0")
    assert _ids(registries[0].table) == {"i1"}
    registries[0].forget("i0")
    registries[0].forget("never there")
    await mesh.clock.advance(2)
    assert _ids(registries[1].table) == await mesh.stored() == {"i1"}
    await registries[0].aclose()
    registries[0].forget("i0")


async def test_what_is_withdrawn_while_away_stays_away(mesh: MemoryMesh) -> None:
    """A withdrawal that did not reach the server is made up for when the link is back."""
    registries = await _gather(mesh, 2)
    mesh.cut(registries[0])
    await mesh.clock.advance(0)
    with pytest.raises(DisconnectedError):
        await registries[0].withdraw("i0")
    assert {"i1"} == _ids(registries[0].table)
    mesh.restore(registries[0])
    await mesh.clock.advance(5)
    assert {"i1"} == _ids(registries[1].table) == await mesh.stored()


async def test_what_is_announced_while_away_is_written_later(mesh: MemoryMesh) -> None:
    """An announcement that did not reach the server is in the own table, and everywhere later."""
    registries = await _gather(mesh, 2)
    mesh.cut(registries[0])
    await mesh.clock.advance(0)
    with pytest.raises(DisconnectedError):
        await registries[0].announce(describe("new"))
    assert "new" in _ids(registries[0].table)
    mesh.restore(registries[0])
    await mesh.clock.advance(5)
    assert "new" in _ids(registries[1].table)


@pytest.mark.parametrize("lost", ["registry", "leases", "keeper"])
async def test_a_lost_bucket_is_made_again(mesh: MemoryMesh, lost: str) -> None:
    """Whichever bucket is wiped, everybody is in it again within 10 s, and nobody is removed."""
    registries = await _gather(mesh, 3)
    await mesh.journal.delete_stream(f"KV_a99_m1_{lost}")
    await mesh.clock.advance(10)
    assert {"i0", "i1", "i2"} == await mesh.stored()
    assert 1 == len(mesh.keepers())
    await mesh.clock.advance(30)
    assert 0 == sum(registry.statistics().removed for registry in registries)


async def test_a_client_needs_no_lease(mesh: MemoryMesh) -> None:
    """Who announces nothing and leaves soon writes nothing at all."""
    client = await mesh.join()
    await mesh.clock.advance(1)
    statistics = client.statistics()
    assert (0, 0) == (statistics.refreshes, statistics.written)


async def test_the_cost_of_liveness_is_one_refresh_per_process(mesh: MemoryMesh) -> None:
    """However many agents a process has, it refreshes one lease and writes nothing else."""
    await mesh.join()
    await mesh.clock.advance(5)  # and so the first is the keeper, which refreshes more often
    here = await mesh.join()
    for number in range(50):
        await here.announce(describe(f"i{number}"))
    before = here.statistics()
    await mesh.clock.advance(45)
    after = here.statistics()
    assert before.written == after.written == 50
    assert 18 <= after.refreshes - before.refreshes <= 23


async def test_stale_descriptions_are_suspects_at_first(mesh: MemoryMesh) -> None:
    """A newcomer puts those without a lease behind the others, until the keeper has judged."""
    (dead,) = await _gather(mesh, 1)
    await mesh.kill(dead)
    await mesh.clock.advance(60)
    newcomer = await mesh.join()
    await newcomer.announce(describe("new"))
    assert ["new", "i0"] == [d.instance for d in newcomer.table.discover()]
    assert ["new"] == [d.instance for d in newcomer.table.candidates()]
    await mesh.clock.advance(10)
    assert {"new"} == _ids(newcomer.table)


async def test_suspects_are_forgiven_in_time(mesh: MemoryMesh) -> None:
    """A suspect stands behind the others until its time is over, or it succeeds."""
    here = (await _gather(mesh, 3))[0]
    here.suspect("i0", 2.0)
    here.suspect("i1")
    here.suspect("nobody")
    order = [d.instance for d in here.table.discover("order_processing")]
    assert ["i2", "i0", "i1"] == order
    await mesh.clock.advance(2)
    assert ["i0", "i2"] == [d.instance for d in here.table.candidates("order_processing")]
    here.forgive("i1")
    assert ["i0", "i1", "i2"] == [d.instance for d in here.table.discover("order_processing")]


async def test_changes_are_told(mesh: MemoryMesh) -> None:
    """Listeners hear of each change, also when another listener raises; until they stop."""
    here, there = await mesh.join(), await mesh.join()
    heard: list[TableChange] = []

    def broken(_changes: tuple[TableChange, ...]) -> None:
        raise ValueError("a listener's bug")

    here.on_change(broken)
    stop = here.on_change(heard.extend)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("agent99.registry"), "disabled", True)
        ready = await there.announce(describe("i1"))
        await mesh.clock.advance(0)
        paused = await there.announce(describe("i1", state="paused"))
        await there.announce(describe("i1", state="paused"))
        await there.withdraw("i1")
        await there.withdraw("i1")
        await mesh.clock.advance(0)
    stop()
    stop()
    await there.announce(describe("i2"))
    await mesh.clock.advance(0)
    expected = [(None, ready), (ready, paused), (paused, None)]
    assert expected == [(change.before, change.after) for change in heard]


async def test_waits_end_with_what_was_awaited(mesh: MemoryMesh) -> None:
    """`wait_for` returns once somebody offers it all, and says what did not come."""
    here, there = await mesh.join(), await mesh.join()
    both = asyncio.create_task(here.wait_for("shop", "eu", timeout_s=5))
    late = asyncio.create_task(here.wait_for("bank", timeout_s=5))
    closed = asyncio.create_task(here.wait_until(lambda table: len(table) > 9, timeout_s=50))
    await there.announce(describe("i1", "orders", "shop"))
    await mesh.clock.advance(1)
    assert not both.done()
    mine = await there.announce(describe("i2", "orders", "shop", "eu"))
    assert (mine,) == await both
    assert (mine,) == await here.wait_for("eu", timeout_s=5)
    await mesh.clock.advance(5)
    with pytest.raises(DeadlineExceededError, match="nobody came who offers 'bank' within 5 s"):
        await late
    await here.aclose()
    with pytest.raises(ClosedError):
        await closed


async def test_a_server_that_is_away_at_the_start(mesh: MemoryMesh) -> None:
    """Starting without a link fails with the link's error, and closing is possible after it."""
    registry = mesh.make()
    mesh.cut(registry)
    await mesh.clock.advance(0)
    with pytest.raises(DisconnectedError):
        await registry.start()
    await registry.aclose()
    with pytest.raises(ClosedError):
        await registry.start()


async def test_bad_use_is_refused(mesh: MemoryMesh) -> None:
    """Before the start, after the end, and with too much, a typed error says so."""
    registry = mesh.make()
    with pytest.raises(UsageError, match="not started"):
        await registry.announce(describe("i1"))
    await registry.start()
    await registry.start()
    with pytest.raises(PayloadTooLargeError, match="description of 'orders'"):
        await registry.announce(describe("i1", metadata={"note": "x" * 1_100_000}))
    assert set() == _ids(registry.table)
    assert "started" in repr(registry)
    await registry.aclose()
    await registry.aclose()
    assert "closed" in repr(registry)
    for call in (registry.announce(describe("i1")), registry.withdraw("i1")):
        with pytest.raises(ClosedError):
            await call
    with pytest.raises(InvalidNameError):
        Registry(mesh.journal, mesh.wires[registry], mesh="a.b", clock=mesh.clock, ids=mesh.ids)


@pytest.mark.parametrize(
    "options",
    [
        {"lease_s": 0},
        {"lease_s": 6},
        {"keeper_s": 1},
        {"writes_max": 0},
        {"retry_s_max": 0.01},
        {"suspect_s": -1},
    ],
)
def test_periods_must_fit_each_other(options: dict[str, float]) -> None:
    """A lease that a single lost refresh would end is refused."""
    with pytest.raises(UsageError):
        RegistryOptions(**options)  # type: ignore[arg-type] - a table of whole and broken numbers


class _World:
    """Registries to which anything may happen, and what should be there in the end."""

    def __init__(self, seed: int) -> None:
        self.mesh = MemoryMesh(seed)
        self.truth: dict[Registry, set[str]] = {}
        self._chance = random.Random(seed)
        self._away: set[Registry] = set()
        self._step = 0

    async def step(self) -> None:
        """Let some time pass, then do one thing to somebody."""
        self._step += 1
        await self.mesh.clock.advance(self._chance.choice((0.0, 0.1, 1.0, 4.0, 9.0)))
        deeds = (self.join, self.announce, self.announce, self.withdraw, self.kill, self.cut)
        deed = self._chance.choice((*deeds, self.mend, self.wipe))
        linked = [registry for registry in self.mesh.wires if registry not in self._away]
        if linked:
            await deed(self._chance.choice(linked))
        else:
            await self.join()
            await self.mend()

    async def join(self, _registry: Registry | None = None) -> None:
        """One more process."""
        if len(self.mesh.wires) < 8:
            self.truth[await self.mesh.join()] = set()

    async def announce(self, registry: Registry) -> None:
        """One more agent."""
        self.truth[registry].add(f"i{self._step}")
        await registry.announce(describe(f"i{self._step}"))

    async def withdraw(self, registry: Registry) -> None:
        """All agents of a process go."""
        for instance in sorted(self.truth[registry]):
            await registry.withdraw(instance)
        self.truth[registry].clear()

    async def kill(self, registry: Registry) -> None:
        """A process ends without a word."""
        await self.mesh.kill(registry)
        del self.truth[registry]

    async def cut(self, registry: Registry) -> None:
        """A process loses its link."""
        self.mesh.cut(registry)
        self._away.add(registry)

    async def mend(self, _registry: Registry | None = None) -> None:
        """All links are back."""
        self.mesh.restore(*self._away)
        self._away.clear()

    async def wipe(self, _registry: Registry) -> None:
        """A bucket is lost."""
        lost = self._chance.choice(("registry", "leases", "keeper"))
        await self.mesh.journal.delete_stream(f"KV_a99_m1_{lost}")


@pytest.mark.parametrize("number", range(6))
async def test_a_world_of_faults_ends_in_agreement(seed: int, number: int) -> None:
    """After faults of any kind and order, quiet brings every table to the truth."""
    world = _World(seed + number)
    for _ in range(60):
        await world.step()
    await world.mend()
    await world.join()  # somebody has to be there to remove the dead
    await world.mesh.clock.advance(40)
    expected = {instance for instances in world.truth.values() for instance in instances}
    assert expected == await world.mesh.stored()
    for registry in world.mesh.wires:
        assert expected == _ids(registry.table)
        registry.table._check()
        registry._directory._check()
    assert 1 == len(world.mesh.keepers())
    await world.mesh.aclose()
