"""What a source may be."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
import pytest

from agent99.errors import UsageError
from agent99.systems.analytics import Source


class Line(msgspec.Struct):
    """A record with a field of each type."""

    sold_at: datetime
    country: str
    quantity: Annotated[int, msgspec.Meta(ge=1)]
    price: float
    is_gift: bool | None = None
    paid_us: int | None = None


def test_a_source_knows_its_fields() -> None:
    """The types of the fields are read from the Struct, without their bounds."""
    source = Source("lines", Line, time="sold_at", delay_s=0.5)
    assert {name: (one.kind, one.is_optional) for name, one in source.fields.items()} == {
        "sold_at": (datetime, False),
        "country": (str, False),
        "quantity": (int, False),
        "price": (float, False),
        "is_gift": (bool, True),
        "paid_us": (int, True),
    }
    assert (source.delay_us, source.idle_us) == (500_000, 5_000_000)
    assert source.topic == "records.lines"


class Nested(msgspec.Struct):
    """A record with a field that is no scalar."""

    at: int
    tags: list[str]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"name": "no name"}, "no name"),
        ({"kind": dict}, "Struct"),
        ({"kind": Nested, "time": "at"}, "Nested.tags"),
        ({"time": "sold"}, "'sold'"),
        ({"time": "country"}, "'country'"),
        ({"time": "paid_us"}, "'paid_us'"),
        ({"shards": 0}, "0 shards"),
        ({"shards": 65}, "65 shards"),
        ({"shards": 2.0}, "2.0 shards"),
        ({"shard_by": "colour"}, "'colour'"),
        ({"delay_s": -1}, "delay_s"),
        ({"delay_s": "2"}, "delay_s"),
        ({"idle_s": 0}, "idle_s"),
        ({"idle_s": float("nan")}, "idle_s"),
        ({"ahead_s_max": float("inf")}, "ahead_s_max"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], named: str) -> None:
    """A source that cannot be is refused where it is written, by the name of what is wrong."""
    right: dict[str, Any] = {"name": "lines", "kind": Line, "time": "sold_at"}
    with pytest.raises(UsageError, match=named):
        Source(**(right | changed))
