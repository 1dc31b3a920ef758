"""Descriptions as JSON."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.registry import Description, OperationInfo
from agent99.registry._description import decode_description, encode_description

_text = st.text(max_size=12)
_descriptions = st.builds(
    Description,
    instance=_text,
    name=_text,
    kind=st.sampled_from(["server", "client", "hybrid"]),
    version=_text,
    capabilities=st.lists(_text, max_size=3).map(tuple),
    operations=st.lists(
        st.builds(OperationInfo, _text, _text, st.just({"type": "object"})), max_size=3
    ).map(tuple),
    metadata=st.dictionaries(_text, _text, max_size=3),
    state=st.sampled_from(["starting", "ready", "degraded", "paused", "draining"]),
    started_us=st.integers(0, 2**53),
)


@given(_descriptions)
def test_what_is_encoded_is_decoded(description: Description) -> None:
    """A description survives its JSON."""
    assert description == decode_description(encode_description(description))


def test_fields_of_a_later_release_are_ignored() -> None:
    """An unknown field does no harm, so that a later release may add some."""
    later = {"instance": "i1", "name": "orders", "colour": "blue", "operations": []}
    assert Description(instance="i1", name="orders") == decode_description(
        msgspec.json.encode(later)
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"name": "orders"}',
        b'{"instance": 7, "name": "orders"}',
        b'{"instance": "i1", "name": "orders", "state": "dancing"}',
        b'{"instance": "i1", "name": "\xc3\x28"}',
    ],
)
def test_what_is_no_description_is_none(data: bytes) -> None:
    """A record that this release cannot read is None and never an error."""
    assert decode_description(data) is None


def test_routable_is_ready_or_degraded() -> None:
    """Only who is ready or degraded takes requests."""
    states = ("starting", "ready", "degraded", "paused", "draining")
    routable = [s for s in states if Description(instance="i", name="n", state=s).is_routable]
    assert ["ready", "degraded"] == routable


def test_an_operation_is_found_by_name() -> None:
    """`operation` returns the operation of that name, or None."""
    greet = OperationInfo("greet", "Greets people.")
    description = Description(instance="i", name="n", operations=(greet,))
    assert greet == description.operation("greet")
    assert description.operation("shout") is None
