"""Cancelling an order: before its payment, after it, and too late; by whoever dies of it."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from agent99.clock import SystemClock
from agent99.errors import Failure, RemoteError
from agent99.saga import SAGA_CANCELLED, Desk, Saga
from agent99.systems.shop import (
    PaymentAgent,
)
from agent99.systems.shop._cancelling import Cancelling
from agent99.systems.shop._events import OrderRefunded
from agent99.systems.shop._giving_back import GivingBack
from agent99.systems.shop._identity import order_uuid
from agent99.systems.shop._model import OrderCancelled, Ship
from agent99.systems.shop._payment_model import Authorisation, Authorise, Refund
from agent99.systems.shop._return_model import GiveBack, GivenBack
from agent99.systems.shop._returns import Returns
from agent99.testing import SagaStage
from tests._wait import PATIENCE_S
from tests.saga._programme import Crash, Deaths, JumpClock, MortalJournal
from tests.systems.shop._front import PENCE, Books, Front
from tests.systems.shop._shop import (
    MUG,
    ORDER,
    TEA,
    Faults,
    OpenShop,
    Others,
    Shop,
    an_id,
    order_of,
)
from tests.systems.shop._stand import Stand, a_stand

_SQLITE = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
_CANCELLED = Books("cancelled", "ORDER_CANCELLED", {"held": 0, "gone": 0}, {"held": 0, "taken": 0})
_FULL = ((500, 0, 0), (500, 0, 0))


class Office:
    """Where orders are cancelled and goods come back."""

    def __init__(self, shop: Shop, deaths: Deaths | None = None) -> None:
        self.faults = Faults(deaths)
        others, returns = Others(shop, self.faults), Returns(shop.orders._store, SystemClock())
        self._giving_back = GivingBack(returns, others)
        self._cancelling = Cancelling(shop.orders, returns, self._giving_back, others)
        self._stage = SagaStage(clock=JumpClock())
        if deaths is not None:
            self._stage._journal = MortalJournal(JumpClock(), deaths)

    async def cancel(self, order: str = "k", key: str = "c") -> OrderCancelled:
        """Cancel an order."""
        cancel = partial(self._cancelling.cancel, order_uuid(order))
        return await self._stage.play(cancel, OrderCancelled, key=key)

    async def refused(self, order: str = "k") -> Failure:
        """Cancel an order that cannot be cancelled, and return why."""
        with pytest.raises(Failure) as caught:
            await self.cancel(order)
        return caught.value

    async def give_back(self, *lines: tuple[UUID, int, str], key: str = "b") -> GivenBack:
        """Give goods back."""

        async def give(saga: Saga) -> GivenBack:
            request = GiveBack(ORDER.customer_id, order_of(*lines).items)
            return await self._giving_back.give_back(request, saga)

        return await self._stage.play(give, GivenBack, key=key)

    async def in_processes(self, order: str) -> int:
        """Cancel an order in as many processes as die of it, and return how many."""
        processes = 0
        while True:
            processes += 1
            self.faults.deaths.is_dead = False
            try:
                await self.cancel(order)
            except Crash:
                continue
            return processes


async def _front(open_shop: OpenShop) -> Front:
    front = Front(await open_shop())
    await front.shop.stock.fill({TEA: 500, MUG: 500})
    return front


async def test_a_confirmed_order_that_has_not_left(open_shop: OpenShop) -> None:
    """Goods and money are back, and a request to ship it that comes late takes no effect (E9)."""
    front = await _front(open_shop)
    await front.place()
    answer = await Office(front.shop).cancel()
    assert OrderCancelled(order_uuid("k"), PENCE) == answer
    assert _CANCELLED == await front.books()
    assert (_FULL, 0) == (await front.levels(), await front.cash())
    assert ["confirm", "refund", "cancel"] == (await front.events())[4:]
    late = Ship(order_uuid("k"), ORDER.items, ORDER.shipping_address)
    assert "cancelled" == (await front.shop.shipments.ship(late)).status


async def test_asked_for_by_many_it_is_cancelled_once(open_shop: OpenShop) -> None:
    """At once and again, under other keys: one refund, and the same answer."""
    front = await _front(open_shop)
    await front.place()
    offices = [Office(await open_shop()) for _ in range(3)]
    answers = await asyncio.gather(*(each.cancel(key=str(n)) for n, each in enumerate(offices)))
    answers.append(await offices[0].cancel(key="later"))
    assert {OrderCancelled(order_uuid("k"), PENCE)} == set(answers)
    assert (_CANCELLED, _FULL, 0) == (
        await front.books(),
        await front.levels(),
        await front.cash(),
    )


async def test_what_was_given_back_is_not_refunded_again(open_shop: OpenShop) -> None:
    """Of an order of which a part came back, the rest is refunded; and nothing comes back later."""
    front = await _front(open_shop)
    await front.place()
    office = Office(front.shop)
    assert 110 == (await office.give_back((TEA, 1, "1.10"))).refunded_pence
    assert PENCE - 110 == (await office.cancel()).refunded_pence
    assert (_CANCELLED, _FULL, 0) == (
        await front.books(),
        await front.levels(),
        await front.cash(),
    )
    assert 1 == (await Office(front.shop).give_back((MUG, 1, "3.00"), key="late")).unmatched


async def test_both_at_once(open_shop: OpenShop) -> None:
    """Of orders that are given back and cancelled in the same moment each unit comes back once."""
    shops = [await open_shop(), await open_shop()]
    front = Front(shops[0])
    await front.shop.stock.fill({TEA: 500, MUG: 500})
    for number in range(12):
        key = str(number)
        await front.place(key=key)
        offices = [Office(shop) for shop in shops]
        lines = (TEA, 1, "1.10"), (MUG, 1, "3.00"), (TEA, 1, "1.10")
        given, cancelled = await asyncio.gather(
            offices[0].give_back(*lines, key=key), offices[1].cancel(key)
        )
        assert PENCE == given.refunded_pence + cancelled.refunded_pence
        assert _CANCELLED == await front.books(key)
    assert (_FULL, 0) == (await front.levels(), await front.cash())


async def test_it_waits_for_what_is_on_its_way_back(open_shop: OpenShop) -> None:
    """While some of it is being given back it is not yet cancelled: nothing of it is owed then."""
    front = await _front(open_shop)
    await front.place()
    giving, office = Office(front.shop, Deaths(5)), Office(front.shop)
    with pytest.raises(Crash):
        await giving.give_back((TEA, 1, "1.10"))
    cancelling = asyncio.ensure_future(office.cancel())
    async with asyncio.timeout(PATIENCE_S):
        while ["refund"] != (await front.events())[5:]:
            await asyncio.sleep(0)
    assert not (await asyncio.wait((cancelling,), timeout=0.1))[0]
    giving.faults.deaths.is_dead = False
    await giving.give_back((TEA, 1, "1.10"))
    assert PENCE - 110 == (await cancelling).refunded_pence
    assert ["refund", "refund", "cancel"] == (await front.events())[5:]
    assert (_CANCELLED, _FULL, 0) == (
        await front.books(),
        await front.levels(),
        await front.cash(),
    )


async def test_what_was_refunded_by_hand_is_not_refunded_again(open_shop: OpenShop) -> None:
    """No more goes back than was taken, and it is cancelled all the same."""
    front = await _front(open_shop)
    order_id = (await front.place()).order_id
    await front.shop.payments.refund(Refund(order_id, an_id("a broken mug"), 100))
    assert PENCE - 100 == (await Office(front.shop).cancel()).refunded_pence
    assert (_CANCELLED, 0) == (await front.books(), await front.cash())


async def test_what_it_tells_is_what_it_did(open_shop: OpenShop) -> None:
    """The refund that the event names is that of the payment; asked years later it is the same."""
    front = await _front(open_shop)
    order_id = (await front.place()).order_id
    answer = await Office(front.shop).cancel()
    (refund,) = (await front.shop.payments.payment_of(order_id)).refunds
    rows = "SELECT body FROM agent99_outbox WHERE topic = 'order.refunded'"
    (body,) = await front.shop.orders._store.read(lambda tx: tx.execute(rows).scalars())
    event = msgspec.json.decode(body, type=OrderRefunded)
    assert (refund.refund_id, PENCE) == (event.refund_id, event.amount_pence)
    await front.shop.store.transaction(
        lambda tx: tx.execute("DELETE FROM agent99_idempotency").changed
    )
    assert answer == await Office(front.shop).cancel(key="years later")


@_SQLITE
async def test_what_cannot_be_cancelled(open_shop: OpenShop) -> None:
    """What has left, what was rejected, and what nobody ordered; they stay as they are."""
    front = await _front(open_shop)
    answer = await front.place()
    await front.shop.shipments.ship(Ship(answer.order_id, ORDER.items, ORDER.shipping_address))
    before = await front.books()
    await front.refused(order_of((TEA, 501, "1.10")), "short")
    for order, code, state in (
        ("k", "ORDER_CLOSED", "shipped"),
        ("short", "ORDER_CLOSED", "rejected"),
        ("nobody's", "ORDER_NOT_FOUND", None),
    ):
        failure = await Office(front.shop).refused(order)
        assert (code, state) == (failure.code, failure.details.get("state"))
    assert before == await front.books()


@_SQLITE
async def test_whoever_dies_of_it(open_shop: OpenShop) -> None:
    """Wherever a process dies, goods and money come back once."""
    front = await _front(open_shop)
    counted = Deaths()
    await front.place(key="0")
    await Office(front.shop, counted).cancel("0")
    assert counted.points > 20
    for at in range(1, counted.points + 1):
        key = str(at)
        await front.place(key=key)
        assert 2 == await Office(front.shop, Deaths(at)).in_processes(key), at
        assert _CANCELLED == await front.books(key), at
    assert (_FULL, 0) == (await front.levels(), await front.cash())


class SlowPayment(PaymentAgent):
    """Answers when it is let."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # as it is made
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def authorise(self, request: Authorise) -> Authorisation:
        """Hold the money, later."""
        self.is_asked.set()
        await self.may_answer.wait()
        return await super().authorise(request)


