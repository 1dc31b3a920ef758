"""What follows a confirmed order: durable work, and events that leave with their effects."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agent99.agent._blueprint import blueprint_of
from agent99.clock import SystemClock
from agent99.errors import Failure, RemoteError
from agent99.ids import SystemIds
from agent99.systems.shop import (
    FulfillmentAgent,
    InventoryAgent,
    NotificationAgent,
    OrderProcessingAgent,
    PaymentAgent,
)
from agent99.systems.shop._events import OrderMoved
from agent99.systems.shop._model import Ship, Shipment
from agent99.systems.shop._opening import open_messages
from agent99.systems.shop._return_model import GiveBack
from agent99.work import Quarantined
from tests._wait import PATIENCE_S, eventually
from tests.systems.shop._shop import MUG, ORDER, TEA, an_id, order_of
from tests.systems.shop._stand import Listener, Stand, a_stand

_SENT = (
    "SELECT n.type, n.number, p.text FROM notifications AS n JOIN provider_messages AS p"
    " ON p.key = n.notification_id WHERE n.state = 'sent' ORDER BY n.type, n.number"
)


class StubbornFulfillment(FulfillmentAgent):
    """Refuses, until it is repaired."""

    is_broken = True
    retryable = False

    async def process_request(self, request: Ship) -> Shipment:
        """Refuse, or ship."""
        if self.is_broken:
            raise Failure("the van is broken", code="NO_VAN", retryable=self.retryable)
        return await super().process_request(request)


async def _quarantined(stand: Stand) -> list[Quarantined]:
    return [record async for record in stand.client.quarantine.records()]


async def test_a_confirmed_order_is_shipped_and_told_of(tmp_path: Path) -> None:
    """Its history has every step, the shipment and the message included (S6)."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        answer = await stand.place()
        assert {"ship", "notify"} == set((await stand.events(answer.order_id, 7))[5:])
        view = await stand.view(answer.order_id)
        assert ("confirmed", 520, ORDER.items) == (view.state, view.total_pence, view.items)
        states = ["received", "reserved", "authorised", "paid", *["confirmed"] * 3]
        assert states == [entry.state for entry in view.history]
        assert (98, 0, 2) == await stand.level(TEA)


@pytest.mark.parametrize("rate", [0.0, 1.0])
async def test_every_step_of_an_order_is_an_event(tmp_path: Path, rate: float) -> None:
    """As its history has it, in its order; what follows a confirmation is told by who does it."""
    async with a_stand(tmp_path, rate=rate) as stand:
        listener = Listener()
        await stand.host_all()
        await stand.host(listener)
        await asyncio.gather(stand.place(), return_exceptions=True)
        last = "rejected" if rate else "confirmed"
        await eventually(lambda: [m.state for m in listener.heard][-1:] == [last])
        order_id = listener.heard[0].order_id
        history = (await stand.view(order_id)).history
        followed = {"ship", "notify"}
        assert [
            (number, entry.event, entry.state, entry.at_us, entry.reason)
            for number, entry in enumerate(history)
            if entry.event not in followed
        ] == [(m.step, m.event, m.state, m.at_us, m.reason) for m in listener.heard]
        assert {(ORDER.customer_id, 520)} == {
            (m.customer_id, m.total_pence) for m in listener.heard
        }


async def _told(stand: Stand, count: int) -> list[tuple[str, int, str]]:
    """Return what customers were told, once nothing is owed any more and it is so much."""
    store, _ = await open_messages(stand.settings, SystemClock(), SystemIds())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                backlog = await stand.ask("order_processing", None, "backlog")
                rows = await store.read(lambda tx: tx.execute(_SENT).all())
                if not any(backlog.values()) and len(rows) >= count:
                    return [(row.type, row.number, row.text) for row in rows]
    finally:
        await store.aclose()


