"""Customers are told once: whatever channel fails, whoever is killed, however often it is asked."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99 import Mesh, Settings, job
from agent99.clock import Clock, SystemClock
from agent99.errors import Failure, IdempotencyConflictError, RemoteError
from agent99.ids import SystemIds
from agent99.store import Store, Transaction
from agent99.systems.shop import NotificationAgent, _messages
from agent99.systems.shop._aftercare import channels
from agent99.systems.shop._agents import ATTEMPTS_MAX, DELAY_S_MAX
from agent99.systems.shop._delivery import ProviderView
from agent99.systems.shop._errors import ProviderError
from agent99.systems.shop._events import CustomerTold
from agent99.systems.shop._messages import Messages
from agent99.systems.shop._model import Channel, Notified, Notify
from agent99.systems.shop._opening import open_messages
from agent99.systems.shop._provider import PretendProvider, Receipt
from agent99.systems.shop._settings import settings_in, settings_on
from agent99.testing import ManualClock, MemoryEngine
from agent99.work import checked_curve
from tests._wait import PATIENCE_S
from tests.systems.shop._shop import an_id
from tests.systems.shop.test_templates import NEEDED

ANN = next(an_id(n) for n in range(100) if channels(an_id(n))[0] == "email")
"""Likes letters best."""
SAID = Notify("order_confirmation", ANN, an_id("order"), {"total": "2.20"})
Fault = Literal["before", "after", "down", "mute"]


class Killed(BaseException):
    """The process is gone, here and now."""


class Fragile:
    """A provider in whose hands things happen: each of its calls takes the next fault."""

    def __init__(self, pretend: PretendProvider, faults: Iterable[Fault | None] = ()) -> None:
        self.pretend = pretend
        self.faults = list(faults)

    async def send(self, channel: Channel, customer_id: UUID, text: str, *, key: str) -> Receipt:
        """Send it, and be killed before or after, or not work, or not say so."""
        fault = self.faults.pop(0) if self.faults else None
        if fault == "before":
            raise Killed
        if fault == "down":
            raise ProviderError(channel, "is down")
        receipt = await self.pretend.send(channel, customer_id, text, key=key)
        if fault == "after":
            raise Killed
        if fault == "mute":
            raise ProviderError(channel, "does not answer")
        return receipt


@asynccontextmanager
async def opened(
    url: str, clock: Clock | None = None
) -> AsyncIterator[tuple[Store, Messages, PretendProvider]]:
    """Give the messages of one more process."""
    store, messages = await open_messages(settings_on(url), clock or SystemClock(), SystemIds())
    assert isinstance(messages.provider, PretendProvider)
    try:
        yield store, messages, messages.provider
    finally:
        await store.aclose()


async def _told(store: Store) -> list[CustomerTold]:
    """Return the events that leave, or left."""

    def read(tx: Transaction) -> list[Any]:
        return tx.execute("SELECT body FROM agent99_outbox ORDER BY position").scalars()

    return [msgspec.json.decode(bytes(body), type=CustomerTold) for body in await store.read(read)]


async def test_each_type_is_told_once(url: str) -> None:
    """By order, type and number, from however many processes: one text, one event, one answer."""
    wanted = [Notify(kind, ANN, an_id("order"), data) for kind, data in NEEDED.items()]
    wanted.append(msgspec.structs.replace(wanted[-1], number=2))
    async with opened(url) as (store, first, pretend), opened(url) as (_, second, _):
        asked = [each.send(one) for one in wanted for each in (first, second, first)]
        answers = await asyncio.gather(*asked)
        assert len(wanted) == len(set(answers))
        assert answers[::3] == [await first.send(one) for one in wanted]
        assert len(wanted) == (await pretend.view()).sent
        told = await _told(store)
        key = {(each.type, each.number, each.notification_id) for each in told}
        assert {
            (w.type, w.number, a.notification_id) for w, a in zip(wanted, answers[::3], strict=True)
        } == key
        assert len(wanted) == len(told)


@pytest.fixture
def lite(tmp_path: Path) -> str:
    """Give the address of an empty SQLite database: for what does not depend on the dialect."""
    return f"sqlite:///{tmp_path}/shop.db"


async def test_the_first_channel_that_works_is_taken(lite: str) -> None:
    """In the customer's order; an answer that is lost is no second message on another channel."""
    async with opened(lite) as (store, messages, pretend):
        await pretend.set_mode("email", "down")
        assert "sms" == (await messages.send(SAID)).channel
        await pretend.set_mode("email", "mute")
        other = msgspec.structs.replace(SAID, order_id=an_id("other"))
        assert "email" == (await messages.send(other)).channel
        assert ProviderView({"email": "mute", "sms": "up"}, 2, 3) == await pretend.view()
        assert ["sms", "email"] == [each.channel for each in await _told(store)]


