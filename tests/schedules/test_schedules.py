"""Schedules: made, listed and cancelled by whoever is on the mesh, and fired by whoever fires."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from agent99 import Agent, Mesh, UsageError, operation
from agent99.errors import ClosedError, InvalidNameError, PayloadTooLargeError
from agent99.schedules import At, Cron, Every, Schedules
from agent99.schedules._cron import micros_of
from tests._wait import PATIENCE_S, eventually
from tests.schedules._fired import fired, moment, wait_fired
from tests.schedules.conftest import OpenMesh

FAR = datetime(2031, 5, 1, tzinfo=UTC)


# --- firing ---------------------------------------------------------------------------------------


async def test_at_a_moment(mesh: Mesh) -> None:
    """An event comes at its moment, once, with its key, and says which moment it was."""
    when = moment(0.3)
    async with Schedules(mesh) as schedules:
        made = await schedules.at(when, "tea.ready", {"cup": 1}, key="kitchen")
        (event,) = await wait_fired(mesh, 1)
        await eventually(lambda: schedules.statistics().known == 0)
        assert () == await schedules.list()
    assert ("tea.ready", "kitchen", {"cup": 1}, made) == event[1:5]
    assert micros_of(when) == event.due_us
    assert 0 <= event.stored_us - event.due_us < 1_000_000
    assert mesh.link.subjects.sender == event.from_uuid
    assert 1 == schedules.statistics().fired


async def test_every_so_often(mesh: Mesh) -> None:
    """A period's events come at its moments, each once, and none at another."""
    start = moment(0.2)
    async with Schedules(mesh) as schedules:
        made = await schedules.every(1, "clock.tick", start=start)
        events = await wait_fired(mesh, 3)
        (one,) = await schedules.list()
        assert await schedules.cancel(made)
    first_us = micros_of(start)
    assert [first_us + n * 1_000_000 for n in range(3)] == [event.due_us for event in events]
    assert all(0 <= event.stored_us - event.due_us < 1_000_000 for event in events)
    assert 3 == len({event.event_id for event in events})
    assert [event.event_id for event in events] == [event.key for event in events]
    assert (Every(1_000_000, first_us), 3, first_us + 2_000_000) == (
        one.rule,
        one.fired,
        one.last_us,
    )


async def test_what_is_past_is_due_at_once(mesh: Mesh) -> None:
    """What is due while nobody fires comes as soon as somebody does, once."""
    schedules = Schedules(mesh)
    await schedules.at(moment(-3600), "late.one", {"n": 1})
    await schedules.at(moment(-1), "late.two", {"n": 2}, id="two")
    assert [] == await fired(mesh)
    async with schedules:
        events = await wait_fired(mesh, 2)
        await eventually(lambda: schedules.statistics().fired == 2)
        assert {"late.one", "late.two"} == {event.topic for event in events}
        (over,) = await schedules.list()
    assert ("two", None, None, 1) == (over.id, over.next_us, over.next_at, over.fired)
    assert 2 == len(await fired(mesh))


async def test_two_processes_fire_one_event(open_mesh: OpenMesh) -> None:
    """However many processes fire, each moment is stored once, and counted by one of them."""
    meshes = [await open_mesh() for _ in range(3)]
    firing = [Schedules(mesh) for mesh in meshes]
    async with firing[0], firing[1], firing[2]:
        for number in range(20):
            await firing[0].at(moment(0.3), "race.run", {"n": number})
        await firing[1].every(1, "race.tick", start=moment(0.3), id="tick")
        await wait_fired(meshes[0], 22)
        await eventually(lambda: sum(one.statistics().fired for one in firing) >= 22)
        await firing[2].cancel("tick")
    events = await fired(meshes[0])
    assert set(range(20)) == {e.body["n"] for e in events if e.topic == "race.run"}
    assert len(events) == len({event.event_id for event in events})
    assert len(events) == sum(one.statistics().fired for one in firing)


