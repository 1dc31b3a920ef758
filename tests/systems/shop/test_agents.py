"""The five agents on a mesh: the sample's operations, answers and codes, and every way to fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent99.errors import (
    BadRequestError,
    Failure,
    OverloadedError,
    RemoteError,
    StoreOverloadedError,
)
from agent99.systems.shop import (
    FulfillmentAgent,
    InventoryAgent,
    NotificationAgent,
    OrderProcessingAgent,
    PaymentAgent,
)
from agent99.systems.shop._agents import tell_store_errors
from agent99.systems.shop._asking import Patience
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._model import (
    Charge,
    ChargeReceipt,
    Notified,
    Notify,
    Ship,
    Shipment,
)
from tests._wait import eventually
from tests.systems.shop._shop import an_id, order_of
from tests.systems.shop._stand import MUG, ORDER, SOON, TEA, a_stand


def test_the_agents_are_named_as_in_the_sample() -> None:
    """Their capabilities are the table's; order processing says what it uses."""
    agents = {
        OrderProcessingAgent: ("order-processing", ("order_processing", "e_commerce")),
        InventoryAgent: ("inventory", ("inventory", "stock_management")),
        PaymentAgent: ("payment", ("payment", "billing")),
        FulfillmentAgent: ("fulfillment", ("fulfillment",)),
        NotificationAgent: ("notification", ("notification",)),
    }
    for agent, (name, capabilities) in agents.items():
        info = agent.info()
        assert (name, capabilities) == (info.name, info.capabilities)
    assert ("inventory", "payment", "fulfillment", "notification") == OrderProcessingAgent.uses
    assert "FulfillmentAgent(not running)" == repr(FulfillmentAgent())


async def test_an_order_is_confirmed(tmp_path: Path) -> None:
    """The sample's fields: order_id, status, total, and a delivery seven days on."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        payload = {
            "customer_id": str(an_id("someone")),
            "items": [{"product_id": str(TEA), "quantity": 3, "unit_price": 1.1}],
            "shipping_address": {
                "street": "1 High Street",
                "city": "Leeds",
                "state": "",
                "zip_code": "LS1 1AA",
                "country": "United Kingdom",
            },
        }
        answer = await stand.ask("e_commerce", payload)
        assert ("confirmed", "3.30", 330) == (
            answer["status"],
            answer["total"],
            answer["total_pence"],
        )
        view = await stand.view(UUID(answer["order_id"]))
        received = datetime.fromtimestamp(view.history[0].at_us / 1e6, UTC).date()
        assert 7 == (date.fromisoformat(answer["estimated_delivery"]) - received).days


async def test_a_confirmed_order_is_shipped_and_told_of(tmp_path: Path) -> None:
    """Its history has every step, the shipment and the message included (S6)."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        answer = await stand.place()
        assert {"ship", "notify"} == set((await stand.events(answer.order_id, 6))[4:])
        view = await stand.view(answer.order_id)
        assert ("confirmed", 520, ORDER.items) == (view.state, view.total_pence, view.items)
        states = ["received", "reserved", "paid", "confirmed", "confirmed", "confirmed"]
        assert states == [entry.state for entry in view.history]
        assert (98, 0, 2) == await stand.level(TEA)


async def test_the_same_key_is_one_order(tmp_path: Path) -> None:
    """Fifty times at once: one order, one charge, one answer; another order under it is refused."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        answers = await asyncio.gather(*(stand.place() for _ in range(50)))
        assert 1 == len(set(answers))
        assert order_uuid("k") == answers[0].order_id
        assert (98, 0, 2) == await stand.level(TEA)
        conflict = await stand.refused(order_of((MUG, 1, "3.00")))
        assert ("IDEMPOTENCY_CONFLICT", False) == (conflict.code, conflict.retryable)


async def test_the_same_key_across_a_restart(tmp_path: Path) -> None:
    """A new process of order processing answers as the one before it (S5)."""
    async with a_stand(tmp_path) as stand:
        first = stand.order_processing()
        await stand.host_all(first)
        before = await stand.place()
        await first._running.stop()  # type: ignore[union-attr]  # it runs by now
        await stand.host(stand.order_processing())
        assert before == await stand.place()
        assert (98, 0, 2) == await stand.level(TEA)


async def test_orders_without_a_key_are_two(tmp_path: Path) -> None:
    """Nobody promised that they are the same."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        answers = [await stand.place(key=None) for _ in range(2)]
        assert answers[0].order_id != answers[1].order_id
        assert (96, 0, 4) == await stand.level(TEA)


