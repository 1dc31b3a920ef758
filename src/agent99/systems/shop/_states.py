"""The life of an order: one list of states, one list of events, one table. Pure.

    received ─reserve─▶ reserved ─authorise─▶ authorised ─pay─▶ paid ─confirm─▶ confirmed
        │                 │  ╲                   ▲    │
      refuse          decline  lose_sight…       │    │
        ▼                 ▼    ▼                 │    │
    rejected ◀─decline─── pending_payment ─authorise  │
        ▲──────────────────────────────── decline ────╯

    received ─await_stock─▶ back_ordered ─reserve─▶ reserved,  or ─refuse─▶ rejected

Refusing and declining are two events: what is refused for want of stock never held any.
Until it is paid, and once it is confirmed, an order can be cancelled.

A payment whose outcome is unknown is a state of its own: it is asked for again, never guessed. What
comes after `confirmed` (shipping, refunding) is no state of the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from agent99.systems.shop._errors import IllegalTransitionError


class OrderState(StrEnum):
    """Where an order stands."""

    RECEIVED = "received"
    """Stored; nothing is held and nothing is owed."""
    BACK_ORDERED = "back_ordered"
    """It waits for stock that is not there yet; nothing is held and nothing is owed."""
    RESERVED = "reserved"
    """Its stock is held."""
    PENDING_PAYMENT = "pending_payment"
    """Its stock is held; whether it is paid is unknown."""
    AUTHORISED = "authorised"
    """Its stock is held, and its money too."""
    PAID = "paid"
    """Its stock is the customer's and its money is ours."""
    CONFIRMED = "confirmed"
    """It is paid, and the customer was told."""
    REJECTED = "rejected"
    """Nothing is held and nothing is owed; the reason says why."""
    CANCELLED = "cancelled"
    """Somebody wanted it no more: its stock and its money are back."""


class OrderEvent(StrEnum):
    """What can happen to an order."""

    AWAIT_STOCK = "await_stock"
    RESERVE = "reserve"
    AUTHORISE = "authorise"
    PAY = "pay"
    LOSE_SIGHT_OF_PAYMENT = "lose_sight_of_payment"
    CONFIRM = "confirm"
    REFUSE = "refuse"
    """It breaks a rule, or its stock is not there; nothing is held."""
    DECLINE = "decline"
    """What it had held is let go: the money was refused, or something else could not be had."""
    CANCEL = "cancel"
    """What it had held is let go, or given back: somebody wanted it no more."""


_S, _E = OrderState, OrderEvent
INITIAL: Final = OrderState.RECEIVED
TRANSITIONS: Final[Mapping[tuple[OrderState, OrderEvent], OrderState]] = MappingProxyType(
    {
        (_S.RECEIVED, _E.RESERVE): _S.RESERVED,
        (_S.RECEIVED, _E.REFUSE): _S.REJECTED,
        (_S.RECEIVED, _E.AWAIT_STOCK): _S.BACK_ORDERED,
        (_S.BACK_ORDERED, _E.RESERVE): _S.RESERVED,
        (_S.BACK_ORDERED, _E.REFUSE): _S.REJECTED,
        (_S.RESERVED, _E.AUTHORISE): _S.AUTHORISED,
        (_S.RESERVED, _E.LOSE_SIGHT_OF_PAYMENT): _S.PENDING_PAYMENT,
        (_S.RESERVED, _E.DECLINE): _S.REJECTED,
        (_S.PENDING_PAYMENT, _E.AUTHORISE): _S.AUTHORISED,
        (_S.PENDING_PAYMENT, _E.DECLINE): _S.REJECTED,
        (_S.AUTHORISED, _E.PAY): _S.PAID,
        (_S.AUTHORISED, _E.DECLINE): _S.REJECTED,
        (_S.PAID, _E.CONFIRM): _S.CONFIRMED,
        (_S.RECEIVED, _E.CANCEL): _S.CANCELLED,
        (_S.BACK_ORDERED, _E.CANCEL): _S.CANCELLED,
        (_S.RESERVED, _E.CANCEL): _S.CANCELLED,
        (_S.PENDING_PAYMENT, _E.CANCEL): _S.CANCELLED,
        (_S.AUTHORISED, _E.CANCEL): _S.CANCELLED,
        (_S.CONFIRMED, _E.CANCEL): _S.CANCELLED,
    }
)
"""Every legal step; what is not here is illegal."""
FINAL: Final = frozenset(OrderState) - {state for state, _ in TRANSITIONS}
"""The states that take no event."""
ENDS: Final = FINAL | {OrderState.CONFIRMED}
"""The states in which an order stays unless its customer wants otherwise."""


def state_after(state: OrderState, event: OrderEvent) -> OrderState:
    """Return the state after an event.

    Raises:
        IllegalTransitionError: the table has no such row.
    """
    after = TRANSITIONS.get((state, event))
    if after is None:
        raise IllegalTransitionError(state, event, legal_events(state))
    return after


def legal_events(state: OrderState) -> tuple[OrderEvent, ...]:
    """Return the events that a state takes, sorted."""
    return tuple(sorted(event for before, event in TRANSITIONS if before is state))
