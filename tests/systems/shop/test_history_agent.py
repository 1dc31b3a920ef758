"""The agent that keeps the read model: what it answers, and that it can be made anew."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent99.errors import RemoteError
from agent99.systems.shop import OrderHistoryAgent
from agent99.systems.shop._history_model import HistoryDigest, OrderAudit, OrderRecord, Rebuilt
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S
from tests.systems.shop._shop import an_id
from tests.systems.shop._stand import Stand, a_stand
from tests.systems.shop._told import steps_of

WORDS = ("order.received", "order.reserved", "order.authorised", "order.paid", "order.confirmed")


async def _ask(stand: Stand, operation: str, returns: Any, payload: Any = None) -> Any:
    return await stand.client.request("order_history", operation, payload, returns=returns)


async def _digest(stand: Stand) -> HistoryDigest:
    found: HistoryDigest = await _ask(stand, "digest", HistoryDigest)
    return found


async def _rebuilt(stand: Stand) -> Rebuilt:
    """Make the model anew."""
    found: Rebuilt = await _ask(stand, "rebuild", Rebuilt)
    return found


async def _complete(stand: Stand, order_id: UUID) -> OrderRecord:
    """Return the record of a confirmed order, once all is told of it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                found: OrderRecord = await _ask(
                    stand, "status", OrderRecord, {"order_id": order_id}
                )
            except RemoteError:
                continue
            if found.state == "confirmed" and found.shipments and len(found.messages) == 2:
                return found


async def test_status_is_what_order_processing_says(tmp_path: Path) -> None:
    """The read model, from events alone, agrees with the orders' own database."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all(OrderHistoryAgent(stand.settings))
        answer = await stand.place()
        record = await _complete(stand, answer.order_id)
        view = await stand.view(answer.order_id)
        assert (view.customer_id, view.state, view.total_pence, view.reason) == (
            record.customer_id, record.state, record.total_pence, record.reason
        )  # fmt: skip
        steps = [e for e in view.history if e.event not in {"ship", "notify"}]
        assert [(e.event, e.state, e.at_us, e.reason) for e in steps] == [
            (s.event, s.state, s.at_us, s.reason) for s in record.steps
        ]
        assert [(1, "shipped")] == [(s.part, s.state) for s in record.shipments]


async def test_an_audit_is_the_log_itself(tmp_path: Path) -> None:
    """Every event of the order and of no other, in the log's order, with its content."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all(OrderHistoryAgent(stand.settings))
        answer = await stand.place()
        other = await stand.place(key="other")
        for each in (answer, other):
            await _complete(stand, each.order_id)
        audit = await _ask(stand, "audit", OrderAudit, {"order_id": answer.order_id})
        topics = [event.topic for event in audit.events]
        assert list(WORDS) == [topic for topic in topics if topic.startswith("order.")]
        assert {"shipment.shipped", "notification.sent"} == set(topics[5:])
        assert {str(answer.order_id)} == {event.content["order_id"] for event in audit.events}
        sequences = [event.sequence for event in audit.events]
        assert sorted(sequences) == sequences
        assert 8 == len({event.id for event in audit.events})
        assert all("header" not in event.content for event in audit.events)


@pytest.mark.parametrize("operation", ["status", "audit"])
async def test_an_order_that_nobody_placed(tmp_path: Path, operation: str) -> None:
    """It is not found, whether the log has other events or none."""
    async with a_stand(tmp_path) as stand:
        await stand.host(OrderHistoryAgent(stand.settings))
        with pytest.raises(RemoteError) as caught:
            await _ask(stand, operation, OrderRecord, {"order_id": an_id("none")})
        assert "ORDER_NOT_FOUND" == caught.value.code


async def test_an_event_that_cannot_be_read_is_kept_with_its_reason(tmp_path: Path) -> None:
    """It is in quarantine at once; others are not held up, and a rebuild passes over it."""
    async with a_stand(tmp_path) as stand:
        await stand.host(OrderHistoryAgent(stand.settings))
        key = str(an_id("tea"))
        await stand.client.append("order.received", {"order_id": 7}, key=key)
        for moved in steps_of("tea"):
            await stand.client.append(f"order.{moved.state}", moved, key=key)
        async with asyncio.timeout(PATIENCE_S):
            while (await _digest(stand)).by_state != {"confirmed": 1}:
                pass
        (record,) = [record async for record in stand.client.quarantine.records()]
        assert ("EVENT_UNREADABLE", 1) == (record.code, record.attempts)
        assert (await _rebuilt(stand)).identical


async def test_a_model_made_anew_is_the_same_and_mends_what_is_wrong(tmp_path: Path) -> None:
    """Identical where all was heard; where the old one says what no event told, it is replaced."""
    async with a_stand(tmp_path) as stand:
        history = OrderHistoryAgent(stand.settings)
        await stand.host_all(history)
        assert (await _rebuilt(stand)).identical
        await _complete(stand, (await stand.place()).order_id)
        rebuilt = await _rebuilt(stand)
        assert (True, 8, 1) == (rebuilt.identical, rebuilt.events, rebuilt.after.orders)
        await history._history.hear(steps_of("never")[0])
        found = await _ask(stand, "rebuild", Rebuilt, {"patience_s": 0.0})
        assert (False, 2, rebuilt.after) == (found.identical, found.before.orders, found.after)
        assert found.after == await _digest(stand)


async def test_a_log_without_its_beginning_makes_no_model(tmp_path: Path) -> None:
    """Once its oldest event is gone a rebuild is refused, and what was heard of it is kept."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all(OrderHistoryAgent(stand.settings))
        order_id = (await stand.place()).order_id
        await _complete(stand, order_id)
        link, before = stand.client.link, await _digest(stand)
        await link.journal.delete(link.durable.streams.log, 1)
        with pytest.raises(RemoteError) as caught:
            await _rebuilt(stand)
        assert ("LOG_INCOMPLETE", {"first_sequence": 2}) == (
            caught.value.code, caught.value.details
        )  # fmt: skip
        assert before == await _digest(stand)


async def test_after_restarts_it_is_the_same_on_a_real_server(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    """The agent goes and comes while orders run; made anew, its model has the same hash (E11)."""
    async with a_stand(tmp_path, url=nats_server.url) as stand:
        first = OrderHistoryAgent(stand.settings)
        await stand.host_all(first)
        answers = await asyncio.gather(*(stand.place(key=f"a{index}") for index in range(10)))
        await first._running.stop()  # type: ignore[union-attr]  # it runs by now
        answers += await asyncio.gather(*(stand.place(key=f"b{index}") for index in range(10)))
        await stand.host(OrderHistoryAgent(stand.settings))
        rebuilding = asyncio.ensure_future(_rebuilt(stand))
        answers += await asyncio.gather(*(stand.place(key=f"c{index}") for index in range(10)))
        for answer in answers:
            await _complete(stand, answer.order_id)
        await rebuilding
        rebuilt = await _rebuilt(stand)
        assert rebuilt.identical
        assert (30, {"confirmed": 30}) == (rebuilt.after.orders, rebuilt.after.by_state)
        assert 8 * 30 == rebuilt.events
