"""The event bus: what is published is stored, and comes to who subscribed, however they come."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Agent, Failure, Mesh, operation
from agent99.envelope import ENVELOPE_BYTES
from agent99.errors import PayloadTooLargeError
from agent99.groups import CloudEvent, inspect_group
from agent99.systems.events import (
    AuditAgent,
    EventBusAgent,
    Events,
    Logged,
    Mode,
    Published,
    Subscribed,
    Subscriptions,
)
from tests._wait import PATIENCE_S, eventually
from tests.groups.conftest import OpenMesh

BODY_BYTES_MAX = 1024 * 1024 - ENVELOPE_BYTES


class Heard(Agent):
    """Takes events, and remembers them."""

    capabilities = ("shipping",)

    def __init__(self) -> None:
        self.events: list[CloudEvent] = []
        self.fails_at: set[int] = set()
        self.attempts = 0

    @operation(idempotent=True)
    async def handle_event(self, event: CloudEvent) -> None:
        """Take an event."""
        self.attempts += 1
        if number_of(event) in self.fails_at:
            raise Failure("no such order", code="NO_ORDER")
        self.events.append(event)

    @property
    def numbers(self) -> dict[str, list[int]]:
        """What it took, by key."""
        by_key: dict[str, list[int]] = defaultdict(list)
        for event in self.events:
            by_key[event.subject or ""].append(number_of(event))
        return dict(by_key)


def number_of(event: CloudEvent) -> int:
    """Return the number that the tests publish."""
    number: int = msgspec.json.decode(event.data)["number"]
    return number


async def publish(mesh: Mesh, number: int, key: str = "7", **more: Any) -> Published:
    """Publish an event."""
    event = {"type": "order.placed", "subject": key, "data": {"number": number}} | more
    return await mesh.request("event_bus", "publish", event, returns=Published)


async def subscribe(mesh: Mesh, mode: Mode = "group", **more: Any) -> Subscribed:
    """Subscribe `Heard`."""
    request = {"event_type": "order.*", "subscriber": "shipping", "mode": mode, **more}
    return await mesh.request("event_bus", "subscribe", request, returns=Subscribed)


async def get_events(mesh: Mesh, **request: Any) -> Events:
    """Ask for stored events."""
    return await mesh.request("event_bus", "get_events", request, returns=Events)


async def test_what_is_published_is_stored_and_comes(open_mesh: OpenMesh) -> None:
    """It comes to the subscriber in order per key, in the name and at the time of who published."""
    mesh, other = await open_mesh(), await open_mesh()
    heard, when = Heard(), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    await mesh.host(EventBusAgent(), heard)
    answer = await subscribe(other)
    assert (True, "order.*", "shipping", "group") == (
        answer.subscribed,
        answer.event_type,
        answer.subscriber,
        answer.mode,
    )
    first = await publish(other, 0, time=when)
    assert (True, 1) == (first.published, first.subscribers_notified)
    await asyncio.gather(*(publish(other, 0, key=f"k{key}") for key in range(5)))
    await publish(other, 1)
    await eventually(lambda: len(heard.events) == 7)
    assert {"7": [0, 1], **{f"k{key}": [0] for key in range(5)}} == heard.numbers
    (event,) = (event for event in heard.events if event.id == first.event_id)
    assert (first.event_id, when, "1.0", "order.placed", "7") == (
        event.id,
        event.time,
        event.specversion,
        event.type,
        event.subject,
    )
    await other.append("order.placed", {"number": 2}, key="7")
    await eventually(lambda: len(heard.events) == 8)
    assert 1 == len({event.source for event in heard.events}), "who published, not the bus"
    assert 0 == (await publish(other, 0, type="invoice.sent")).subscribers_notified


async def test_the_same_id_is_one_event(mesh: Mesh) -> None:
    """Who repeats a publish under its id stores nothing twice."""
    await mesh.host(EventBusAgent())
    ids = {(await publish(mesh, 1, id="order-7-placed")).event_id for _ in range(3)}
    assert ({"order-7-placed"}, 1) == (ids, (await get_events(mesh)).count)


OTHERS: list[dict[str, Any]] = [
    {"number": 2},
    {"number": 1, "key": "8"},
    {"number": 1, "type": "order.cancelled"},
]


@pytest.mark.parametrize("other", OTHERS, ids=["data", "key", "type"])
async def test_another_event_under_an_id_that_was_used(
    open_mesh: OpenMesh, other: dict[str, Any]
) -> None:
    """It is refused, since it would not be stored; the same event is not, whoever publishes it."""
    mesh, second = await open_mesh(), await open_mesh()
    await mesh.host(EventBusAgent())
    data = {"number": 1, "more": {"a": 1, "b": [1.5, None]}}
    await publish(mesh, 1, id="7", data=data)
    turned = {"more": {"b": [1.5, None], "a": 1}, "number": 1}
    assert (await publish(second, 1, id="7", data=turned)).published
    with pytest.raises(Failure, match="another event was published under this id: '7'") as caught:
        await publish(second, **other, id="7")
    assert "INVALID_EVENT" == caught.value.code
    assert 1 == (await get_events(mesh)).count


async def test_a_subscriber_that_is_away_misses_nothing(open_mesh: OpenMesh) -> None:
    """Events wait until somebody offers the capability; a bus that is gone keeps no one waiting."""
    mesh, other = await open_mesh(), await open_mesh()
    first, second, heard = EventBusAgent(), EventBusAgent(), Heard()
    await mesh.host(first)
    subscription = (await subscribe(mesh)).subscription
    for number in range(3):
        await publish(mesh, number)
    await mesh.stop(first)
    await other.host(second)
    assert 3 == (await inspect_group(other, subscription)).lag
    await other.host(heard)
    await eventually(lambda: heard.numbers == {"7": [0, 1, 2]})
    again = await subscribe(other)
    assert subscription == again.subscription, "the same one is no other"
    all_of_them = await other.request("event_bus", "subscriptions", returns=Subscriptions)
    assert [subscription] == [each.group for each in all_of_them.subscriptions]


@pytest.mark.parametrize("mode", ["group", "every", "one"])
async def test_who_is_given_an_event(open_mesh: OpenMesh, mode: Mode) -> None:
    """Any one, every one, or the same one as long as it lives."""
    meshes = [await open_mesh() for _ in range(3)]
    agents = [Heard() for _ in meshes]
    for mesh, agent in zip(meshes, agents, strict=True):
        await mesh.host(agent)
    await meshes[0].host(EventBusAgent())
    await subscribe(meshes[0], mode)
    for number in range(12):
        await publish(meshes[1], number, key=f"k{number % 4}")
    each = 36 if mode == "every" else 12
    await eventually(lambda: sum(len(agent.events) for agent in agents) == each)
    counts = sorted(len(agent.events) for agent in agents)
    if mode == "group":
        merged = sorted(number for agent in agents for n in agent.numbers.values() for number in n)
        assert list(range(12)) == merged
        return
    assert ([12, 12, 12] if mode == "every" else [0, 0, 12]) == counts
    if mode == "one":
        active = max(range(3), key=lambda index: len(agents[index].events))
        assert list(range(12)) == [number_of(event) for event in agents[active].events]
        await meshes[active].stop(agents[active])
        await publish(meshes[(active + 1) % 3], 12)
        others = [agent for agent in agents if agent is not agents[active]]
        await eventually(lambda: sorted(len(agent.events) for agent in others) == [0, 1])


async def test_what_a_subscriber_refuses(mesh: Mesh) -> None:
    """It goes into quarantine at once, and its key goes on."""
    heard = Heard()
    heard.fails_at = {1}
    await mesh.host(EventBusAgent(), heard)
    subscription = (await subscribe(mesh)).subscription
    for number in range(3):
        await publish(mesh, number)
    await eventually(lambda: heard.numbers == {"7": [0, 2]})
    kept = [each async for each in mesh.link.durable.quarantine.records()]
    assert [(subscription, "NO_ORDER", "not_retryable", 1)] == [
        (each.capability, each.code, each.reason, each.attempts) for each in kept
    ]


async def test_a_subscription_that_is_reset_and_taken_back(mesh: Mesh) -> None:
    """Reset, it gives everything once more; taken back, it gives nothing any more."""
    heard = Heard()
    await mesh.host(EventBusAgent(), heard)
    await publish(mesh, 0)
    subscription = (await subscribe(mesh, start="first")).subscription
    await eventually(lambda: heard.numbers == {"7": [0]})
    await mesh.request("event_bus", "reset", {"group": subscription, "start": "first"})
    await eventually(lambda: heard.numbers == {"7": [0, 0]})
    taken = {"subscription": subscription}
    for expected in (True, False):
        answer = await mesh.request("event_bus", "unsubscribe", taken)
        assert {"unsubscribed": expected} == answer
    await publish(mesh, 1)
    again = (await subscribe(mesh)).subscription
    await publish(mesh, 2)
    await eventually(lambda: heard.numbers == {"7": [0, 0, 2]})
    assert subscription != again


async def test_what_happened(mesh: Mesh) -> None:
    """Stored events are given by topic, key and time, the oldest first, a page at a time."""
    await mesh.host(EventBusAgent())
    for number in range(5):
        await publish(mesh, number, key=f"k{number % 2}")
    await mesh.append("invoice.sent", {"number": 9}, key="k0")
    page = await get_events(mesh, event_type="order.*", limit=3)
    assert ([0, 1, 2], 3, True) == (list(map(number_of, page.events)), page.count, page.more)
    after = int(page.events[-1].sequence or 0)
    rest = await get_events(mesh, event_type="order.*", after=after)
    assert ([3, 4], False) == (list(map(number_of, rest.events)), rest.more)
    assert 3 == (await get_events(mesh, event_type="order.*", subject="k0")).count
    now = datetime.now(UTC)
    assert 6 == (await get_events(mesh, since=now - timedelta(minutes=1))).count
    with pytest.raises(Failure, match="in the future"):
        await get_events(mesh, since=now + timedelta(days=1))


BAD_EVENTS: list[tuple[dict[str, Any], str]] = [
    ({"type": ""}, "has no type"),
    ({"type": "order.*"}, "order.*"),
    ({"type": "order.placed", "event_type": "order.paid"}, "two types"),
    ({"type": "order.placed", "data": {"header": 1}}, "header"),
    ({"type": "order.placed", "subject": ""}, "key"),
    ({"type": "order.placed", "subject": "x" * 129}, "key"),
    ({"type": "order.placed", "id": "a b"}, "id"),
    ({"type": "order.placed", "time": "1969-12-31T23:59:59Z"}, "before 1970"),
    ({"type": "order.placed", "data": {"text": "x" * (BODY_BYTES_MAX - 150)}}, "over the limit"),
]


@pytest.mark.parametrize(("event", "named"), BAD_EVENTS, ids=range(len(BAD_EVENTS)))
async def test_what_is_no_event(mesh: Mesh, event: dict[str, Any], named: str) -> None:
    """A bad event is refused in words, and nothing is stored."""
    await mesh.host(EventBusAgent())
    with pytest.raises(Failure, match=named) as caught:
        await mesh.request("event_bus", "publish", event)
    assert "INVALID_EVENT" == caught.value.code
    assert 0 == (await get_events(mesh)).count


async def test_an_event_that_is_too_large(mesh: Mesh) -> None:
    """What the server does not take is refused before it is sent."""
    await mesh.host(EventBusAgent())
    with pytest.raises(PayloadTooLargeError):
        await publish(mesh, 1, key="7", data={"text": "x" * 1_040_000})


async def test_the_largest_event(mesh: Mesh) -> None:
    """What `publish` takes is delivered, and can be looked at; what it does not take is not."""
    heard, taken = Heard(), 0
    await mesh.host(EventBusAgent(), heard)
    await subscribe(mesh)
    await publish(mesh, 0)
    for spare in range(128, 512, 16):
        data = {"number": spare, "text": "x" * (BODY_BYTES_MAX - spare)}
        try:
            await publish(mesh, spare, data=data)
        except Failure:
            continue
        taken += 1
    assert 0 < taken < 24
    await eventually(lambda: len(heard.events) == taken + 1)
    after = 1
    for event in heard.events[1:]:
        page = await get_events(mesh, after=after, limit=1)
        assert (event,) == page.events
        after = int(event.sequence or 0)


async def test_an_event_that_no_answer_can_hold(mesh: Mesh) -> None:
    """One that an agent appended itself is named, and who asks can go on behind it."""
    await mesh.host(EventBusAgent())
    await publish(mesh, 0)
    await mesh.append("order.placed", {"text": "x" * (BODY_BYTES_MAX - 16)}, key="7")
    await publish(mesh, 2)
    page = await get_events(mesh)
    assert ([0], True) == (list(map(number_of, page.events)), page.more)
    with pytest.raises(Failure, match="after=2") as caught:
        await get_events(mesh, after=1)
    assert ("EVENT_TOO_LARGE", 2) == (caught.value.code, (caught.value.details or {})["sequence"])
    assert [2] == list(map(number_of, (await get_events(mesh, after=2)).events))


async def test_a_subject_that_is_the_id(mesh: Mesh) -> None:
    """An event under a chosen id has it for its subject, if it is given as such, too."""
    await mesh.host(EventBusAgent())
    await publish(mesh, 1, key="order-7", id="order-7")
    await mesh.request("event_bus", "publish", {"type": "order.placed", "data": {"number": 2}})
    assert ["order-7", None] == [event.subject for event in (await get_events(mesh)).events]
    assert 1 == (await get_events(mesh, subject="order-7")).count


async def test_what_cannot_be_asked(mesh: Mesh) -> None:
    """An unknown action, a subscription that is none, a group that is not there: each its code."""
    await mesh.host(EventBusAgent())
    with pytest.raises(Failure, match=r"no action 'burn'; there are: publish") as caught:
        await mesh.request("event_bus", payload={"action": "burn"})
    assert "INVALID_ACTION" == caught.value.code
    for wrong in (
        {"event_type": "a..b"},
        {"subscriber": "a b"},
        {"start": "tomorrow"},
        {"start": "9" * 5_000},
    ):
        with pytest.raises(Failure) as caught:
            await subscribe(mesh, **wrong)
        assert "INVALID_SUBSCRIPTION" == caught.value.code
    with pytest.raises(Failure, match="no group 'nobody'"):
        await mesh.request("event_bus", "reset", {"group": "nobody", "start": "first"})


async def test_what_is_scheduled(open_mesh: OpenMesh) -> None:
    """An event comes at its moment, once, though the bus that was asked is gone by then."""
    mesh, other, heard = await open_mesh(), await open_mesh(), Heard()
    first = EventBusAgent()
    await mesh.host(first, heard)
    await subscribe(mesh)
    due = datetime.now(UTC) + timedelta(seconds=1)
    event = {"event_type": "order.placed", "subject": "7", "data": {"number": 1}}
    made = await mesh.request("event_bus", "schedule", {**event, "at": due})
    often = await mesh.request(
        "event_bus", "schedule", {**event, "every_s": 3_600.0, "id": "often"}
    )
    await other.host(EventBusAgent())
    await mesh.stop(first)
    await eventually(lambda: heard.numbers == {"7": [1]})
    assert datetime.now(UTC) >= due
    assert ("often", True) == (often["schedule"], made["schedule"] != "often")
    for expected in (True, False):
        answer = await other.request("event_bus", "unschedule", {"schedule": "often"})
        assert {"unscheduled": expected} == answer


NO_SCHEDULES: list[dict[str, Any]] = [
    {},
    {"at": "2026-01-01T00:00:00"},
    {"every_s": 0.1},
    {"cron": "x"},
    {"every_s": 5.0, "cron": "0 9 * * *"},
    {"every_s": 5.0, "data": {"text": "x" * (BODY_BYTES_MAX - 500)}},
]


@pytest.mark.parametrize("how", NO_SCHEDULES, ids=range(len(NO_SCHEDULES)))
async def test_what_cannot_be_scheduled(mesh: Mesh, how: dict[str, Any]) -> None:
    """Without a moment, with a wrong one, or with two: in words."""
    await mesh.host(EventBusAgent())
    with pytest.raises(Failure) as caught:
        await mesh.request("event_bus", "schedule", {"event_type": "order.placed", **how})
    assert "INVALID_SCHEDULE" == caught.value.code


async def test_a_subscriber_without_the_operation(mesh: Mesh) -> None:
    """Who offers the capability and has no `handle_event` fails, and does not wait for ever."""

    class Deaf(Agent):
        """Hears nothing."""

        capabilities = ("shipping",)

        @operation
        async def ship(self) -> None:
            """Ship."""

    await mesh.host(EventBusAgent(), Deaf())
    subscription = (await subscribe(mesh)).subscription
    await publish(mesh, 0)
    async with asyncio.timeout(PATIENCE_S):
        while not (await inspect_group(mesh, subscription)).failures:
            await asyncio.sleep(0)


async def test_the_audit_log_as_a_subscriber(mesh: Mesh, tmp_path: Path) -> None:
    """Given an event, the audit agent says under which number it has it; it is not kept twice."""
    audit = AuditAgent(f"sqlite:///{tmp_path}/audit.db")
    await mesh.host(EventBusAgent(), audit)
    await publish(mesh, 1, id="e1")
    (event,) = (await get_events(mesh)).events
    for _ in range(2):
        answer = await mesh.request("audit", "handle_event", event, returns=Logged)
        assert Logged(1, logged=True) == answer
    with pytest.raises(Failure, match="no action 'forget'"):
        await mesh.request("audit", payload={"action": "forget"})
    gone = msgspec.structs.replace(event, id="gone")
    with pytest.raises(Failure, match="is not in the log"):
        await mesh.request("audit", "handle_event", gone)
