"""What customers are told: a text for every type and channel, from data that may be missing."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import Failure
from agent99.systems.shop._model import Channel, MessageType, Notify
from agent99.systems.shop._templates import VALUE_CHARS_MAX, WORDINGS, render
from tests.systems.shop._shop import an_id

ORDER_ID = an_id("order")
NEEDED: dict[MessageType, dict[str, Any]] = {
    "order_confirmation": {},
    "order_shipped": {"carrier": "Evri"},
    "order_back_ordered": {},
    "order_rejected": {"reason": "it is sold out"},
    "order_cancelled": {},
    "order_refunded": {"amount": "5.20"},
}


def _notify(kind: MessageType, data: dict[str, Any]) -> Notify:
    return Notify(kind, an_id("someone"), ORDER_ID, data)


def test_every_type_has_a_text_for_every_channel() -> None:
    """Which needs no more than is said of it, and names its order."""
    assert set(get_args(MessageType)) == WORDINGS.keys() == NEEDED.keys()
    for kind, data in NEEDED.items():
        texts = render(_notify(kind, data))
        assert set(get_args(Channel)) == texts.keys()
        for text in texts.values():
            assert all(str(part) in text for part in (ORDER_ID, *data.values()))
            assert "$" not in text


def test_what_is_known_beside_it_is_said_too() -> None:
    """A sentence whose data is there is added, and left out without."""
    data = {"total": "5.20", "estimated_delivery": None}
    assert render(_notify("order_confirmation", data))["email"] == (
        f"Thank you. Your order {ORDER_ID} is confirmed. Its total is £5.20."
    )


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (None, "is missing"),
        ({"pounds": 5}, "is neither a text nor a number"),
        (True, "is neither a text nor a number"),
        (" ", "is empty, or has control characters"),
        ("5\r\nBcc: all", "is empty, or has control characters"),
        ("5" * (VALUE_CHARS_MAX + 1), "has more than 200 characters"),
    ],
)
def test_a_value_that_no_text_can_have_is_named(value: Any, rule: str) -> None:
    """By its field and the rule that it breaks; no later try would help."""
    with pytest.raises(Failure) as caught:
        render(_notify("order_refunded", {"amount": value}))
    failure = caught.value
    assert ("TEMPLATE_ERROR", False) == (failure.code, failure.retryable)
    assert {"field": "amount", "rule": rule} == {
        name: failure.details[name] for name in ("field", "rule")
    }
    with pytest.raises(Failure, match="which is missing"):
        render(_notify("order_refunded", {}))


_WORDS = st.text("a$ {}_\n", max_size=9) | st.just("$order_id") | st.text(min_size=200)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(["reason", "order_id", "x"]), _WORDS))
def test_a_value_is_put_in_as_it_is_or_refused(data: dict[str, Any]) -> None:
    """It is never read as a template, and never changes which order is meant."""
    refused, texts = "", dict[Channel, str]()
    try:
        texts = render(_notify("order_rejected", data))
    except Failure as failure:
        refused = failure.details["field"]
    assert ("" if texts else "reason") == refused
    for text in texts.values():
        assert data["reason"] in text
        assert str(ORDER_ID) in text


def test_only_what_may_come_several_times_has_a_number() -> None:
    """A refund or a part of a shipment; anything else is refused before it is stored."""
    plain = {"type": "order_refunded", "customer_id": ORDER_ID, "order_id": ORDER_ID, "number": 2}
    assert 2 == msgspec.convert(plain, Notify).number
    with pytest.raises(msgspec.ValidationError, match="one message of type order_rejected"):
        msgspec.convert({**plain, "type": "order_rejected"}, Notify)