async def test_a_short_product_is_an_inventory_error(tmp_path: Path) -> None:
    """All lines or none: what is there of the others is not held (S1)."""
    async with a_stand(tmp_path, stock={TEA: 100, MUG: 0}) as stand:
        await stand.host_all()
        failure = await stand.refused()
        details = failure.details
        assert ("INVENTORY_ERROR", 0, str(MUG)) == (
            failure.code,
            details["available"],
            details["product_id"],
        )
        assert (100, 0, 0) == await stand.level(TEA)
        assert failure.message == (await stand.refused()).message


async def test_the_same_product_on_several_lines_is_summed(tmp_path: Path) -> None:
    """Two lines of 60 are 120, which are not there; two of 50 are (rule 7)."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        failure = await stand.refused(order_of((TEA, 60, "1.10"), (TEA, 60, "1.25")), "a")
        assert ("INVENTORY_ERROR", 100) == (failure.code, failure.details["available"])
        answer = await stand.place(order_of((TEA, 50, "1.10"), (TEA, 50, "1.25")), "b")
        assert 50 * (110 + 125) == answer.total_pence
        assert (0, 0, 100) == await stand.level(TEA)


async def test_a_declined_payment_lets_the_stock_go(tmp_path: Path) -> None:
    """`PAYMENT_ERROR` has the bank's reason, and nothing stays held (S2)."""
    async with a_stand(tmp_path, rate=1.0) as stand:
        await stand.host_all()
        failure = await stand.refused()
        assert "PAYMENT_ERROR" == failure.code
        assert {"reason", "payment_id"} == set(failure.details)
        assert (100, 0, 0) == await stand.level(TEA)
        view = await stand.view(order_uuid("k"))
        assert ("rejected", "PAYMENT_ERROR") == (view.state, view.reason)