async def test_the_next_one_goes_on(open_mesh: OpenMesh) -> None:
    """When a process stops firing, another one does, without a moment left out."""
    one, two = await open_mesh(), await open_mesh()
    schedules = Schedules(two)
    start = moment(0.2)
    await schedules.every(1, "clock.tick", start=start)
    async with Schedules(one):
        await wait_fired(two, 1)
    async with schedules:
        events = await wait_fired(two, 3)
    assert [micros_of(start) + n * 1_000_000 for n in range(3)] == [e.due_us for e in events][:3]


async def test_an_agent_has_schedules_too(mesh: Mesh) -> None:
    """An agent fires from its start to its stop, and its events come from it."""

    class Clock(Agent):
        capabilities = ("clock",)

        async def start(self) -> None:
            self.schedules = Schedules(self)
            await self.schedules.__aenter__()
            await self.schedules.at(moment(0), "clock.began")

        @operation
        async def ask(self) -> int:
            return 0

        async def stop(self) -> None:
            await self.schedules.__aexit__(None, None, None)

    clock = Clock()
    await mesh.host(clock)
    (event,) = await wait_fired(mesh, 1)
    assert clock.instance == event.from_uuid
    await mesh.stop(clock)
    with pytest.raises(UsageError, match="not running"):
        Schedules(Clock())


# --- making ---------------------------------------------------------------------------------------


async def test_set_up_code_may_run_again(open_mesh: OpenMesh) -> None:
    """The same id with the same content makes nothing new, by whomever, before and after."""
    one, two = [Schedules(await open_mesh()) for _ in range(2)]
    when = moment(-1)
    for schedules in (one, two, one):
        assert "tea" == await schedules.at(when, "tea.ready", {"a": 1, "b": 2}, id="tea")
        assert "rest" == await schedules.every(timedelta(hours=1), "rest.due", id="rest")
        assert "wake" == await schedules.cron("0 7 * * *", "wake.up", zone="Asia/Tokyo", id="wake")
    before = await one.list()
    async with two:
        await wait_fired(two_mesh := await open_mesh(), 1)
        await eventually(lambda: two.statistics().fired == 1)
        await one.at(when, "Tea.Ready", {"b": 2, "a": 1}, id="Tea")
    assert 1 == len(await fired(two_mesh))
    rest, wake, over = await one.list()
    assert [rest, wake] == [each for each in before if each.id != "tea"]
    assert ("tea", None) == (over.id, over.next_us)


@pytest.mark.parametrize(
    "other",
    [
        {"topic": "rest.over"},
        {"event": {"n": 2}},
        {"key": "k"},
        {"period": 7},
        {"missed": "skip"},
        {"start": FAR},
    ],
)
async def test_an_id_with_another_content(mesh: Mesh, other: dict[str, Any]) -> None:
    """An id that is there with another content is refused; once it is cancelled it is free."""
    schedules = Schedules(mesh)
    same: dict[str, Any] = {"period": 5, "topic": "rest.due", "event": {"n": 1}, "id": "rest"}
    await schedules.every(**same)
    with pytest.raises(UsageError, match="'rest' is there already"):
        await schedules.every(**{**same, **other})
    with pytest.raises(UsageError, match="'rest' is there already"):
        await schedules.at(FAR, "rest.due", {"n": 1}, id="rest")
    assert await schedules.cancel("rest")
    await schedules.every(**{**same, **other})


async def test_list_and_cancel(mesh: Mesh) -> None:
    """What there is, the next one first; cancelling says whether it was there."""
    schedules = Schedules(mesh)
    assert () == await schedules.list()
    far = await schedules.at(FAR, "far.off", {"n": 1}, key="k")
    near = await schedules.cron("*/5 * * * *", "near.by", missed="skip")
    first, second = await schedules.list()
    assert (near, Cron("*/5 * * * *", "UTC"), "skip") == (first.id, first.rule, first.missed)
    assert (far, At(micros_of(FAR)), "k", FAR) == (
        second.id,
        second.rule,
        second.key,
        second.next_at,
    )
    assert {"n": 1} == msgspec.json.decode(second.event)
    assert await schedules.cancel(near)
    assert not await schedules.cancel(near)
    assert [far] == [each.id for each in await schedules.list()]


