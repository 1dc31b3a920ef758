"""Payments in two phases: held, then taken or let go, then given back; each named and done once."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import UUID

import pytest

from agent99.errors import ConstraintError, Failure, IdempotencyConflictError
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._payment_model import (
    REFUNDS_SHOWN_MAX,
    Capture,
    CaptureReceipt,
    Refund,
    RefundReceipt,
    Voided,
)
from agent99.systems.shop._payment_rows import payment_of
from tests.systems.shop._shop import an_id
from tests.systems.shop._till import (
    OpenTill,
    Till,
    back,
    charge,
    hold,
    paid,
    refused,
)

_STRICT = DeclineRule(rate=1.0)


@pytest.fixture
def order_id(request: pytest.FixtureRequest) -> UUID:
    """Give an order of the test's own: the tests of this file share a database."""
    return an_id(request.node.nodeid)


def _closed(order_id: UUID, state: str) -> tuple[str, dict[str, str]]:
    details = {"order_id": str(order_id), "payment_id": str(payment_of(order_id)), "state": state}
    return "PAYMENT_CLOSED", details


async def _stands(till: Till, order_id: UUID) -> tuple[str, int, int, int]:
    """Return how a payment stands; the ledger says the same."""
    view = await till.payments.payment_of(order_id)
    assert await till.cash(order_id) == view.captured_pence - view.refunded_pence
    assert view.refunded_pence == sum(each.amount_pence for each in view.refunds)
    return view.state, view.amount_pence, view.captured_pence, view.refunded_pence


# --- held, taken, let go --------------------------------------------------------------------------


async def test_money_is_held_then_taken(open_till: OpenTill, order_id: UUID) -> None:
    """What is held is in no ledger; what is taken is there twice."""
    till = await open_till()
    held = await till.payments.authorise(hold(order_id))
    assert (order_id, 1250) == (held.order_id, held.authorised_pence)
    assert ("authorised", 1250, 0, 0) == await _stands(till, order_id)
    taken = await till.payments.capture(Capture(order_id))
    assert (held.payment_id, 1250, 0) == (
        taken.payment_id,
        taken.captured_pence,
        taken.released_pence,
    )
    assert {taken.transaction_id: [("cash", 1250), ("sales", -1250)]} == await till.entries(
        order_id
    )
    assert ("captured", 1250, 1250, 0) == await _stands(till, order_id)


async def test_an_orders_money_is_held_once(open_till: OpenTill, order_id: UUID) -> None:
    """Twenty requests from two processes are one answer, which stays it; another is a conflict."""
    tills = [await open_till(), await open_till()]
    requests = [tills[index % 2].payments.authorise(hold(order_id)) for index in range(20)]
    answers = set(await asyncio.gather(*requests))
    assert 1 == len(answers)
    for other in (hold(order_id, "12.51"), hold(order_id, customer_id=an_id("another"))):
        with pytest.raises(IdempotencyConflictError):
            await tills[0].payments.authorise(other)
    await tills[1].payments.capture(Capture(order_id, 1000))
    await tills[1].payments.refund(back(order_id, 1, 1000))
    assert answers == {await tills[0].payments.authorise(hold(order_id))}
    assert ("captured", 1250, 1000, 1000) == await _stands(tills[0], order_id)


async def test_a_part_is_taken_and_the_rest_let_go(open_till: OpenTill, order_id: UUID) -> None:
    """What was taken is final: the same again is the same answer, another amount a conflict."""
    till = await open_till()
    await till.payments.authorise(hold(order_id))
    answers: set[CaptureReceipt] = {
        await till.payments.capture(Capture(order_id, 1000)) for _ in range(3)
    }
    assert [(1000, 250)] == [(each.captured_pence, each.released_pence) for each in answers]
    for pence in (None, 999, 1251):
        with pytest.raises(IdempotencyConflictError):
            await till.payments.capture(Capture(order_id, pence))
    assert ("captured", 1250, 1000, 0) == await _stands(till, order_id)