@pytest.mark.parametrize(
    ("price", "product"), [("0.01", TEA), ("3.00", TEA), ("1.10", an_id("what nobody sells"))]
)
async def test_an_invented_price_is_refused(tmp_path: Path, price: str, product: UUID) -> None:
    """A client chooses one of a product's prices, or none (S3)."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        failure = await stand.refused(order_of((product, 1, price)))
        assert "PRICE_MISMATCH" == failure.code
        assert (100, 0, 0) == await stand.level(TEA)


async def test_an_order_that_nobody_placed(tmp_path: Path) -> None:
    """`ORDER_NOT_FOUND`, `RESERVATION_NOT_FOUND`, `PAYMENT_NOT_FOUND`: each agent by its code."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        query = {"order_id": str(an_id("nothing"))}
        for capability, operation, code in (
            ("order_processing", "query", "ORDER_NOT_FOUND"),
            ("inventory", "reservation", "RESERVATION_NOT_FOUND"),
            ("inventory", "commit", "RESERVATION_NOT_FOUND"),
            ("payment", "query", "PAYMENT_NOT_FOUND"),
        ):
            with pytest.raises(RemoteError) as caught:
                await stand.ask(capability, query, operation)
            assert code == caught.value.code


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"items": []}, "$.items"),
        ({"items": [{"product_id": str(TEA), "quantity": 0, "unit_price": "1.10"}]}, "$.items[0]"),
        ({"items": [{"product_id": str(TEA), "quantity": 1, "unit_price": -1}]}, "$.items[0]"),
        ({"items": [{"product_id": str(TEA), "quantity": 1, "unit_price": "1.105"}]}, "$.items[0]"),
        ({"items": [{"product_id": "tea", "quantity": 1, "unit_price": "1.10"}]}, "$.items[0]"),
        ({"shipping_address": {"street": "somewhere"}}, "$.shipping_address"),
        ({"customer_id": None}, "$.customer_id"),
    ],
)
async def test_an_order_that_breaks_the_schema(
    tmp_path: Path, change: dict[str, Any], path: str
) -> None:
    """It is refused by its path, before anything is stored."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        good: dict[str, Any] = {
            "customer_id": str(ORDER.customer_id),
            "items": [{"product_id": str(TEA), "quantity": 1, "unit_price": "1.10"}],
            "shipping_address": {
                "street": "1 High Street",
                "city": "Leeds",
                "state": "",
                "zip_code": "",
                "country": "France",
            },
        }
        with pytest.raises(BadRequestError) as caught:
            await stand.ask("order_processing", {**good, **change})
        assert caught.value.path.startswith(path)


# --- the others by themselves ---------------------------------------------------------------------


async def test_inventory_as_in_the_sample(tmp_path: Path) -> None:
    """Held, with what remains; or how many there are; or `PRODUCT_NOT_FOUND`."""
    async with a_stand(tmp_path) as stand:
        await stand.host(InventoryAgent(stand.settings))
        held = await stand.ask("inventory", {"product_id": str(TEA), "quantity": 40})
        assert (True, str(TEA), 40, 60) == (
            held["available"],
            held["product_id"],
            held["reserved_quantity"],
            held["remaining_stock"],
        )
        short = await stand.ask("stock_management", {"product_id": str(TEA), "quantity": 61})
        assert {
            "available": False,
            "product_id": str(TEA),
            "requested_quantity": 61,
            "available_quantity": 60,
        } == short
        with pytest.raises(RemoteError) as caught:
            await stand.ask("inventory", {"product_id": str(an_id("nothing")), "quantity": 1})
        assert "PRODUCT_NOT_FOUND" == caught.value.code


async def test_what_was_held_by_itself_is_let_go_or_shipped(tmp_path: Path) -> None:
    """The reservation's id takes the place of an order's; a key makes holding safe to repeat."""
    async with a_stand(tmp_path) as stand:
        await stand.host(InventoryAgent(stand.settings))
        payload = {"product_id": str(TEA), "quantity": 40}
        held = [
            await stand.client.request("inventory", payload=payload, idempotency_key="h")
            for _ in range(2)
        ]
        assert held[0] == held[1]
        query = {"order_id": held[0]["reservation_id"]}
        assert "reserved" == (await stand.ask("inventory", query, "reservation"))["state"]
        assert "committed" == (await stand.ask("inventory", query, "commit"))["state"]
        assert (60, 0, 40) == await stand.level(TEA)
        with pytest.raises(RemoteError) as caught:
            await stand.ask("inventory", query, "release")
        assert "RESERVATION_CLOSED" == caught.value.code
        level = await stand.ask("inventory", payload, "restock")
        assert (100, 40) == (level["on_hand"], level["restocked"])


async def test_payment_as_in_the_sample(tmp_path: Path) -> None:
    """success, payment_id, amount and a transaction `txn_…`; without an order once per key."""
    async with a_stand(tmp_path) as stand:
        await stand.host(PaymentAgent(stand.settings))
        charge = Charge(an_id("someone"), Decimal("12.50"))
        receipts = [
            await stand.client.request(
                "billing", payload=charge, returns=ChargeReceipt, idempotency_key="c"
            )
            for _ in range(2)
        ]
        assert receipts[0] == receipts[1]
        receipt = receipts[0]
        assert (True, Decimal("12.50")) == (receipt.success, receipt.amount)
        assert receipt.transaction_id.startswith("txn_")
        other = await stand.client.request("billing", payload=charge, returns=ChargeReceipt)
        assert receipt.payment_id != other.payment_id
        with pytest.raises(BadRequestError):
            await stand.ask("payment", {**_plain(charge), "currency": "USD"})


async def test_a_charge_of_an_order_is_made_once(tmp_path: Path) -> None:
    """Whatever key it comes with; and its payment can be asked for."""
    async with a_stand(tmp_path) as stand:
        await stand.host(PaymentAgent(stand.settings))
        charge = Charge(an_id("someone"), Decimal("12.50"), order_id=an_id("order"))
        receipts = {
            await stand.client.request(
                "payment", payload=charge, returns=ChargeReceipt, idempotency_key=key
            )
            for key in ("a", "b", None)
        }
        assert 1 == len(receipts)
        view = await stand.ask("payment", {"order_id": str(an_id("order"))}, "query")
        assert ("captured", 1250) == (view["state"], view["amount_pence"])


async def test_a_decline_says_why(tmp_path: Path) -> None:
    """`PAYMENT_DECLINED` has the reason and the payment."""
    async with a_stand(tmp_path, rate=1.0) as stand:
        await stand.host(PaymentAgent(stand.settings))
        with pytest.raises(RemoteError) as caught:
            await stand.ask("payment", _plain(Charge(an_id("someone"), Decimal(1))))
        assert "PAYMENT_DECLINED" == caught.value.code
        assert {"reason", "payment_id"} == set(caught.value.details)


async def test_fulfilment_and_notification_as_in_the_sample(tmp_path: Path) -> None:
    """A shipment with a carrier, a message with a channel; each named by its order."""
    async with a_stand(tmp_path) as stand:
        await stand.host(FulfillmentAgent(), NotificationAgent())
        ship = Ship(an_id("order"), ORDER.items, ORDER.shipping_address)
        shipments = {
            await stand.client.request("fulfillment", payload=ship, returns=Shipment)
            for _ in range(2)
        }
        assert ["shipped"] == [each.status for each in shipments]
        note = Notify("order_confirmation", ORDER.customer_id, an_id("order"), {"total": "5.20"})
        answer = await stand.client.request("notification", payload=note, returns=Notified)
        assert answer.channel in {"email", "sms"}


# --- when others are late, away, or broken --------------------------------------------------------


class LatePayment(PaymentAgent):
    """Takes the money at once, and keeps its answer to itself until it is told otherwise."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.asked = 0
        self.is_silent = True

    async def process_request(self, request: Charge) -> ChargeReceipt:
        """Charge, and answer or not."""
        receipt = await super().process_request(request)
        self.asked += 1
        if self.is_silent:
            await asyncio.Event().wait()
        return receipt