async def test_where_no_channel_works_it_is_tried_later(lite: str) -> None:
    """`NO_CHANNEL` says what is wrong with each; the words stay those of the first time."""
    async with opened(lite) as (store, messages, pretend):
        await pretend.set_mode(None, "down")
        with pytest.raises(Failure) as caught:
            await messages.send(SAID)
        assert ("NO_CHANNEL", True) == (caught.value.code, caught.value.retryable)
        assert {"email": "is down", "sms": "is down"} == caught.value.details["channels"]
        with pytest.raises(IdempotencyConflictError):
            await messages.send(msgspec.structs.replace(SAID, template_data={"total": "2.30"}))
        assert [] == await _told(store)
        await pretend.set_mode(None, "up")
        assert "email" == (await messages.send(SAID)).channel


class Deaf:
    """A provider that answers nothing, or that can never reach anybody."""

    def __init__(self, *, is_final: bool) -> None:
        self.is_final = is_final

    async def send(self, channel: Channel, customer_id: UUID, text: str, *, key: str) -> Receipt:
        """Refuse for good, or wait for ever."""
        del customer_id, text, key
        if not self.is_final:
            await asyncio.Event().wait()
        raise ProviderError(channel, "has no address", retryable=False)


@pytest.mark.parametrize("is_final", [False, True])
async def test_a_provider_is_not_waited_for_for_ever(
    lite: str, monkeypatch: pytest.MonkeyPatch, *, is_final: bool
) -> None:
    """A channel without an answer has failed; where none will ever work no later try is made."""
    monkeypatch.setattr(_messages, "SEND_S_MAX", 0.01)
    async with opened(lite) as (store, _, _):
        messages = Messages(store, SystemClock(), str, Deaf(is_final=is_final))
        with pytest.raises(Failure, match="has no address" if is_final else "within") as caught:
            await messages.send(SAID)
        assert is_final is not caught.value.retryable


async def test_what_cannot_be_written_is_not_written_down(lite: str) -> None:
    """Data is missing: it fails for good, and leaves nothing behind."""
    refund = Notify("order_refunded", ANN, an_id("order"))
    async with opened(lite) as (store, messages, pretend):
        with pytest.raises(Failure, match="'amount'"):
            await messages.send(refund)
        assert 0 == (await pretend.view()).calls
        complete = msgspec.structs.replace(refund, template_data={"amount": 1})
        await messages.send(complete)
        assert 1 == len(await _told(store))


_FAULTS = st.sampled_from(["before", "after", "down", "mute", None])


@settings(max_examples=12)
@given(st.lists(st.lists(_FAULTS, max_size=4), min_size=1, max_size=3))
def test_a_process_may_be_killed_at_any_moment(lives: list[list[Fault | None]]) -> None:
    """Life after life the message is taken up again, until it is told: one text, one event."""

    async def run(url: str) -> None:
        async with opened(url) as (store, _, pretend):
            for faults in [*lives, []]:
                messages = Messages(store, SystemClock(), str, Fragile(pretend, faults))
                for _ in range(2):  # told, and then killed before that could be acknowledged
                    try:
                        await messages.send(SAID)
                    except (Killed, Failure):
                        continue
            view, told = await pretend.view(), await _told(store)
            assert (1, 1) == (view.sent, len(told))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(f"sqlite:///{folder}/shop.db"))