async def test_a_customer_is_told_of_each_state_once(tmp_path: Path) -> None:
    """Of the confirmation, the shipment and each refund."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        answer = await stand.place()
        for _ in range(2):
            back = GiveBack(ORDER.customer_id, order_of((TEA, 1, "1.10")).items)
            await stand.ask("order_processing", back, "give_back")
        told = await _told(stand, 4)
        assert [
            ("order_confirmation", 1),
            ("order_refunded", 1),
            ("order_refunded", 2),
            ("order_shipped", 1),
        ] == [(kind, number) for kind, number, _ in told]
        assert all(str(answer.order_id) in text for _, _, text in told)
        assert ["£1.10" in text for _, _, text in told] == [False, True, True, False]


async def test_a_customer_is_told_why_an_order_was_not_taken(tmp_path: Path) -> None:
    """Once, in words, however often it is asked for."""
    async with a_stand(tmp_path, rate=1.0) as stand:
        await stand.host_all()
        for _ in range(3):
            assert "PAYMENT_ERROR" == (await stand.refused()).code
        ((kind, number, text),) = await _told(stand, 1)
        assert ("order_rejected", 1) == (kind, number)
        assert "the payment was declined" in text


async def test_a_shipment_that_cannot_be_made_is_kept_with_its_reason(tmp_path: Path) -> None:
    """It undoes nothing; once the reason is mended, taking it out of quarantine ships the order."""
    async with a_stand(tmp_path) as stand:
        fulfilment = StubbornFulfillment(stand.settings)
        await stand.host_all(fulfilment)
        answer = await stand.place()
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await _quarantined(stand)):
                await asyncio.sleep(0)
        (record,) = found
        assert ("fulfillment", "NO_VAN", 1) == (record.capability, record.code, record.attempts)
        assert "notify" == (await stand.events(answer.order_id, 6))[5]
        backlog = await stand.ask("order_processing", None, "backlog")
        assert {"to_ship": 1, "to_tell": 0, "to_send": 0} == backlog
        fulfilment.is_broken = False
        await stand.client.quarantine.redrive(record)
        assert "ship" == (await stand.events(answer.order_id, 7))[6]
        assert [] == await _quarantined(stand)


async def test_a_shipment_that_fails_for_a_while_is_tried_again(tmp_path: Path) -> None:
    """On its curve; the order is shipped once, and other orders do not wait."""
    async with a_stand(tmp_path) as stand:
        fulfilment = StubbornFulfillment(stand.settings)
        fulfilment.retryable = True
        await stand.host_all(fulfilment)
        answer = await stand.place()
        assert "notify" == (await stand.events(answer.order_id, 6))[5]
        fulfilment.is_broken = False
        other = await stand.place(key="other")
        await stand.events(other.order_id, 7)
        assert 7 == len(await stand.events(answer.order_id, 7))
        assert [] == await _quarantined(stand)


def test_a_database_may_be_away_for_long() -> None:
    """What is tried again is tried for half an hour at least, whoever does it."""
    agents = (OrderProcessingAgent, FulfillmentAgent, NotificationAgent)
    for agent in agents:
        blueprint = blueprint_of(agent)
        for method in (*blueprint.jobs, *blueprint.followers):
            curve = method.mark.curve
            assert curve is not None
            assert 1_800 < sum(curve.wait_s(n, 0.5) for n in range(1, curve.attempts_max))
    assert [1, 1, 1] == [len(blueprint_of(a).jobs or blueprint_of(a).followers[:1]) for a in agents]


async def test_what_nobody_does_yet_waits(tmp_path: Path) -> None:
    """An order is confirmed without fulfilment and notification; when they come they do it."""
    async with a_stand(tmp_path) as stand:
        order_processing = stand.order_processing()
        settings = stand.settings
        await stand.host(InventoryAgent(settings), PaymentAgent(settings), order_processing)
        answer = await stand.place()
        assert 5 == len(await stand.events(answer.order_id, 5))
        await stand.host(FulfillmentAgent(settings), NotificationAgent(settings))
        assert {"ship", "notify"} == set((await stand.events(answer.order_id, 7))[5:])


async def test_stopping_order_processing_forgets_no_order(tmp_path: Path) -> None:
    """What it had confirmed is shipped and told of, and the next one writes it down."""
    async with a_stand(tmp_path) as stand:
        first = stand.order_processing()
        await stand.host_all(first)
        answers = await asyncio.gather(*(stand.place(key=f"k{index}") for index in range(20)))
        await first._running.stop()  # type: ignore[union-attr]  # it runs by now
        await stand.host(stand.order_processing())
        for answer in answers:
            assert {"ship", "notify"} == set((await stand.events(answer.order_id, 7))[5:])
        await _told(stand, 2 * len(answers))


async def test_an_event_that_comes_twice_ships_once(tmp_path: Path) -> None:
    """Delivery is at least once: the second shipment is the first, and tells nobody anything."""
    async with a_stand(tmp_path) as stand:
        order_processing = stand.order_processing()
        await stand.host_all(order_processing)
        answer = await stand.place()
        before = await stand.events(answer.order_id, 7)
        moved = OrderMoved(answer.order_id, ORDER.customer_id, 4, "confirm", "confirmed", 520, 1)
        await order_processing.hand_over(moved)

        async def is_done() -> bool:
            return all(job.left == 0 for job in await stand.client.ledger.jobs())

        async with asyncio.timeout(PATIENCE_S):
            while not await is_done():
                await asyncio.sleep(0)
        other = await stand.place(key="other")  # whose events come after anything of the first
        await stand.events(other.order_id, 7)
        assert before == await stand.events(answer.order_id, 7)


async def test_an_order_is_shipped_with_its_lines_or_not(tmp_path: Path) -> None:
    """The same order with other lines, or other words to its customer, is a conflict."""
    async with a_stand(tmp_path) as stand:
        await stand.host(FulfillmentAgent(stand.settings), NotificationAgent(stand.settings))
        others = order_of((MUG, 1, "3.00")).items
        told = {"type": "order_confirmation", "customer_id": str(ORDER.customer_id)}
        asked: list[tuple[str, Any, Any]] = [
            (
                "fulfillment",
                Ship(an_id("order"), ORDER.items, ORDER.shipping_address),
                Ship(an_id("order"), others, ORDER.shipping_address),
            ),
            (
                "notification",
                {**told, "order_id": str(an_id("order")), "template_data": {"total": "5.20"}},
                {**told, "order_id": str(an_id("order")), "template_data": {"total": "5.30"}},
            ),
        ]
        for capability, first, second in asked:
            assert await stand.ask(capability, first) == await stand.ask(capability, first)
            with pytest.raises(RemoteError) as caught:
                await stand.ask(capability, second)
            assert "IDEMPOTENCY_CONFLICT" == caught.value.code
