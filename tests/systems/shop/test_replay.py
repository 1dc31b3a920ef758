"""The replay: who comes when, what is asked again, and what is counted."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99 import Agent
from agent99.clock import SystemClock
from agent99.errors import (
    BadRequestError,
    DeadlineExceededError,
    DisconnectedError,
    Failure,
    HandlerError,
    NoAgentError,
    OverloadedError,
    RequestCancelledError,
    RequestError,
    TransportError,
)
from agent99.ids import SeededIds, SystemIds
from agent99.systems.shop._model import OrderConfirmation, PlaceOrder
from agent99.systems.shop._replay import (
    BROKEN_MAX,
    FULL,
    Customer,
    Outcome,
    Pace,
    Tally,
    in_time,
    may_ask_again,
    replay,
)
from agent99.systems.shop._year import Invoice, Line, Year
from agent99.testing import ManualClock
from tests.systems.shop._shop import TEA, an_id
from tests.systems.shop._stand import a_stand

_START = datetime(2010, 4, 12)  # noqa: DTZ001 - the file tells no time zone


def _invoice(number: int, customer: object, hours: float = 0.0) -> Invoice:
    return Invoice(
        number=str(number),
        kind="order",
        customer_id=an_id(customer),
        is_guest=False,
        at=_START + timedelta(hours=hours),
        country="France",
        lines=(Line(number, TEA, 1, 110),),
    )


@given(
    st.lists(st.integers(0, 4), max_size=40),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_customers_at_once_but_each_in_order(
    customers: list[int], at_once: int, luck: st.DataObject
) -> None:
    """Never more than `at_once`, never two of one customer, and every order once."""
    orders = [_invoice(index, customer) for index, customer in enumerate(customers)]
    under_way: set[UUID] = set()
    done: dict[UUID, list[str]] = defaultdict(list)
    most = 0

    async def place(order: Invoice) -> None:
        nonlocal most
        assert order.customer_id not in under_way
        under_way.add(order.customer_id)
        most = max(most, len(under_way))
        for _ in range(luck.randint(0, 3)):
            await asyncio.sleep(0)
        under_way.remove(order.customer_id)
        done[order.customer_id].append(order.number)

    asyncio.run(replay(orders, place, pace=Pace(ManualClock(), 0.0), at_once=at_once))
    expected: dict[UUID, list[str]] = defaultdict(list)
    for order in orders:
        expected[order.customer_id].append(order.number)
    assert expected == done
    assert most <= at_once


async def test_as_many_at_once_as_it_may() -> None:
    """No place stays empty while a customer waits."""
    full = asyncio.Barrier(4)

    async def place(_order: Invoice) -> None:
        await full.wait()

    orders = [_invoice(index, index) for index in range(12)]
    pace = Pace(ManualClock(), 0.0)
    await asyncio.wait_for(replay(orders, place, pace=pace, at_once=4), 5)


async def test_a_fault_ends_the_replay() -> None:
    """What cannot go on is raised, and the others are ended."""

    async def place(order: Invoice) -> None:
        if order.number == "3":
            raise RuntimeError(order.number)
        await asyncio.Event().wait()

    orders = [_invoice(index, index) for index in range(8)]
    with pytest.raises(RuntimeError, match="3"):
        await replay(orders, place, pace=Pace(ManualClock(), 0.0))


def test_orders_come_by_their_time(extract: Year) -> None:
    """Orders and cancellations, and those of one customer in the order of the replay."""
    ordered = in_time(extract)
    assert extract.counts.orders + extract.counts.cancellations == len(ordered)
    assert sorted(order.at for order in ordered) == [order.at for order in ordered]
    by_customer: dict[UUID, list[Invoice]] = defaultdict(list)
    for order in ordered:
        by_customer[order.customer_id].append(order)
    for invoices in extract.customers:
        assert list(invoices) == by_customer[invoices[0].customer_id]


async def test_the_pace_of_the_file() -> None:
    """Two days of the file in a second; what is late does not wait."""
    clock = ManualClock()
    pace = Pace(clock, 2.0)
    times: list[float] = []

    async def walk() -> None:
        for hours in (0, 12, 48, 48):
            await pace.wait(_START + timedelta(hours=hours))
            times.append(round(clock.monotonic_s(), 2))

    walking = asyncio.ensure_future(walk())
    while not walking.done():
        await clock.advance(0.05)
    assert [0.0, 0.25, 1.0, 1.0] == times
    assert "2.0" in repr(pace)


class Moody(Agent):
    """Answers as `says` says, the last of it for ever."""

    capabilities = ("order_processing",)
    says: ClassVar[list[str]] = []
    keys: ClassVar[list[str | None]] = []

    async def process_request(self, order: PlaceOrder) -> OrderConfirmation:
        """Answer."""
        self.keys.append(self.context.idempotency_key)
        word = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if word == "broken":
            raise RuntimeError(word)
        if word != "confirmed":
            raise Failure(word, code=word, retryable=word in ("PENDING", *FULL))
        at = _START.date()
        return OrderConfirmation(an_id("order"), order.items[0].unit_price, at, 110)


@pytest.mark.parametrize(
    ("says", "outcome", "tries"),
    [
        (["confirmed"], Outcome("confirmed", total_pence=110), 1),
        (["PENDING", "broken", "confirmed"], Outcome("confirmed", total_pence=110), 3),
        (["PAYMENT_ERROR"], Outcome("rejected", "PAYMENT_ERROR"), 1),
        (["STORE_FULL"], Outcome("unfinished", "STORE_FULL"), 1),
        (["STREAM_FULL"], Outcome("unfinished", "STREAM_FULL"), 1),
        (["broken"], Outcome("unfinished", "HANDLER_ERROR"), BROKEN_MAX + 1),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
async def test_no_order_is_lost(
    tmp_path: Path, says: list[str], outcome: Outcome, tries: int
) -> None:
    """It is asked for by its number until it is answered; what stays broken is unfinished."""
    async with a_stand(tmp_path) as stand:
        Moody.says, Moody.keys = list(says), []
        await stand.host(Moody())
        customer = Customer(stand.client, SystemClock(), SystemIds())
        assert outcome == await customer.place(_invoice(500_001, "someone"))
        assert ["500001"] * tries == Moody.keys


async def test_nobody_there_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    """Somebody comes late, and takes the order; nobody comes, and it is unfinished."""
    async with a_stand(tmp_path) as stand:
        Moody.says, Moody.keys = ["confirmed"], []
        customer = Customer(stand.client, SystemClock(), SystemIds())
        placing = asyncio.ensure_future(customer.place(_invoice(500_001, "someone")))
        await stand.host(Moody())
        assert "confirmed" == (await placing).fate

    async with a_stand(tmp_path) as stand:
        clock = ManualClock()
        alone = Customer(stand.client, clock, SeededIds(1))
        placing = asyncio.ensure_future(alone.place(_invoice(500_001, "someone")))
        while not placing.done():
            await clock.advance(0.5)
        assert Outcome("unfinished", "NO_AGENT") == placing.result()


def test_the_tally() -> None:
    """Every outcome in one count, and the latency that a share of the orders kept."""
    tally = Tally()
    assert 0.0 == tally.latency_ms(0.99)
    for index in range(100):
        tally.add(Outcome("confirmed", total_pence=10), index / 1000)
    tally.add(Outcome("rejected", "PAYMENT_ERROR"), 1.0)
    tally.add(Outcome("unfinished", "NO_AGENT"), 2.0)
    assert (100, 1_000) == (tally.confirmed, tally.revenue_pence)
    assert ({"PAYMENT_ERROR": 1}, {"NO_AGENT": 1}) == (tally.rejected, tally.unfinished)
    assert (51.0, 1_000.0) == (tally.latency_ms(0.5), tally.latency_ms(0.99))
    assert "confirmed=100" in repr(tally)


@pytest.mark.parametrize(
    ("make", "again"),
    [
        (lambda: OverloadedError("x"), True),
        (lambda: NoAgentError("x"), True),
        (lambda: DeadlineExceededError("x"), True),
        (lambda: RequestCancelledError("x"), True),
        (lambda: DisconnectedError("x"), True),
        (lambda: Failure("x", code="STORE_OVERLOADED", retryable=True), True),
        (lambda: Failure("x", code="PAYMENT_DECLINED"), False),
        (lambda: HandlerError("x"), False),
        (lambda: BadRequestError("x"), False),
    ],
)
def test_what_may_be_asked_again(
    make: Callable[[], RequestError | TransportError], again: bool
) -> None:
    """What did not run, and what is not known; a word that was spoken is final."""
    assert again is may_ask_again(make())