async def test_a_payment_that_answers_late_is_asked_for_again(tmp_path: Path) -> None:
    """By the same key, within the customer's time: confirmed, and charged once (E5)."""
    async with a_stand(tmp_path) as stand:
        payment = LatePayment(stand.settings)
        await stand.host_all(payment)
        placing = asyncio.ensure_future(stand.place())
        await eventually(lambda: payment.asked >= 2)
        payment.is_silent = False
        answer = await placing
        assert 520 == answer.total_pence
        view = await stand.ask("payment", {"order_id": str(answer.order_id)}, "query")
        assert ("captured", 520) == (view["state"], view["amount_pence"])


async def test_a_payment_that_does_not_answer_is_pending(tmp_path: Path) -> None:
    """An unknown outcome is a state and not a decline; the same key goes on from there (S8)."""
    async with a_stand(tmp_path) as stand:
        payment = LatePayment(stand.settings)
        await stand.host_all(payment)
        failure = await stand.refused(timeout_s=1.0)
        assert ("PENDING", True) == (failure.code, failure.retryable)
        assert ("pending_payment", "DEADLINE_EXCEEDED") == (
            failure.details["state"],
            failure.details["cause"],
        )
        assert (98, 2, 0) == await stand.level(TEA)
        payment.is_silent = False
        answer = await stand.place()
        assert failure.details["order_id"] == str(answer.order_id)
        assert (98, 0, 2) == await stand.level(TEA)


async def test_nobody_there_is_pending_and_not_declined(tmp_path: Path) -> None:
    """Without payment the order waits; when somebody comes the same key confirms it."""
    async with a_stand(tmp_path) as stand:
        await stand.host(InventoryAgent(stand.settings), stand.order_processing())
        await stand.host(FulfillmentAgent(), NotificationAgent())
        failure = await stand.refused(timeout_s=0.5)
        assert ("PENDING", "NO_AGENT") == (failure.code, failure.details["cause"])
        await stand.host(PaymentAgent(stand.settings))
        answer = await stand.place()
        assert 520 == answer.total_pence
        await stand.events(answer.order_id, 6)


async def test_a_service_that_comes_in_time_is_found(tmp_path: Path) -> None:
    """Order processing asks again until the customer's time is up."""
    async with a_stand(tmp_path) as stand:
        await stand.host(PaymentAgent(stand.settings), stand.order_processing())
        await stand.host(FulfillmentAgent(), NotificationAgent())
        placing = asyncio.ensure_future(stand.place())
        await stand.host(InventoryAgent(stand.settings))
        answer = await placing
        assert 520 == answer.total_pence
        await stand.events(answer.order_id, 6)


