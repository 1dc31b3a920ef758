"""What customers are told, in words: a text for each type of message and each channel. Pure.

A text is a sentence that needs all of its fields, and sentences that are left out where their data
is not there. `string.Template` is enough: a value is put in as it is and never read as a template.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from agent99.errors import Failure
from agent99.systems.shop._model import TEMPLATE_ERROR, Channel, MessageType, Notify

VALUE_CHARS_MAX: Final = 200
"""Characters of one value in a text, which bounds the text."""


class Wording(NamedTuple):
    """How something is said on one channel."""

    says: Template
    """What is always said; without one of its fields there is no message."""
    adds: tuple[Template, ...] = ()
    """What is said where there is data for it."""


def _said(says: str, *adds: str) -> Wording:
    return Wording(Template(says), tuple(map(Template, adds)))


WORDINGS: Final[Mapping[MessageType, Mapping[Channel, Wording]]] = MappingProxyType(
    {
        "order_confirmation": {
            "email": _said(
                "Thank you. Your order $order_id is confirmed.",
                " Its total is £$total.",
                " We expect to deliver it by $estimated_delivery.",
            ),
            "sms": _said("Order $order_id is confirmed.", " Total: £$total."),
        },
        "order_back_ordered": {
            "email": _said(
                "Your order $order_id waits for stock that is not here yet. We send it as soon as"
                " it is, and you pay then; until it leaves you can cancel it."
            ),
            "sms": _said("Order $order_id waits for stock. You pay when it is sent."),
        },
        "order_shipped": {
            "email": _said(
                "Your order $order_id is on its way to you with $carrier.",
                " This is part $part of it.",
            ),
            "sms": _said("Order $order_id is on its way with $carrier.", " Part $part."),
        },
        "order_rejected": {
            "email": _said(
                "We are sorry: your order $order_id was not taken, and you owe us nothing."
                " The reason: $reason."
            ),
            "sms": _said("Order $order_id was not taken: $reason. You owe nothing."),
        },
        "order_cancelled": {
            "email": _said("Your order $order_id is cancelled.", " The reason: $reason."),
            "sms": _said("Order $order_id is cancelled."),
        },
        "order_refunded": {
            "email": _said(
                "You get £$amount back for your order $order_id.", " The reason: $reason."
            ),
            "sms": _said("You get £$amount back for order $order_id."),
        },
    }
)
"""What is said, by type and channel. `order_id` is always known; the rest is `template_data`."""


def render(request: Notify) -> dict[Channel, str]:
    """Return the text of a message for each channel.

    Raises:
        Failure: `TEMPLATE_ERROR` (`field`, `rule`, `type`): data that a text needs is missing, or
            is nothing that a text can have.
    """
    wordings = WORDINGS[request.type]
    return {channel: _rendered(request, wording) for channel, wording in wordings.items()}


def _rendered(request: Notify, wording: Wording) -> str:
    given = {**request.template_data, "order_id": str(request.order_id)}
    parts = [wording.says, *(each for each in wording.adds if _has_all(given, each))]
    return "".join(
        part.substitute({field: _value(request, given, field) for field in part.get_identifiers()})
        for part in parts
    )


def _has_all(given: Mapping[str, Any], part: Template) -> bool:
    return all(given.get(field) is not None for field in part.get_identifiers())


def _value(request: Notify, given: Mapping[str, Any], field: str) -> str:
    value = given.get(field)
    if value is None:
        raise _failure(request, field, "is missing")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _failure(request, field, "is neither a text nor a number")
    text = str(value)
    if len(text) > VALUE_CHARS_MAX:
        raise _failure(request, field, f"has more than {VALUE_CHARS_MAX} characters")
    if not text.strip() or any(_is_control(character) for character in text):
        raise _failure(request, field, "is empty, or has control characters")
    return text


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character < "\xa0"


def _failure(request: Notify, field: str, rule: str) -> Failure:
    return Failure(
        f"a message of type {request.type} needs {field!r} in its template_data, which {rule}",
        code=TEMPLATE_ERROR,
        details={
            "field": field,
            "rule": rule,
            "type": request.type,
            "order_id": str(request.order_id),
        },
    )