async def _cancel(stand: Stand) -> OrderCancelled:
    return await stand.client.request(
        "order_processing",
        "cancel",
        {"order_id": order_uuid("k")},
        returns=OrderCancelled,
        timeout_s=20.0,
    )


async def _turned(stand: Stand) -> None:
    """Return once the journal of the only order says that it is to be undone."""
    desk = Desk(stand.client)
    async with asyncio.timeout(PATIENCE_S):
        while not any(view.history.is_cancel_wanted for view in (await desk.open_sagas()).sagas):
            await asyncio.sleep(0)


async def _state_of(stand: Stand) -> str:
    return (await stand.view(order_uuid("k"))).state


async def test_an_order_under_way_is_turned_back(tmp_path: Path) -> None:
    """Before its money is taken: whoever placed it is told, and nothing is held."""
    async with a_stand(tmp_path) as stand:
        payment = SlowPayment(stand.settings)
        await stand.host_all(payment)
        placing = asyncio.ensure_future(stand.refused(timeout_s=20.0))
        await payment.is_asked.wait()
        cancelling = asyncio.ensure_future(_cancel(stand))
        await _turned(stand)
        payment.may_answer.set()
        assert 0 == (await cancelling).refunded_pence
        assert SAGA_CANCELLED == (await placing).code
        assert "cancelled" == await _state_of(stand)
        assert ((100, 0, 0), (100, 0, 0)) == (await stand.level(TEA), await stand.level(MUG))
        assert OrderCancelled(order_uuid("k"), 0) == await _cancel(stand)


async def test_within_the_grace_an_order_can_be_cancelled(tmp_path: Path) -> None:
    """It is paid, and waits in the house; then it is refunded, and its customer told."""
    async with a_stand(tmp_path) as stand:
        stand.settings = msgspec.structs.replace(stand.settings, grace_s=600.0)
        await stand.host_all()
        await stand.place()
        assert "notify" in await stand.events(order_uuid("k"), 6)
        assert PENCE == (await _cancel(stand)).refunded_pence
        assert "cancelled" == await _state_of(stand)
        assert (100, 0, 2) == await stand.level(TEA)  # they left the shelf, and came back
        found = await stand.ask("fulfillment", {"order_id": order_uuid("k")}, "query")
        assert ["cancelled"] == [each["status"] for each in found["shipments"]]


async def test_without_grace_it_has_left(tmp_path: Path) -> None:
    """The refusal says so, and that it is with its customer."""
    async with a_stand(tmp_path) as stand:
        await stand.host_all()
        await stand.place()
        await stand.events(order_uuid("k"), 7)
        with pytest.raises(RemoteError) as caught:
            await _cancel(stand)
        assert ("ORDER_CLOSED", "shipped") == (caught.value.code, caught.value.details["state"])
        assert "confirmed" == await _state_of(stand)