class BusyPayment(PaymentAgent):
    """Takes one charge at a time, and lets one wait."""

    concurrency_max = 1
    waiting_max = 1


async def test_overloaded_is_asked_again(tmp_path: Path) -> None:
    """Thirty orders at a till that takes one at a time: all are confirmed."""
    async with a_stand(tmp_path) as stand:
        patience = Patience(pause_s=0.005, pause_s_max=0.05)
        await stand.host_all(BusyPayment(stand.settings), stand.order_processing(patience))
        answers = await asyncio.gather(*(stand.place(key=f"k{index}") for index in range(30)))
        assert 30 == len({answer.order_id for answer in answers})
        assert (40, 0, 60) == await stand.level(TEA)


class BrokenFulfillment(FulfillmentAgent):
    """Refuses, until it is repaired."""

    def __init__(self) -> None:
        self.is_broken = True

    async def process_request(self, request: Ship) -> Shipment:
        """Refuse, or ship."""
        if self.is_broken:
            raise Failure("the van is broken", code="NO_VAN")
        return await super().process_request(request)


async def test_a_shipment_that_fails_undoes_nothing(tmp_path: Path) -> None:
    """It stands in the history, and the same key asks for it again."""
    async with a_stand(tmp_path) as stand:
        fulfilment = BrokenFulfillment()
        await stand.host_all(fulfilment)
        answer = await stand.place()
        assert {"ship_failed", "notify"} == set((await stand.events(answer.order_id, 6))[4:])
        view = await stand.view(answer.order_id)
        reasons = [entry.reason for entry in view.history if entry.event == "ship_failed"]
        assert ("confirmed", ["NO_VAN: the van is broken"]) == (view.state, reasons)
        fulfilment.is_broken = False
        assert answer == await stand.place()
        assert "ship" == (await stand.events(answer.order_id, 7))[6]
        await stand.place()
        assert 7 == len(await stand.events(answer.order_id, 7))


async def test_what_is_in_hand_is_finished_before_the_store_closes(tmp_path: Path) -> None:
    """Stopping order processing loses no shipment of an order that it has confirmed."""
    async with a_stand(tmp_path) as stand:
        first = stand.order_processing()
        await stand.host_all(first)
        answers = await asyncio.gather(*(stand.place(key=f"k{index}") for index in range(20)))
        await first._running.stop()  # type: ignore[union-attr]  # it runs by now
        await stand.host(stand.order_processing())
        for answer in answers:
            history = (await stand.view(answer.order_id)).history
            assert {"ship", "notify"} <= {entry.event for entry in history}


async def test_what_the_store_says_keeps_its_code() -> None:
    """A store that is overloaded is no broken agent: the caller may ask again."""

    async def proceed(_context: Any, _payload: Any) -> Any:
        raise StoreOverloadedError("transactions", 9, 9)

    context: Any = None
    with pytest.raises(Failure) as caught:
        await tell_store_errors(context, None, proceed)
    assert ("STORE_OVERLOADED", True) == (caught.value.code, caught.value.retryable)


@pytest.mark.slow
async def test_a_thousand_orders_for_a_hundred_units(tmp_path: Path) -> None:
    """Exactly a hundred are confirmed; nothing is left, held or negative (E1)."""
    async with a_stand(tmp_path, stock={TEA: 100, MUG: 0}) as stand:
        await stand.host_all(InventoryAgent(stand.settings), InventoryAgent(stand.settings))
        slots = asyncio.Semaphore(50)

        async def place(index: int) -> str:
            async with slots:
                try:
                    answer = await stand.place(order_of((TEA, 1, "1.10")), f"k{index}")
                except RemoteError as error:
                    return error.code
            return answer.status

        ends = await asyncio.gather(*(place(index) for index in range(1_000)))
        assert (100, 900) == (ends.count("confirmed"), ends.count("INVENTORY_ERROR"))
        assert (0, 0, 100) == await stand.level(TEA)


def _plain(charge: Charge) -> dict[str, Any]:
    return {"customer_id": str(charge.customer_id), "amount": str(charge.amount)}


def test_patience_says_itself() -> None:
    """What an agent was given shows."""
    assert "attempt_s_max=0.1" in repr(SOON)
    assert Patience() == Patience()
    assert OverloadedError("").retryable
