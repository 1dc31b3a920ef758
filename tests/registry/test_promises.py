"""What the registry promises whatever happens when: the dead go in time, the living never do."""

from __future__ import annotations

import random

import pytest

from agent99.registry import Registry
from tests.registry._describe import describe
from tests.registry._memory_mesh import MemoryMesh

_GONE_S = 8.0
"""The bound with the default periods; a real server adds its own half a second at most."""
_STEP_S = 0.05


async def _agents(mesh: MemoryMesh, count: int) -> list[Registry]:
    """Return registries with one agent each: `i0`, `i1`."""
    registries = [await mesh.join() for _ in range(count)]
    for number, registry in enumerate(registries):
        await registry.announce(describe(f"i{number}"))
    return registries


async def _gone_s(mesh: MemoryMesh, *killed: Registry) -> float:
    """Return the seconds until no living process has the dead in its table, at most 20."""
    dead = {registry.process for registry in killed}
    started_s = mesh.clock.monotonic_s()
    while any(d.process in dead for r in mesh.wires for d in r.table.everybody()):
        await mesh.clock.advance(_STEP_S)
        if mesh.clock.monotonic_s() - started_s > 20:
            break
    return mesh.clock.monotonic_s() - started_s


_SOME = [0, pytest.param(1, marks=pytest.mark.slow)]
"""Worlds of one kind; one of them, in some of its moments, among the quick tests."""


def _moments(number: int) -> range:
    """Return in which moments somebody is killed, in so many of a keeper's beats."""
    return range(0, 12, 1 if number else 4)


@pytest.mark.parametrize("who", ["keeper", "other", "both"])
@pytest.mark.parametrize("number", _SOME)
async def test_the_dead_are_gone_in_time(seed: int, number: int, who: str) -> None:
    """At whatever moment whoever is killed, the keeper too, it is gone from every table in 8 s."""
    slowest_s = 0.0
    for phase in _moments(number):
        mesh = MemoryMesh(seed + number * 100 + phase)
        await _agents(mesh, 2 + phase % 3)
        await mesh.clock.advance(5)  # and so one of these is the keeper, and not the next
        await mesh.join()
        await mesh.clock.advance(30 + phase * 0.21)
        (keeper,) = mesh.keepers()
        other = next(r for r in mesh.wires if r is not keeper and len(r._directory.wanted_keys()))
        killed = {"keeper": [keeper], "other": [other], "both": [keeper, other]}[who]
        for registry in killed:
            await mesh.kill(registry)
        slowest_s = max(slowest_s, await _gone_s(mesh, *killed))
        assert {r.process for r in killed} == mesh.removed
        await mesh.aclose()
    assert slowest_s <= _GONE_S


@pytest.mark.parametrize("number", _SOME)
async def test_the_dead_of_an_interregnum_are_gone_in_time(seed: int, number: int) -> None:
    """Who died before the keeper did, and whose lease ended unseen, is gone 8 s after the keeper.

    A successor that never saw the lease cannot tell the dead from those whose leases were lost;
    it waits until everybody alive had the chance to refresh, and no longer.
    """
    slowest_s = 0.0
    for phase in _moments(number):
        mesh = MemoryMesh(seed + number * 100 + phase)
        registries = await _agents(mesh, 4)
        await mesh.clock.advance(30 + phase * 0.21)
        (keeper,) = mesh.keepers()
        other = next(r for r in registries if r is not keeper)
        await mesh.kill(other)
        await mesh.clock.advance(4.0 + phase * 0.25)
        await mesh.kill(keeper)
        slowest_s = max(slowest_s, await _gone_s(mesh, keeper, other))
        assert mesh.removed <= {keeper.process, other.process}
        await mesh.aclose()
    assert slowest_s <= _GONE_S


@pytest.mark.parametrize("number", range(6))
async def test_a_newcomer_removes_the_only_other(seed: int, number: int) -> None:
    """A client that came right before the only other process was killed removes it within 10 s."""
    mesh = MemoryMesh(seed + number)
    (only,) = await _agents(mesh, 1)
    await mesh.clock.advance(30 + number * 0.4)
    await mesh.join()
    await mesh.kill(only)
    assert await _gone_s(mesh, only) <= 10
    await mesh.aclose()


