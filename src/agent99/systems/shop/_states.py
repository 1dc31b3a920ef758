"""The life of an order: one list of states, one list of events, one table. Pure.

    received ──reserve──▶ reserved ──pay──▶ paid ──confirm──▶ confirmed
        │                    │  ╲
      refuse             decline  lose_sight_of_payment
        ▼                    ▼    ▼
    rejected ◀─decline── pending_payment ──pay──▶ paid

Refusing and declining are two events, since two instances may work on one order: what is refused
for want of stock must never be an order whose stock the other one holds.

A payment whose outcome is unknown is a state of its own: it is asked for again, never guessed. What
comes after `confirmed` (shipping, cancelling, refunding) adds rows to the table and changes none.
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
    RESERVED = "reserved"
    """Its stock is held."""
    PENDING_PAYMENT = "pending_payment"
    """Its stock is held; whether it is paid is unknown."""
    PAID = "paid"
    """Its stock is held and its money is ours."""
    CONFIRMED = "confirmed"
    """Its stock is the customer's, and the customer was told."""
    REJECTED = "rejected"
    """Nothing is held and nothing is owed; the reason says why."""


class OrderEvent(StrEnum):
    """What can happen to an order."""

    RESERVE = "reserve"
    PAY = "pay"
    LOSE_SIGHT_OF_PAYMENT = "lose_sight_of_payment"
    CONFIRM = "confirm"
    REFUSE = "refuse"
    """It breaks a rule, or its stock is not there; nothing is held."""
    DECLINE = "decline"
    """The money was refused, and its stock let go."""


_S, _E = OrderState, OrderEvent
INITIAL: Final = OrderState.RECEIVED
TRANSITIONS: Final[Mapping[tuple[OrderState, OrderEvent], OrderState]] = MappingProxyType(
    {
        (_S.RECEIVED, _E.RESERVE): _S.RESERVED,
        (_S.RECEIVED, _E.REFUSE): _S.REJECTED,
        (_S.RESERVED, _E.PAY): _S.PAID,
        (_S.RESERVED, _E.LOSE_SIGHT_OF_PAYMENT): _S.PENDING_PAYMENT,
        (_S.RESERVED, _E.DECLINE): _S.REJECTED,
        (_S.PENDING_PAYMENT, _E.PAY): _S.PAID,
        (_S.PENDING_PAYMENT, _E.DECLINE): _S.REJECTED,
        (_S.PAID, _E.CONFIRM): _S.CONFIRMED,
    }
)
"""Every legal step; what is not here is illegal."""
FINAL: Final = frozenset(OrderState) - {state for state, _ in TRANSITIONS}
"""The states that take no event."""


def move(state: OrderState, event: OrderEvent) -> OrderState:
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
