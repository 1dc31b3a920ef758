"""Where a saga's parameter `saga` stands among the others is its author's choice."""

from __future__ import annotations

from agent99 import Agent, Mesh, operation
from agent99.saga import Saga, saga
from tests.saga._trips import Trip


class Orders(Agent):
    """Sagas that name themselves first, or in the middle."""

    capabilities = ("orders",)

    @saga
    async def first(self, saga: Saga, to: str, days: int = 1) -> str:
        """Take fields behind the saga."""
        return f"{to} {days} {saga.version}"

    @saga
    async def between(self, to: str, saga: Saga, days: int, *, class_: str = "2nd") -> str:
        """Take fields on both sides of it."""
        return f"{to} {days} {class_} {saga.version}"

    @saga
    async def whole(self, saga: Saga, trip: Trip) -> str:
        """Take one object behind it."""
        return f"{trip.to} {trip.days} {saga.version}"

    @operation
    async def named(self, *, trip: Trip) -> str:
        """Take one object by name: no saga, and the same question."""
        return trip.to


async def test_the_saga_may_stand_anywhere(mesh: Mesh, client: Mesh) -> None:
    """Before the payload's fields, between them, or before the one that is the payload."""
    await mesh.host(Orders())
    rome = {"to": "Rome", "days": 2}
    assert "Rome 1 1" == await client.request("orders", "first", {"to": "Rome"})
    assert "Rome 2 1" == await client.request("orders", "first", rome)
    assert "Rome 2 2nd 1" == await client.request("orders", "between", rome)
    assert "Rome 2 1" == await client.request("orders", "whole", rome)
    assert "Rome" == await client.request("orders", "named", rome)
