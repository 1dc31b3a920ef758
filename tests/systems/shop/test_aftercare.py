"""Shipments and messages: one of each per order, whoever makes it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.shop._aftercare import notify, ship
from agent99.systems.shop._model import Address, Notify, Ship
from tests.systems.shop._shop import an_id, order_of


def _request(order: int, country: str) -> Ship:
    address = Address("1 High Street", "Somewhere", "", "1", country)
    return Ship(an_id(order), order_of((an_id("tea"), 1, "1")).items, address)


@given(st.integers(), st.sampled_from(["United Kingdom", "France", "EIRE"]))
def test_an_order_has_one_shipment(order: int, country: str) -> None:
    """The same order gives the same shipment; the carrier fits the country."""
    shipment = ship(_request(order, country))
    assert shipment == ship(_request(order, country))
    assert (country == "United Kingdom") is (shipment.carrier not in {"DHL", "DPD"})
    assert "shipped" == shipment.status
    assert shipment.shipment_id != ship(_request(order + 1, country)).shipment_id


def test_an_order_has_one_message() -> None:
    """The same order gives the same message; both channels are used."""
    requests = [Notify("order_confirmation", an_id(n), an_id(-n)) for n in range(100)]
    sent = [notify(request) for request in requests]
    assert sent == [notify(request) for request in requests]
    assert 100 == len({message.notification_id for message in sent})
    assert {"email", "sms"} == {message.channel for message in sent}
