"""Shipments and messages: named by their order, whoever makes them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.shop._aftercare import (
    BECOMES,
    channels,
    notification_uuid,
    ship,
    ship_fingerprint,
)
from agent99.systems.shop._identity import derived_uuid
from agent99.systems.shop._model import Address, Notify, Ship
from agent99.systems.shop._services import MeshServices
from tests.systems.shop._shop import an_id, order_of

_TEA = an_id("tea")


def _request(order: int, country: str, part: int = 1, hold_s: float = 0.0) -> Ship:
    address = Address("1 High Street", "Somewhere", "", "1", country)
    return Ship(an_id(order), order_of((_TEA, 1, "1.1")).items, address, part, hold_s)


@given(
    st.integers(),
    st.sampled_from(["United Kingdom", "France", "EIRE"]),
    st.integers(1, 1_000),
    st.sampled_from([0.0, 0.5, 3_600.0]),
)
def test_a_part_has_one_shipment(order: int, country: str, part: int, hold_s: float) -> None:
    """The same part gives the same shipment; the carrier fits the country."""
    shipment = ship(_request(order, country, part, hold_s))
    assert shipment == ship(_request(order, country, part, hold_s))
    assert (country == "United Kingdom") is (shipment.carrier not in {"DHL", "DPD"})
    assert ("prepared" if hold_s else "shipped") == shipment.status
    others = (_request(order + 1, country, part), _request(order, country, part + 1))
    assert 3 == len({shipment.shipment_id, *(ship(other).shipment_id for other in others)})


def test_the_first_of_several_is_named_as_before() -> None:
    """A shipment, and a message, have the ids that they had when there was one of each."""
    order_id = an_id(1)
    assert derived_uuid("shipment", order_id) == ship(_request(1, "EIRE")).shipment_id
    told = notification_uuid(order_id, "order_refunded", 1)
    assert derived_uuid("order_refunded", order_id) == told
    assert told != notification_uuid(order_id, "order_refunded", 2)


def test_what_is_shipped_is_the_content_and_not_how_it_is_written() -> None:
    """1.1 and 1.10 are the same price; how long it is held back is no part of it."""
    request = _request(1, "EIRE")
    (line,) = request.items
    alike = msgspec.structs.replace(line, unit_price=Decimal("1.10"))
    other = msgspec.structs.replace(line, quantity=2)
    said = ship_fingerprint(request)
    assert said == ship_fingerprint(msgspec.structs.replace(request, items=(alike,), hold_s=9.0))
    assert said != ship_fingerprint(msgspec.structs.replace(request, items=(other,)))
    assert said != ship_fingerprint(_request(1, "France"))


def test_a_shipment_takes_one_step() -> None:
    """From prepared to shipped or to cancelled, and from there to nothing."""
    steps = {(before, after) for before, following in BECOMES.items() for after in following}
    assert {("prepared", "shipped"), ("prepared", "cancelled")} == steps


class Poster:
    """Keeps the keys under which something is posted."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def post(self, *_: object, idempotency_key: str) -> None:
        """Keep it."""
        self.keys.append(idempotency_key)


async def test_what_is_another_job_has_another_key() -> None:
    """Each part, each type and each number: what is posted under one key is done once."""
    poster: Any = Poster()
    services = MeshServices(poster)
    for part in (1, 2):
        await services.ship(_request(1, "EIRE", part))
    told = Notify("order_confirmation", _TEA, _TEA)
    others = [Notify("order_refunded", _TEA, _TEA, {}, number) for number in (1, 2)]
    for request in (told, Notify("order_cancelled", _TEA, _TEA), *others):
        await services.notify(request)
    assert [f"{an_id(1)}:ship", f"{_TEA}:notify"] == poster.keys[::2][:2]
    assert len(poster.keys) == len(set(poster.keys)) == 6


def test_every_customer_has_all_channels() -> None:
    """One in ten likes a text best, the others a letter; the same customer always the same."""
    first = [channels(an_id(number))[0] for number in range(300)]
    assert first == [channels(an_id(number))[0] for number in range(300)]
    assert {("email", "sms"), ("sms", "email")} == {channels(an_id(n)) for n in range(300)}
    assert 0.05 < first.count("sms") / 300 < 0.2
