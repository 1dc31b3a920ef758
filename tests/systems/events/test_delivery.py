"""Who is given an event, while instances hang, pause, refuse, come and go."""

from __future__ import annotations

from collections import Counter

import pytest

from agent99 import Mesh, OverloadedError, named, operation
from agent99.agent import Peer
from agent99.groups import CloudEvent, Event, inspect_group
from agent99.systems.events import EventBusAgent, Mode
from agent99.systems.events._delivery import Delivery
from tests._wait import eventually
from tests.groups.conftest import OpenMesh
from tests.systems.events.test_bus import Heard, publish, subscribe
from tests.systems.events.test_bus_links import Place, Slow, place  # noqa: F401 - a fixture

TAKEN_OVER_S = 5.0
"""From the moment that an instance stands still."""


class Full(Slow):
    """Takes one at a time, has room for one more, and refuses what is beyond."""

    concurrency_max = 1
    waiting_max = 1

    @operation(idempotent=True)
    async def handle_event(self, event: CloudEvent) -> None:
        """Take an event, when it may."""
        await super().handle_event(event)


def most_often(heard: Heard) -> int:
    """Return how often it was given one event, at most."""
    return max(Counter(event.id for event in heard.events).values())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["one", "every"])
async def test_an_instance_that_stands_still(place: Place, mode: Mode) -> None:  # noqa: F811 - the fixture
    """Another one has each event in time, nothing has failed, and who hung is asked again."""
    first, second = Slow(), Slow()
    first.may_end.set()
    second.may_end.set()
    mesh, proxy = await place.open_behind()
    await mesh.host(first)
    other = await place.open()
    await other.host(EventBusAgent(), second)
    subscription = (await subscribe(other, mode)).subscription
    await publish(other, 0)
    await eventually(lambda: first.taken == 1)
    before = second.taken
    proxy.stall()
    await publish(other, 1)
    await eventually(lambda: second.taken == before + 1, timeout_s=TAKEN_OVER_S)
    proxy.heal()
    await publish(other, 2)
    await eventually(lambda: second.taken == before + 2, timeout_s=TAKEN_OVER_S)
    if mode == "every":
        await eventually(lambda: first.taken >= 3)
    assert 0 == (await inspect_group(other, subscription)).failures


async def test_who_has_taken_it_is_not_asked_again(
    open_mesh: OpenMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every instance those are asked again that were full, and they alone."""
    refusals, ask = 0, Delivery._request

    async def count(delivery: Delivery, to: Peer | str, event: Event) -> None:
        nonlocal refusals
        try:
            await ask(delivery, to, event)
        except OverloadedError:
            refusals += 1
            raise

    monkeypatch.setattr(Delivery, "_request", count)
    mesh, other, heard, full = await open_mesh(), await open_mesh(), Heard(), Full()
    await mesh.host(EventBusAgent(), heard)
    await other.host(full)
    subscription = (await subscribe(mesh, "every")).subscription
    for number in range(4):
        await publish(mesh, number, key=f"k{number}")
    await eventually(lambda: refusals >= 6)
    full.may_end.set()
    await eventually(lambda: full.taken == 4)
    assert (1, 4) == (most_often(heard), len(heard.events))
    assert 0 == (await inspect_group(mesh, subscription)).failures


async def test_who_has_taken_it_is_not_asked_again_after_a_failure(open_mesh: OpenMesh) -> None:
    """Of every instance those are tried again that failed, and they alone."""

    class Broken(Heard):
        """Breaks once."""

        @operation(idempotent=True)
        async def handle_event(self, event: CloudEvent) -> None:
            """Break, then take it."""
            self.attempts += 1
            if self.attempts == 1:
                raise ValueError("broken")
            self.events.append(event)

    mesh, other, heard, broken = await open_mesh(), await open_mesh(), Heard(), Broken()
    await mesh.host(EventBusAgent(), heard)
    await other.host(broken)
    await subscribe(mesh, "every")
    await publish(mesh, 0)
    await eventually(lambda: broken.events)
    assert (1, 2) == (len(heard.events), broken.attempts)


async def test_who_pauses_is_given_it_later(open_mesh: OpenMesh) -> None:
    """Every instance means those that pause, too: they have it once they go on."""

    class Other(Heard):
        """An agent of another name."""

    mesh, third = await open_mesh(), await open_mesh()
    heard, paused = Heard(), Other()
    await mesh.host(EventBusAgent(), heard)
    await third.host(paused)
    await subscribe(mesh, "every")
    assert 1 == (await third.control(named("other"), "pause")).asked
    await eventually(lambda: len(mesh.link.registry.table.discover("shipping")) == 1)
    await publish(mesh, 1)
    await eventually(lambda: heard.events)
    assert [] == paused.events
    await third.control(named("other"), "resume")
    await eventually(lambda: paused.events)
    assert (1, 1) == (len(heard.events), len(paused.events))


async def test_who_leaves_is_not_waited_for(open_mesh: OpenMesh) -> None:
    """An instance that is gone before it has taken an event keeps nobody else waiting."""
    mesh, other, heard, full = await open_mesh(), await open_mesh(), Heard(), Full()
    await mesh.host(EventBusAgent(), heard)
    await other.host(full)
    await subscribe(mesh, "every")
    await publish(mesh, 0)
    await eventually(lambda: full.begun)
    await other.stop(full)
    await publish(mesh, 1)
    await eventually(lambda: len(heard.events) == 2)


async def start_in_turn(meshes: list[Mesh]) -> list[Heard]:
    """Start an instance on each mesh, each at a microsecond of its own."""
    agents = [Heard() for _ in meshes]
    for mesh, agent in zip(meshes, agents, strict=True):
        await mesh.host(agent)
    return agents


async def test_the_one_stays_when_another_bus_takes_over(open_mesh: OpenMesh) -> None:
    """Every instance of the bus chooses the one that was there first."""
    meshes = [await open_mesh() for _ in range(6)]
    one, two = await open_mesh(), await open_mesh()
    bus = EventBusAgent()
    agents = await start_in_turn(meshes)
    await one.host(bus)
    await subscribe(one, "one")
    await publish(one, 1)
    await eventually(lambda: agents[0].events)
    await two.host(EventBusAgent())
    await one.stop(bus)
    await publish(two, 2)
    await eventually(lambda: sum(len(agent.events) for agent in agents) == 2)
    assert 2 == len(agents[0].events)
    await meshes[0].stop(agents[0])
    await publish(two, 3)
    await eventually(lambda: sum(len(agent.events) for agent in agents) == 3)
    assert 1 == len(agents[1].events)
