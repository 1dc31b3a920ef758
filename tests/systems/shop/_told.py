"""What a shop might tell of some orders: for the tests of what is made of it."""

from __future__ import annotations

from itertools import accumulate
from uuid import UUID

from hypothesis import strategies as st

from agent99.systems.shop._events import (
    CustomerTold,
    OrderMoved,
    OrderRefunded,
    OrderShipped,
    ShipmentCancelled,
    ShipmentPrepared,
    Told,
)
from agent99.systems.shop._states import INITIAL, TRANSITIONS, OrderEvent, OrderState
from tests.systems.shop._shop import an_id

WAYS = ("confirmed", "rejected", "late")
_E = OrderEvent
_PATHS = {
    "confirmed": (_E.RESERVE, _E.AUTHORISE, _E.PAY, _E.CONFIRM),
    "rejected": (_E.RESERVE, _E.DECLINE),
    "late": (_E.RESERVE, _E.LOSE_SIGHT_OF_PAYMENT, _E.AUTHORISE, _E.PAY, _E.CONFIRM),
}


def steps_of(order: object, way: str = "confirmed", total_pence: int = 520) -> list[OrderMoved]:
    """Return the steps of an order, from the first to the last, as the shop tells them."""
    events = _PATHS[way]
    states = accumulate(events, _after, initial=INITIAL)
    return [
        OrderMoved(
            order_id=an_id(order),
            customer_id=an_id("someone"),
            step=step,
            event=event,
            state=state.value,
            total_pence=total_pence,
            at_us=1_000 + step,
            reason="PAYMENT_ERROR" if state is OrderState.REJECTED else None,
        )
        for step, (event, state) in enumerate(zip(("receive", *events), states, strict=True))
    ]


def story_of(order: object, way: str = "confirmed") -> list[Told]:
    """Return all that is told of an order; a confirmed one ships in two parts, one comes back."""
    moved = steps_of(order, way)
    if way == "rejected":
        return [*moved]
    order_id, customer_id = an_id(order), an_id("someone")
    refund = OrderRefunded(order_id, customer_id, an_id(f"{order}:refund"), 7, 100, 3_000)
    return [
        *moved,
        ShipmentPrepared(order_id, _shipment(order, 1), "Evri", 2_000, 9_000),
        OrderShipped(order_id, _shipment(order, 1), "Evri", 2_001),
        ShipmentPrepared(order_id, _shipment(order, 2), "Evri", 2_000, 9_000, part=2),
        ShipmentCancelled(order_id, _shipment(order, 2), 1_999, part=2),
        CustomerTold(
            order_id, customer_id, an_id(f"{order}:told"), "order_confirmation", "sms", 2_002
        ),
        refund,
    ]


stories = st.lists(st.sampled_from(WAYS), max_size=4).map(
    lambda ways: [told for number, way in enumerate(ways) for told in story_of(number, way)]
)
"""All that is told of up to four orders, in its own order."""


@st.composite
def tellings(draw: st.DrawFn) -> tuple[list[Told], list[Told]]:
    """Draw what is told of some orders; and the same in any order, with some of it told again."""
    story = draw(stories)
    again = draw(st.lists(st.sampled_from(story), max_size=10)) if story else []
    return story, draw(st.permutations([*story, *again]))


def _after(state: OrderState, event: OrderEvent) -> OrderState:
    return TRANSITIONS[state, event]


def _shipment(order: object, part: int) -> UUID:
    return an_id(f"{order}:ship:{part}")
