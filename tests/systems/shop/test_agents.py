"""The five agents on a mesh: the sample's operations, answers and codes, and every way to fail."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent99 import operation
from agent99.errors import (
    BadRequestError,
    Failure,
    RemoteError,
    RequestError,
    StoreOverloadedError,
)
from agent99.saga import PENDING, Desk, _patrol, _stepping
from agent99.systems.shop import (
    FulfillmentAgent,
    InventoryAgent,
    NotificationAgent,
    OrderProcessingAgent,
    PaymentAgent,
    _services,
)
from agent99.systems.shop._agents import tell_store_errors
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._model import (
    Charge,
    ChargeReceipt,
    Notified,
    Notify,
    Ship,
    Shipment,
)
from agent99.systems.shop._payment_model import Authorisation, Authorise
from agent99.systems.shop._settings import settings_in
from tests._wait import eventually
from tests.systems.shop._shop import MUG, ORDER, TEA, an_id, order_of
from tests.systems.shop._stand import GIVES_UP_S, Stand, a_stand


def test_the_agents_are_named_as_in_the_sample(tmp_path: Path) -> None:
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
    assert "FulfillmentAgent(not running)" == repr(FulfillmentAgent(settings_in(tmp_path)))


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
        await stand.host(InventoryAgent(stand.settings), stand.order_processing())
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
        await stand.host(stand.order_processing())
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


async def test_payment_in_two_phases(tmp_path: Path) -> None:
    """Held, taken in part, given back; or let go: by order, however often it is asked for."""
    async with a_stand(tmp_path) as stand:
        await stand.host(PaymentAgent(stand.settings))
        query = {"order_id": str(an_id("order"))}
        held = {**_plain(Charge(an_id("someone"), Decimal("12.50"))), **query}
        back = {**query, "refund_id": str(an_id("refund")), "amount_pence": 300, "reason": "late"}
        for operation, payload, fields in (
            ("authorise", held, {"authorised_pence": 1250}),
            ("capture", {**query, "amount_pence": 1000}, {"captured_pence": 1000}),
            ("refund", back, {"amount_pence": 300}),
        ):
            answers = [await stand.ask("payment", payload, operation) for _ in range(2)]
            assert answers[0] == answers[1]
            assert fields.items() <= answers[0].items()
        view = await stand.ask("payment", query, "query")
        assert ("captured", 1250, 1000, 300, "late") == (
            view["state"],
            view["amount_pence"],
            view["captured_pence"],
            view["refunded_pence"],
            view["refunds"][0]["reason"],
        )
        another = {"order_id": str(an_id("another"))}
        assert "voided" == (await stand.ask("billing", another, "void"))["state"]
        for operation, payload, code in (
            ("authorise", {**held, "amount": "1"}, "IDEMPOTENCY_CONFLICT"),
            ("void", query, "PAYMENT_CLOSED"),
            ("authorise", {**held, **another}, "PAYMENT_CLOSED"),
            (
                "refund",
                {**back, "refund_id": str(an_id(2)), "amount_pence": 701},
                "REFUND_TOO_LARGE",
            ),
            ("refund", {**back, "amount_pence": 0}, "BAD_REQUEST"),
        ):
            with pytest.raises(RequestError) as caught:
                await stand.ask("payment", payload, operation)
            assert code == caught.value.code


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
        await stand.host(FulfillmentAgent(stand.settings), NotificationAgent(stand.settings))
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
    """Holds the money at once, and keeps its answer to itself until it is told otherwise."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.keys: list[str | None] = []
        self.is_silent = True

    @operation(idempotent=True)
    async def authorise(self, request: Authorise) -> Authorisation:
        """Hold the money, and answer or not."""
        held = await super().authorise(request)
        self.keys.append(self.context.idempotency_key)
        if self.is_silent:
            await asyncio.Event().wait()
        return held


async def give_up(stand: Stand, payment: LatePayment) -> None:
    """Let a customer ask, and go; return once his order has lost sight of its payment.

    Not sooner: a payment that speaks at the first attempt leaves nothing in doubt.
    """
    placing = asyncio.ensure_future(stand.place())
    await eventually(lambda: payment.keys)
    placing.cancel()
    assert "lose_sight_of_payment" == (await stand.events(order_uuid("k"), 3))[2]


@pytest.fixture
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let order processing ask again soon, and its instances look after each other often."""
    monkeypatch.setattr(_services, "ATTEMPT_S", 0.25)
    monkeypatch.setattr(_stepping, "PAUSE_S_MAX", 0.1)
    monkeypatch.setattr(_patrol, "PING_S", 0.05)
    monkeypatch.setattr(_patrol, "LOOK_S", 0.1)


@pytest.mark.usefixtures("haste")
async def test_a_payment_that_answers_late_is_asked_for_again(tmp_path: Path) -> None:
    """By the same key, within the customer's time: confirmed, and charged once (E5)."""
    async with a_stand(tmp_path) as stand:
        payment = LatePayment(stand.settings)
        await stand.host_all(payment)
        placing = asyncio.ensure_future(stand.place())
        await eventually(lambda: len(payment.keys) >= 2)
        payment.is_silent = False
        answer = await placing
        assert 520 == answer.total_pence
        assert 1 == len(set(payment.keys))
        view = await stand.ask("payment", {"order_id": str(answer.order_id)}, "query")
        assert ("captured", 520) == (view["state"], view["amount_pence"])


