"""Any history of payments, in any order and with any repetition, against a model of four fields."""

from __future__ import annotations

import asyncio
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import Failure, IdempotencyConflictError
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._payment_model import Capture, PaymentView, Refund
from tests.systems.shop._shop import an_id
from tests.systems.shop._till import Till, charge, hold, tills

_RULE = DeclineRule(rate=0.3)
_ORDERS = 3
"""The last of them is declined."""
_fresh = count()


class Step(NamedTuple):
    """One request; `pence` and `name` where it has them."""

    what: str
    order: int
    pence: int | None = None
    name: int = 0


def _steps() -> st.SearchStrategy[list[Step]]:
    order = st.integers(0, _ORDERS - 1)
    held, taken = st.sampled_from([1250, 1250, 900]), st.sampled_from([None, 1250, 800, 1300])
    step = st.one_of(
        st.builds(Step, st.sampled_from(["authorise", "charge"]), order, held),
        st.builds(Step, st.just("capture"), order, taken),
        st.builds(Step, st.just("void"), order),
        st.builds(
            Step,
            st.just("refund"),
            st.sampled_from([0, 0, 1, 2]),
            st.sampled_from([1, 400, 800]),
            st.integers(0, 3),
        ),
    )
    # Most histories begin with money that is held, or nothing much would come of them.
    opened = st.lists(st.builds(Step, st.just("authorise"), order, st.just(1250)), max_size=2)
    return st.builds(lambda a, b: [*a, *b], opened, st.lists(step, min_size=1, max_size=12))


class Model:
    """The payments of a few orders as the rules say in words, without a database."""

    def __init__(self, declined: set[int]) -> None:
        self.declined = declined
        self.state: dict[int, str] = {}
        self.held: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        self.refunds: dict[int, tuple[int, int]] = {}
        """By name: of which order, and how much."""

    def back(self, order: int) -> int:
        """Return what went back of an order."""
        return sum(pence for of, pence in self.refunds.values() if of == order)

    def apply(self, step: Step) -> str:
        """Do a step; returns the code of its refusal, or nothing."""
        refusal: str = getattr(self, step.what)(step.order, step.pence, step.name)
        return refusal

    def authorise(self, order: int, pence: int, _name: int) -> str:
        """Hold."""
        if order not in self.state:
            self.state[order] = "declined" if order in self.declined else "authorised"
            self.held[order] = pence
        if self.state[order] == "voided":
            return "PAYMENT_CLOSED"
        if self.held[order] != pence:
            return "IDEMPOTENCY_CONFLICT"
        return "PAYMENT_DECLINED" if self.state[order] == "declined" else ""

    def charge(self, order: int, pence: int, name: int) -> str:
        """Hold and take."""
        return self.authorise(order, pence, name) or self.capture(order, pence, name)

    def capture(self, order: int, pence: int | None, _name: int) -> str:
        """Take."""
        state = self.state.get(order)
        if state not in {"authorised", "captured"}:
            return "PAYMENT_CLOSED" if state else "PAYMENT_NOT_FOUND"
        wanted = self.held[order] if pence is None else pence
        if state == "captured":
            return "" if wanted == self.taken[order] else "IDEMPOTENCY_CONFLICT"
        if wanted > self.held[order]:
            return "CAPTURE_TOO_LARGE"
        self.state[order], self.taken[order] = "captured", wanted
        return ""

    def void(self, order: int, _pence: None, _name: int) -> str:
        """Let go."""
        if self.state.get(order) == "captured":
            return "PAYMENT_CLOSED"
        if self.state.get(order) != "declined":
            self.state[order] = "voided"
            self.held.setdefault(order, 0)
        return ""

    def refund(self, order: int, pence: int, name: int) -> str:
        """Give back."""
        if order not in self.state:
            return "PAYMENT_NOT_FOUND"
        if name in self.refunds:
            return "" if self.refunds[name] == (order, pence) else "IDEMPOTENCY_CONFLICT"
        if self.back(order) + pence > self.taken.get(order, 0):
            return "REFUND_TOO_LARGE"
        self.refunds[name] = (order, pence)
        return ""


def _orders() -> list[UUID]:
    """Return orders that nobody has used, the last of which is declined."""
    ids = (an_id(f"history:{number}") for number in _fresh)
    accepted: list[UUID] = []
    declined: list[UUID] = []
    for each in ids:
        (declined if _RULE.declines(each) else accepted).append(each)
        if declined and len(accepted) >= _ORDERS - 1:
            break
    return [*accepted[: _ORDERS - 1], declined[0]]


async def _ask(till: Till, orders: list[UUID], step: Step) -> Any:
    order = orders[step.order]
    pounds = f"{(step.pence or 0) / 100:.2f}"
    if step.what == "authorise":
        return await till.payments.authorise(hold(order, pounds))
    if step.what == "charge":
        return await till.payments.charge(charge(order, pounds))
    if step.what == "capture":
        return await till.payments.capture(Capture(order, step.pence))
    if step.what == "void":
        return await till.payments.void(order)
    name = an_id(f"{orders[0]}:{step.name}")
    return await till.payments.refund(Refund(order, name, step.pence or 0))


async def _is_conserved(till: Till, orders: list[UUID], model: Model) -> None:
    """Check that the ledger, the payments and the model say the same of every order."""
    for number, order in enumerate(orders):
        cash = await till.cash(order)
        assert model.taken.get(number, 0) - model.back(number) == cash
        if number not in model.state:
            continue
        view: PaymentView = await till.payments.payment_of(order)
        assert (
            model.state[number],
            model.held[number],
            model.taken.get(number, 0),
            model.back(number),
        ) == (view.state, view.amount_pence, view.captured_pence, view.refunded_pence)
        assert view.refunded_pence <= view.captured_pence <= view.amount_pence
    ((whole,),) = await till.rows("SELECT coalesce(sum(pence), 0) FROM ledger")
    assert 0 == whole


async def _play(two: list[Till], steps: list[Step]) -> None:
    """Play a history on two tills in turn, each step beside the model's."""
    orders = _orders()
    model = Model({_ORDERS - 1})
    answers: dict[tuple[str, int, int], Any] = {}
    for index, step in enumerate(steps):
        try:
            answer, refusal = await _ask(two[index % 2], orders, step), ""
        except (Failure, IdempotencyConflictError) as error:
            answer, refusal = None, error.code
        assert model.apply(step) == refusal, step
        if not refusal:
            key = (step.what, step.order, step.name)
            assert answers.setdefault(key, answer) == answer, "the same request, another answer"
        await _is_conserved(two[0], orders, model)


def _hold_against_the_model(url: str, examples_max: int) -> None:
    @hypothesis.settings(max_examples=examples_max)
    @given(_steps())
    def hold_one(steps: list[Step]) -> None:
        runner.run(_play(two, steps))

    async def open_two() -> list[Till]:
        return [await open_one(_RULE), await open_one(_RULE)]

    with asyncio.Runner() as runner:
        opened = tills(url)
        open_one = runner.run(opened.__aenter__())
        try:
            two = runner.run(open_two())
            hold_one()
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_any_history_conserves_the_money(tmp_path: Path) -> None:
    """Whatever is asked, in whatever order: answered as the model, and no penny appears."""
    _hold_against_the_model(f"sqlite:///{tmp_path}/till.db", 25)


@pytest.mark.slow
def test_many_histories_conserve_the_money(till_url: str) -> None:
    """The same, on both databases and for longer."""
    _hold_against_the_model(till_url, 400)