async def test_all_of_it_has_two_spellings(open_till: OpenTill, order_id: UUID) -> None:
    """No amount means what is held, and so is the same request as that amount."""
    till = await open_till()
    await till.payments.authorise(hold(order_id))
    answers = {await till.payments.capture(Capture(order_id, pence)) for pence in (None, 1250)}
    assert 1 == len(answers)


async def test_no_more_is_taken_than_is_held(open_till: OpenTill, order_id: UUID) -> None:
    """`CAPTURE_TOO_LARGE` says both sums, and what is held stays held."""
    till = await open_till()
    await till.payments.authorise(hold(order_id))
    details = {"authorised_pence": 1250, "requested_pence": 1251}
    attempt = till.payments.capture(Capture(order_id, 1251))
    assert ("CAPTURE_TOO_LARGE", details) == await refused(attempt)
    assert ("authorised", 1250, 0, 0) == await _stands(till, order_id)


async def test_what_is_held_is_let_go(open_till: OpenTill, order_id: UUID) -> None:
    """Twice is the same answer; what was given up is neither held nor taken again, however late."""
    till = await open_till()
    held = await till.payments.authorise(hold(order_id))
    for _ in range(2):
        assert Voided(held.payment_id, order_id, "voided", 1250) == await till.payments.void(
            order_id
        )
    for attempt in (
        till.payments.authorise(hold(order_id)),
        till.payments.authorise(hold(order_id, "1.00")),
        till.payments.charge(charge(order_id)),
        till.payments.capture(Capture(order_id)),
    ):
        assert _closed(order_id, "voided") == await refused(attempt)
    assert ("voided", 1250, 0, 0) == await _stands(till, order_id)


async def test_a_late_request_holds_nothing(open_till: OpenTill, order_id: UUID) -> None:
    """An order that was voided before its request to hold came stays so: nobody's, and nothing."""
    till = await open_till()
    for _ in range(2):
        assert Voided(payment_of(order_id), order_id, "voided", 0) == await till.payments.void(
            order_id
        )
    for attempt in (
        till.payments.authorise(hold(order_id)),
        till.payments.charge(charge(order_id)),
        till.payments.capture(Capture(order_id)),
    ):
        assert _closed(order_id, "voided") == await refused(attempt)
    assert ("voided", 0, 0, 0) == await _stands(till, order_id)
    assert (await till.payments.payment_of(order_id)).customer_id is None


async def test_what_was_taken_is_not_let_go(open_till: OpenTill, order_id: UUID) -> None:
    """`PAYMENT_CLOSED` says that it was captured: it is to be refunded instead."""
    till = await open_till()
    await paid(till, order_id)
    assert _closed(order_id, "captured") == await refused(till.payments.void(order_id))
    assert ("captured", 1250, 1250, 0) == await _stands(till, order_id)


async def test_a_declined_order_stays_declined(open_till: OpenTill, order_id: UUID) -> None:
    """As for a charge: the same refusal always, whichever process and operation it meets."""
    strict, lenient = await open_till(_STRICT), await open_till()
    details = {"reason": "declined_by_bank", "payment_id": str(payment_of(order_id))}
    for attempt in (
        strict.payments.authorise(hold(order_id)),
        strict.payments.charge(charge(order_id)),
        lenient.payments.authorise(hold(order_id)),
    ):
        assert ("PAYMENT_DECLINED", details) == await refused(attempt)
    with pytest.raises(IdempotencyConflictError):
        await lenient.payments.authorise(hold(order_id, "12.51"))
    attempt = lenient.payments.capture(Capture(order_id))
    assert _closed(order_id, "declined") == await refused(attempt)
    for _ in range(2):
        answer = await lenient.payments.void(order_id)
        assert Voided(payment_of(order_id), order_id, "declined", 0) == answer
    assert ("declined", 1250, 0, 0) == await _stands(lenient, order_id)