@pytest.mark.usefixtures("haste")
async def test_a_payment_that_does_not_answer_is_pending(tmp_path: Path) -> None:
    """An unknown outcome is a state and not a decline; the order goes on from there (S8, E5)."""
    async with a_stand(tmp_path) as stand:
        payment = LatePayment(stand.settings)
        await stand.host_all(payment)
        failure = await stand.refused(timeout_s=GIVES_UP_S)
        assert (PENDING, True, {"saga_id"}) == (
            failure.code,
            failure.retryable,
            set(failure.details),
        )
        await stand.events(order_uuid("k"), 3)
        assert "pending_payment" == (await stand.view(order_uuid("k"))).state
        assert (98, 2, 0) == await stand.level(TEA)
        payment.is_silent = False
        answer = await stand.place()
        assert order_uuid("k") == answer.order_id
        assert (98, 0, 2) == await stand.level(TEA)


@pytest.mark.usefixtures("haste")
async def test_an_order_goes_on_without_its_customer(tmp_path: Path) -> None:
    """He gave up and never asks again: it is confirmed all the same once payment answers."""
    async with a_stand(tmp_path) as stand:
        payment = LatePayment(stand.settings)
        await stand.host_all(payment)
        await give_up(stand, payment)
        payment.is_silent = False
        assert "confirm" == (await stand.events(order_uuid("k"), 8))[5]


@pytest.mark.slow
@pytest.mark.usefixtures("haste")
async def test_an_order_goes_on_at_another_instance(tmp_path: Path) -> None:
    """The one that had it in hand stops in the middle of it; it is charged once (E3)."""
    async with a_stand(tmp_path) as stand:
        payment = LatePayment(stand.settings)
        both = stand.order_processing(), stand.order_processing()
        await stand.host_all(payment, *both)
        await give_up(stand, payment)
        (saga,) = (await Desk(stand.client).open_sagas()).sagas
        (owner,) = [agent for agent in both if agent.instance == saga.history.owner]
        await owner._running.stop()  # type: ignore[union-attr]  # it runs by now
        payment.is_silent = False
        answer = await stand.place()
        assert (520, 1) == (answer.total_pence, len(set(payment.keys)))
        assert (98, 0, 2) == await stand.level(TEA)
        again = await Desk(stand.client).find(saga.saga_id)
        assert again is not None
        assert owner.instance != again.history.owner


@pytest.mark.usefixtures("haste")
async def test_nobody_there_is_pending_and_not_declined(tmp_path: Path) -> None:
    """Without payment the order waits; when somebody comes it is confirmed."""
    async with a_stand(tmp_path) as stand:
        await stand.host(InventoryAgent(stand.settings), stand.order_processing())
        await stand.host(FulfillmentAgent(stand.settings), NotificationAgent(stand.settings))
        failure = await stand.refused(timeout_s=GIVES_UP_S)
        assert PENDING == failure.code
        (waiting,) = (await Desk(stand.client).open_sagas()).sagas
        assert failure.details["saga_id"] == waiting.saga_id
        await stand.events(order_uuid("k"), 3)
        assert "pending_payment" == (await stand.view(order_uuid("k"))).state
        await stand.host(PaymentAgent(stand.settings))
        answer = await stand.place()
        assert 520 == answer.total_pence
        await stand.events(answer.order_id, 8)


@pytest.mark.usefixtures("haste")
async def test_a_service_that_comes_in_time_is_found(tmp_path: Path) -> None:
    """Order processing asks again until it is there."""
    async with a_stand(tmp_path) as stand:
        await stand.host(PaymentAgent(stand.settings), stand.order_processing())
        await stand.host(FulfillmentAgent(stand.settings), NotificationAgent(stand.settings))
        placing = asyncio.ensure_future(stand.place())
        await stand.host(InventoryAgent(stand.settings))
        answer = await placing
        assert 520 == answer.total_pence
        await stand.events(answer.order_id, 7)


class BusyPayment(PaymentAgent):
    """Holds or takes the money of one order at a time, and lets one wait."""

    concurrency_max = 1
    waiting_max = 1


@pytest.mark.slow
async def test_overloaded_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty orders at a till that takes one at a time: all are confirmed."""
    monkeypatch.setattr(_stepping, "PAUSE_S_MAX", 0.1)
    async with a_stand(tmp_path) as stand:
        await stand.host_all(BusyPayment(stand.settings))
        places = (stand.place(key=f"k{index}", timeout_s=30.0) for index in range(30))
        answers = await asyncio.gather(*places)
        assert 30 == len({answer.order_id for answer in answers})
        assert (40, 0, 60) == await stand.level(TEA)


async def test_what_the_store_says_keeps_its_code() -> None:
    """A store that is overloaded is no broken agent: the caller may ask again."""

    async def proceed(_context: Any, _payload: Any) -> Any:
        raise StoreOverloadedError("transactions", 9, 9)

    context: Any = None
    with pytest.raises(Failure) as caught:
        await tell_store_errors(context, None, proceed)
    assert ("STORE_OVERLOADED", True) == (caught.value.code, caught.value.retryable)


def _plain(charge: Charge) -> dict[str, Any]:
    return {"customer_id": str(charge.customer_id), "amount": str(charge.amount)}