class _World:
    """A mesh on which everything may fail but the living processes; some are killed, too."""

    def __init__(self, seed: int) -> None:
        self.mesh = MemoryMesh(seed)
        self.killed: set[str] = set()
        self._chance = random.Random(seed)
        self._count = 0

    async def step(self) -> None:
        """Let some time pass, then do one or two things at once."""
        await self.mesh.clock.advance(self._chance.choice((0.0, 0.3, 1.0, 2.5, 5.0, 9.0)))
        deeds = (self.outage, self.pause, self.wipe, self.wipe, self.depose, self.kill, self.join)
        for _ in range(self._chance.choice((1, 1, 2, 3))):
            await self._chance.choice(deeds)()

    async def join(self) -> None:
        """One more process with an agent."""
        if len(self.mesh.wires) < 6:
            self._count += 1
            registry = await self.mesh.join()
            await registry.announce(describe(f"i{self._count}"))

    async def outage(self) -> None:
        """All links are away for a time, and come back one by one within 2 s."""
        registries = list(self.mesh.wires)
        self.mesh.cut(*registries)
        await self.mesh.clock.advance(self._chance.choice((0.5, 3.0, 5.0, 6.9, 8.0, 40.0)))
        for registry in registries:
            self.mesh.restore(registry)
            await self.mesh.clock.advance(self._chance.random() * 2 / len(registries))

    async def pause(self) -> None:
        """The server stands still for a time, and no link notices."""
        self.mesh.freeze()
        await self.mesh.clock.advance(self._chance.choice((0.5, 2.0, 4.0, 4.6, 5.2, 6.8, 9.0, 20)))
        self.mesh.thaw()
        await self.mesh.clock.advance(self._chance.choice((0.0, 0.5)))

    async def wipe(self) -> None:
        """A bucket is lost, and perhaps made again by somebody before others look."""
        lost = self._chance.choice(("registry", "leases", "leases", "keeper"))
        await self.mesh.journal.delete_stream(f"KV_a99_m1_{lost}")

    async def depose(self) -> None:
        """The keeper loses its place, and a successor is elected."""
        await self.mesh.journal.delete_stream("KV_a99_m1_keeper")
        await self.mesh.clock.advance(self._chance.random())

    async def kill(self) -> None:
        """A process ends without a word, half of the time the keeper."""
        if len(self.mesh.wires) < 3:
            return
        victims = self._chance.choice((self.mesh.keepers(), list(self.mesh.wires)))
        if victims:
            self.killed.add(victims[0].process)
            await self.mesh.kill(victims[0])


async def _play(seed: int) -> None:
    world = _World(seed)
    for _ in range(4):
        await world.join()
    for _ in range(25):
        await world.step()
        assert world.mesh.removed <= world.killed
    await world.mesh.clock.advance(40)
    assert world.mesh.removed <= world.killed
    living = {registry.process for registry in world.mesh.wires}
    for registry in world.mesh.wires:
        assert living == {d.process for d in registry.table.everybody()}
    await world.mesh.aclose()


@pytest.mark.parametrize("number", range(6))
async def test_the_living_are_never_removed(seed: int, number: int) -> None:
    """Across outages and pauses of any length, wiped buckets, and changes of the keeper."""
    await _play(seed + number)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
async def test_the_living_are_never_removed_in_many_worlds(seed: int, number: int) -> None:
    """The same, at length."""
    for repeat in range(10):
        await _play(seed + 1_000 + number * 10 + repeat)


@pytest.mark.slow
async def test_a_short_lease_gap_of_the_server_kills_nobody() -> None:
    """A server that stands still until leases run out, while the links stay, removes nobody."""
    for tenths in range(40, 75):
        mesh = MemoryMesh(tenths)
        await _agents(mesh, 4)
        await mesh.clock.advance(20 + tenths / 7)
        mesh.freeze()
        await mesh.clock.advance(tenths / 10)
        mesh.thaw()
        await mesh.clock.advance(15)
        assert set() == mesh.removed
        await mesh.aclose()


@pytest.mark.slow
async def test_a_wiped_lease_bucket_and_a_new_keeper_kill_nobody() -> None:
    """A successor that finds all leases but few lost waits until the living have refreshed."""
    for tenths in range(30):
        mesh = MemoryMesh(tenths)
        await _agents(mesh, 5)
        await mesh.clock.advance(20)
        (keeper,) = mesh.keepers()
        await mesh.kill(keeper)
        await mesh.clock.advance(tenths / 7)
        await mesh.journal.delete_stream("KV_a99_m1_leases")
        await mesh.clock.advance(20)
        assert {keeper.process} == mesh.removed
        await mesh.aclose()