async def test_a_charge_is_both_phases_at_once(open_till: OpenTill, order_id: UUID) -> None:
    """It takes what is held, and what it took answers for both phases; a part is another sum."""
    till, other, part = await open_till(), an_id(f"{order_id}:2"), an_id(f"{order_id}:3")
    await till.payments.authorise(hold(order_id))
    taken = await till.payments.charge(charge(order_id))
    assert taken == await till.payments.charge(charge(order_id))
    assert taken.transaction_id == (await till.payments.capture(Capture(order_id))).transaction_id
    await till.payments.charge(charge(other))
    await till.payments.authorise(hold(other))
    assert ("captured", 1250, 1250, 0) == await _stands(till, other)
    await paid(till, part, 1000)
    with pytest.raises(IdempotencyConflictError):
        await till.payments.charge(charge(part))
    assert ("captured", 1250, 1000, 0) == await _stands(till, part)


async def test_an_order_without_a_payment(open_till: OpenTill, order_id: UUID) -> None:
    """`PAYMENT_NOT_FOUND`, and asking leaves nothing: its money can still be held."""
    till = await open_till()
    for attempt in (
        till.payments.capture(Capture(order_id)),
        till.payments.refund(back(order_id, 1, 1)),
        till.payments.payment_of(order_id),
    ):
        assert ("PAYMENT_NOT_FOUND", {"order_id": str(order_id)}) == await refused(attempt)
    await paid(till, order_id)


async def test_taken_or_let_go(open_till: OpenTill, order_id: UUID) -> None:
    """Two processes that want the one and the other of the same order: one has its way."""
    tills = [await open_till(), await open_till()]

    async def race(order: UUID) -> None:
        await tills[0].payments.authorise(hold(order))
        taken, voided = await asyncio.gather(
            tills[0].payments.capture(Capture(order)),
            tills[1].payments.void(order),
            return_exceptions=True,
        )
        state = (await _stands(tills[0], order))[0]
        assert ("captured" if isinstance(voided, Failure) else "voided") == state
        assert isinstance(taken, Failure) is not isinstance(voided, Failure)

    await asyncio.gather(*(race(an_id(f"{order_id}:{number}")) for number in range(20)))


# --- given back -----------------------------------------------------------------------------------


async def test_money_goes_back_in_parts(open_till: OpenTill, order_id: UUID) -> None:
    """Any number of refunds, up to what was taken, not to what was held; each a transaction."""
    till = await open_till()
    await paid(till, order_id, 1000)
    wanted = [back(order_id, 1, 300, "broken"), back(order_id, 2, 300), back(order_id, 3, 400)]
    receipts = [await till.payments.refund(each) for each in wanted]
    assert ("captured", 1250, 1000, 1000) == await _stands(till, order_id)
    entries = await till.entries(order_id)
    assert [("cash", -300), ("sales", 300)] == entries[receipts[0].transaction_id]
    assert 4 == len(entries)
    refunds = (await till.payments.payment_of(order_id)).refunds
    assert [(each.refund_id, each.amount_pence, each.reason) for each in wanted] == [
        (each.refund_id, each.amount_pence, each.reason) for each in refunds
    ]
    details = {"captured_pence": 1000, "refunded_pence": 1000, "requested_pence": 1}
    attempt = till.payments.refund(back(order_id, 4, 1))
    assert ("REFUND_TOO_LARGE", details) == await refused(attempt)


async def test_a_refund_is_made_once(open_till: OpenTill, order_id: UUID) -> None:
    """Twenty requests from two processes are one refund; with other content it is a conflict."""
    tills, other = [await open_till(), await open_till()], an_id(f"{order_id}:2")
    for order in (order_id, other):
        await paid(tills[0], order)
    wanted = back(order_id, 1, 700, "broken")
    requests = [tills[index % 2].payments.refund(wanted) for index in range(20)]
    assert 1 == len(set(await asyncio.gather(*requests)))
    for another in (
        Refund(order_id, wanted.refund_id, 699, "broken"),
        Refund(order_id, wanted.refund_id, 700, "late"),
        Refund(other, wanted.refund_id, 700, "broken"),
    ):
        with pytest.raises(IdempotencyConflictError):
            await tills[1].payments.refund(another)
    assert ("captured", 1250, 1250, 700) == await _stands(tills[0], order_id)
    assert ("captured", 1250, 1250, 0) == await _stands(tills[0], other)