async def test_a_minute_without_a_provider_costs_nobody_anything(lite: str) -> None:
    """Tried on the agents' curve by processes that are killed: 0 lost, 0 told twice (E10)."""
    clock = ManualClock()
    curve = checked_curve(attempts_max=ATTEMPTS_MAX, delay_s=1.0, delay_s_max=DELAY_S_MAX)
    wanted = [Notify("order_shipped", an_id(n), an_id(f"o{n}"), {"carrier": "X"}) for n in range(8)]
    ended: list[float] = []

    async def work_off(store: Store, provider: Fragile, request: Notify, number: int) -> None:
        for attempt in range(1, curve.attempts_max):
            provider.faults = [(None, "before", "after")[(attempt + number) % 3]]
            try:
                await Messages(store, clock, str, provider).send(request)
            except (Failure, Killed):
                await clock.sleep(curve.wait_s(attempt, 0.5))
            else:
                ended.append(clock.monotonic_s())
                return

    async with opened(lite, clock) as (store, _, pretend), asyncio.TaskGroup() as group:
        await pretend.set_mode(None, "down")
        tasks = [
            group.create_task(work_off(store, Fragile(pretend), request, number))
            for number, request in enumerate(wanted)
        ]
        while not all(task.done() for task in tasks):
            if clock.monotonic_s() >= 60:
                await pretend.set_mode(None, "up")
            await pretend.view()  # what was begun on the store's threads is done
            await clock.advance(1.0)
        assert min(ended) >= 60
        assert len(wanted) == (await pretend.view()).sent == len(await _told(store))
        assert {each.order_id for each in wanted} == {each.order_id for each in await _told(store)}


class Hasty(NotificationAgent):
    """Tries again at once."""

    @job(attempts_max=ATTEMPTS_MAX, delay_s=0.01, delay_s_max=0.02)
    async def process_request(self, request: Notify) -> Notified:
        """Tell a customer."""
        return await super().process_request(request)


async def test_a_provider_is_switched_while_it_runs(tmp_path: Path) -> None:
    """What was posted meanwhile waits, and is told; what can never be told is in quarantine."""
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(Mesh(settings=settings, engine=MemoryEngine()))
        await mesh.host(Hasty(settings_in(tmp_path)))

        async def provider(**wanted: str) -> ProviderView:
            return await mesh.request("notification", "provider", wanted, returns=ProviderView)

        assert {"email": "down", "sms": "down"} == (await provider(mode="down")).modes
        await mesh.post("notification", "request", SAID)
        await mesh.post("notification", "request", Notify("order_refunded", ANN, an_id("order")))
        found: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            while not found:
                found = [record async for record in mesh.quarantine.records()]
        assert [("TEMPLATE_ERROR", 1)] == [(each.code, each.attempts) for each in found]
        assert 0 == (await provider()).calls
        assert {"email": "down", "sms": "up"} == (await provider(channel="sms", mode="up")).modes
        async with asyncio.timeout(PATIENCE_S):
            while (await provider()).sent == 0:
                await asyncio.sleep(0)
        assert "sms" == (await mesh.request("notification", payload=SAID, returns=Notified)).channel
        assert (1, 1) == ((await provider()).sent, len(found))


async def test_a_real_provider_is_not_switched(tmp_path: Path) -> None:
    """It is somebody else's: `PROVIDER_IS_REAL`."""
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")
    async with Mesh(settings=settings, engine=MemoryEngine()) as mesh:
        await mesh.host(NotificationAgent(settings_in(tmp_path), provider=Deaf(is_final=True)))
        with pytest.raises(RemoteError) as caught:
            await mesh.request("notification", "provider", {"mode": "down"})
        assert "PROVIDER_IS_REAL" == caught.value.code


async def test_they_say_themselves(lite: str) -> None:
    """In a log one sees which store and which provider."""
    async with opened(lite) as (_, messages, pretend):
        assert repr(pretend) in repr(messages)