async def test_what_is_cancelled_does_not_come(mesh: Mesh) -> None:
    """A schedule that is cancelled before its moment is not fired."""
    async with Schedules(mesh) as schedules:
        made = await schedules.at(moment(0.4), "never.more")
        await schedules.at(moment(0.6), "but.this")
        await schedules.cancel(made)
        await wait_fired(mesh, 1)
    assert ["but.this"] == [event.topic for event in await fired(mesh)]


async def test_made_anew_it_is_another_one(mesh: Mesh) -> None:
    """A schedule that is cancelled and made anew for the same moment has an event of its own."""
    when = moment(-1)
    async with Schedules(mesh) as schedules:
        for number in range(2):
            await schedules.at(when, "made.anew", {"n": number}, id="anew")
            await wait_fired(mesh, number + 1)
            await eventually(lambda n=number: schedules.statistics().fired == n + 1)
            await schedules.cancel("anew")
    assert [0, 1] == [event.body["n"] for event in await fired(mesh)]


NAIVE = datetime(2031, 5, 1)  # noqa: DTZ001 - a time without a zone is what is refused


@pytest.mark.parametrize(
    ("how", "what", "error", "says"),
    [
        ("at", {"when": NAIVE}, UsageError, "needs a time zone"),
        ("at", {"when": 5.0}, UsageError, "is a datetime"),
        ("at", {"when": moment(11 * 366 * 86_400)}, UsageError, "within ten years"),
        ("at", {"topic": "no topic"}, InvalidNameError, "topic"),
        ("at", {"key": ""}, InvalidNameError, "key"),
        ("at", {"id": "no.id"}, InvalidNameError, "schedule"),
        ("at", {"event": [1]}, UsageError, "object"),
        ("at", {"event": {"header": 1}}, UsageError, "header"),
        ("at", {"event": {"text": "x" * 2_000_000}}, PayloadTooLargeError, "event"),
        ("every", {"period": 0.9}, UsageError, "1 s to ten years"),
        ("every", {"period": float("nan")}, UsageError, "1 s to ten years"),
        ("every", {"period": float("inf")}, UsageError, "1 s to ten years"),
        ("every", {"period": timedelta(days=4_000)}, UsageError, "1 s to ten years"),
        ("every", {"period": True}, UsageError, "seconds or a timedelta"),
        ("every", {"period": "5"}, UsageError, "seconds or a timedelta"),
        ("every", {"start": NAIVE}, UsageError, "needs a time zone"),
        ("every", {"start": moment(11 * 366 * 86_400)}, UsageError, "within ten years"),
        ("every", {"missed": "all"}, UsageError, "'once' or 'skip'"),
        ("cron", {"expression": "61 * * * *"}, UsageError, "Bad minute"),
        ("cron", {"expression": 5}, UsageError, "is text"),
        ("cron", {"zone": "Mars/Olympus"}, UsageError, "no time zone"),
        ("cron", {"missed": "all"}, UsageError, "'once' or 'skip'"),
    ],
)
async def test_what_is_refused(
    mesh: Mesh, how: str, what: dict[str, Any], error: type[Exception], says: str
) -> None:
    """A schedule that makes no sense is refused, and nothing is stored."""
    schedules = Schedules(mesh)
    first = {"at": "when", "every": "period", "cron": "expression"}[how]
    good: dict[str, Any] = {"when": FAR, "period": 5, "expression": "* * * * *"}
    given = {first: good[first], "topic": "rest.due", **what}
    with pytest.raises(error, match=says):
        await getattr(schedules, how)(**given)
    assert () == await schedules.list()


async def test_entered_once(mesh: Mesh) -> None:
    """What was entered is not entered again, and a mesh that is closed has no schedules."""
    schedules = Schedules(mesh)
    assert "not firing" in repr(schedules)
    async with schedules:
        assert "firing, 0 known" in repr(schedules)
        with pytest.raises(UsageError, match="entered before"):
            await schedules.__aenter__()
    await mesh.aclose()
    with pytest.raises(ClosedError):
        Schedules(mesh)


async def test_a_mesh_that_closes_first(mesh: Mesh) -> None:
    """When the mesh is closed under what fires, it ends without a noise."""
    async with asyncio.timeout(PATIENCE_S):
        async with Schedules(mesh) as schedules:
            await schedules.every(3600, "rest.due")
            await mesh.aclose()