async def test_a_refund_that_was_refused_leaves_its_id(open_till: OpenTill, order_id: UUID) -> None:
    """What was not taken cannot go back; once it is taken, the same refund can."""
    till = await open_till()
    await till.payments.authorise(hold(order_id))
    details = {"captured_pence": 0, "refunded_pence": 0, "requested_pence": 1250}
    attempt = till.payments.refund(back(order_id, 1, 1250))
    assert ("REFUND_TOO_LARGE", details) == await refused(attempt)
    await till.payments.capture(Capture(order_id))
    await till.payments.refund(back(order_id, 1, 1250))
    assert ("captured", 1250, 1250, 1250) == await _stands(till, order_id)


async def test_refunds_at_once_never_exceed(open_till: OpenTill, order_id: UUID) -> None:
    """Thirty refunds from two connections: as many as fit into what was taken, the rest refused."""
    tills = [await open_till(), await open_till()]
    await paid(tills[0], order_id)
    attempts = [tills[index % 2].payments.refund(back(order_id, index, 100)) for index in range(30)]
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert {RefundReceipt: 12, Failure: 18} == Counter(map(type, ends))
    assert {"REFUND_TOO_LARGE"} == {end.code for end in ends if isinstance(end, Failure)}
    assert ("captured", 1250, 1250, 1200) == await _stands(tills[0], order_id)


async def test_one_name_for_refunds_of_two_orders(open_till: OpenTill, order_id: UUID) -> None:
    """At once, from two connections: one gets it, the other is a conflict and moves no money."""
    tills = [await open_till(), await open_till()]

    async def race(number: int) -> None:
        orders = [an_id(f"{order_id}:{number}:{side}") for side in range(2)]
        for order in orders:
            await paid(tills[0], order)
        attempts = [
            till.payments.refund(Refund(order, an_id(f"{order_id}:{number}"), 100))
            for till, order in zip(tills, orders, strict=True)
        ]
        ends = await asyncio.gather(*attempts, return_exceptions=True)
        assert {RefundReceipt, IdempotencyConflictError} == {type(end) for end in ends}
        assert 100 == sum([(await _stands(tills[0], order))[3] for order in orders])

    await asyncio.gather(*map(race, range(5)))


async def test_a_view_has_its_bound(open_till: OpenTill, order_id: UUID) -> None:
    """Of very many refunds the latest are shown, the oldest of them first."""
    till = await open_till()
    await paid(till, order_id)
    values = [
        {"name": str(an_id(f"{order_id}:{number}")), "number": number, "of": str(order_id)}
        for number in range(1, REFUNDS_SHOWN_MAX + 3)
    ]
    insert = (
        "INSERT INTO refunds (refund_id, payment_id, number, amount_pence, transaction_id, at_us)"
        " SELECT :name, payment_id, :number, 1, :name, 0 FROM payments WHERE order_id = :of"
    )
    await till.store.transaction(lambda tx: tx.execute(insert, values).changed)
    refunds = (await till.payments.payment_of(order_id)).refunds
    assert [row["name"] for row in values[2:]] == [str(each.refund_id) for each in refunds]


async def test_the_tables_themselves_refuse(open_till: OpenTill, order_id: UUID) -> None:
    """Even a wrong programme cannot take more than was held, or give back more than was taken."""
    till, declined = await open_till(), an_id(f"{order_id}:2")
    await paid(till, order_id, 1000)
    await refused((await open_till(_STRICT)).payments.authorise(hold(declined)))
    for order, change in (
        (order_id, "refunded_pence = 1001"),
        (order_id, "captured_pence = 1251"),
        (order_id, "refunded_pence = -1"),
        (order_id, "state = 'authorised'"),
        (order_id, "customer_id = NULL"),
        (declined, "captured_pence = 1"),
        (declined, "state = 'captured'"),
        (declined, "state = 'lost'"),
    ):
        sql = f"UPDATE payments SET {change} WHERE order_id = '{order}'"
        with pytest.raises(ConstraintError):
            await till.store.transaction(lambda tx, sql=sql: tx.execute(sql).changed)
