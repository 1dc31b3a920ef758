"""Shipments in parts, held back and cancelled: each leaves once, or not at all."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99 import Mesh, Settings
from agent99.clock import Clock, SystemClock
from agent99.errors import Failure, IdempotencyConflictError, StoreUnavailableError
from agent99.ids import SystemIds
from agent99.store import Store, Transaction
from agent99.systems.shop import FulfillmentAgent
from agent99.systems.shop._aftercare import ship
from agent99.systems.shop._delivery import OrderShipments, ShipmentView
from agent99.systems.shop._departures import LOOK_S, Departures
from agent99.systems.shop._model import Ship, Shipment, StockLine
from agent99.systems.shop._opening import open_shipments
from agent99.systems.shop._settings import settings_in, settings_on
from agent99.systems.shop._shipments import Shipments
from agent99.testing import ManualClock, MemoryEngine
from tests._wait import PATIENCE_S, eventually
from tests.systems.shop._shop import an_id, order_of

TEA, MUG = an_id("tea"), an_id("mug")
ORDER = order_of((TEA, 2, "1.10"), (MUG, 1, "3.00"))
TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


class Wanted:
    """What is wanted of fulfilment for an order of its own, and what comes of it."""

    def __init__(self, name: str) -> None:
        self.order_id = an_id(name)
        self.whole = Ship(self.order_id, ORDER.items, ORDER.shipping_address)
        self.held = msgspec.structs.replace(self.whole, hold_s=60.0)
        self.first, self.second = (
            Ship(self.order_id, (line,), ORDER.shipping_address, part)
            for part, line in enumerate(ORDER.items, start=1)
        )

    async def told(self, store: Store) -> list[tuple[str, int]]:
        """Return the events of the order that leave, or left: what, and of which part.

        They stand in the trace of the request that they come of, however much later.
        """
        statement = "SELECT * FROM agent99_outbox WHERE key = :key ORDER BY position"

        def read(tx: Transaction) -> list[tuple[str, int]]:
            rows = tx.execute(statement, {"key": str(self.order_id)})
            assert {TRACE} >= {row.traceparent for row in rows}
            bodies = [msgspec.json.decode(bytes(row.body)) for row in rows]
            topics = [row.topic.removeprefix("shipment.") for row in rows]
            return [(topic, body["part"]) for topic, body in zip(topics, bodies, strict=True)]

        return await store.read(read)


OURS = Wanted("order")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the address of a database in which each test has an order of its own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('shipments')}/shop.db"
    address: str = request.getfixturevalue("shared_postgres_url")
    return address


@asynccontextmanager
async def opened(url: str, clock: Clock | None = None) -> AsyncIterator[tuple[Store, Shipments]]:
    """Give the shipments of one more process."""
    store, shipments = await open_shipments(
        settings_on(url), clock or SystemClock(), SystemIds(), lambda: TRACE
    )
    try:
        yield store, shipments
    finally:
        await store.aclose()


async def _refused(asked: Any) -> tuple[str, Any]:
    with pytest.raises(Failure) as caught:
        await asked
    return caught.value.code, caught.value.details.get("status")


async def test_an_order_is_shipped_in_parts(shared: str) -> None:
    """Each part is a shipment of its own, with its items; other items for it are refused."""
    wanted = Wanted("an order is shipped in parts")
    async with opened(shared) as (store, one), opened(shared) as (_, other):
        asked = [
            each.ship(part) for part in (wanted.first, wanted.second) for each in (one, other, one)
        ]
        shipped = await asyncio.gather(*asked)
        assert [ship(wanted.first)] * 3 + [ship(wanted.second)] * 3 == shipped
        for shipments in (one, other):
            with pytest.raises(IdempotencyConflictError):
                await shipments.ship(
                    msgspec.structs.replace(wanted.second, items=wanted.first.items)
                )
        found = (await one.of_order(wanted.order_id)).shipments
        assert [(1, (StockLine(TEA, 2),)), (2, (StockLine(MUG, 1),))] == [
            (each.part, each.items) for each in found
        ]
        assert {("shipped", shipped[0].carrier)} == {(each.status, each.carrier) for each in found}
        assert [("shipped", 1), ("shipped", 2)] == sorted(await wanted.told(store))


async def test_what_is_held_back_leaves_once(shared: str) -> None:
    """When its time has come, by whichever process looks, however many do at once."""
    wanted = Wanted("what is held back leaves once")
    clock = ManualClock()
    async with opened(shared, clock) as (store, one), opened(shared, clock) as (_, other):
        assert "prepared" == (await one.ship(wanted.held)).status
        due_us = clock.wall_us() + 60_000_000
        assert [due_us, due_us] == [await one.depart(), await other.depart()]
        await clock.advance(59.9)
        await one.ship(msgspec.structs.replace(wanted.held, hold_s=0.0))  # what came first holds
        assert due_us == await one.depart()
        await clock.advance(0.2)
        assert [None] * 6 == await asyncio.gather(*(s.depart() for s in (one, other) * 3))
        assert "shipped" == (await other.ship(wanted.held)).status
        (shipment,) = (await other.of_order(wanted.order_id)).shipments
        assert (due_us, clock.wall_us()) == (shipment.leaves_us, shipment.at_us)
        assert [("prepared", 1), ("shipped", 1)] == await wanted.told(store)


async def test_what_is_held_back_can_be_cancelled(shared: str) -> None:
    """Once, and for good; what is with its carrier cannot be."""
    wanted = Wanted("what is held back can be cancelled")
    clock = ManualClock()
    async with opened(shared, clock) as (store, one), opened(shared, clock) as (_, other):
        await one.ship(wanted.held)
        await clock.advance(61.0)  # its time has come, and nobody has looked
        both = await asyncio.gather(
            one.cancel(wanted.order_id, 1), other.cancel(wanted.order_id, 1)
        )
        assert both[0] == both[1] == await one.cancel(wanted.order_id, 1)
        assert ("cancelled", 2) == (both[0].status, len(both[0].items))
        assert None is await one.depart()
        assert "cancelled" == (await one.ship(wanted.held)).status
        await one.ship(wanted.second)
        assert ("SHIPMENT_CLOSED", "shipped") == await _refused(one.cancel(wanted.order_id, 2))
        steps = [("prepared", 1), ("cancelled", 1), ("shipped", 2)]
        assert steps == await wanted.told(store)


async def test_what_is_cancelled_before_it_comes_is_not_shipped(shared: str) -> None:
    """Of a cancellation and a shipment that overtake each other one takes effect, and stays."""
    wanted = Wanted("what is cancelled before it comes is not shipped")
    async with opened(shared) as (store, one), opened(shared) as (_, other):
        cancelled = await one.cancel(wanted.order_id, 1)
        assert ("cancelled", None, ()) == (cancelled.status, cancelled.carrier, cancelled.items)
        came = await other.ship(wanted.whole)
        assert ("cancelled", None, cancelled.shipment_id) == (
            came.status,
            came.carrier,
            came.shipment_id,
        )
        assert [("cancelled", 1)] == await wanted.told(store)
        for number in range(4):
            late = Wanted(f"late {number}")
            both = (one.cancel(late.order_id, 1), other.ship(late.whole))
            cancelling, shipping = await asyncio.gather(*both, return_exceptions=True)
            assert not isinstance(shipping, BaseException)
            assert (shipping.status == "shipped") == isinstance(cancelling, Failure)
            assert 1 == len(await late.told(store))


class Model:
    """What one part may do, without a database."""

    def __init__(self) -> None:
        self.state: str | None = None
        self.due_s = 0.0
        self.told: list[str] = []

    def _become(self, state: str) -> None:
        self.state = state
        self.told.append(state)

    def ship(self, hold_s: float, now_s: float) -> str:
        """Return what becomes of it."""
        if self.state is None:
            self.due_s = now_s + hold_s
            self._become("prepared" if hold_s else "shipped")
        return str(self.state)

    def cancel(self) -> str:
        """Return what becomes of it, or that it is closed."""
        if self.state in (None, "prepared"):
            self._become("cancelled")
        return "closed" if self.state == "shipped" else str(self.state)

    def depart(self, now_s: float) -> None:
        """Leave, if its time has come."""
        if self.state == "prepared" and self.due_s <= now_s:
            self._become("shipped")


_STEPS = st.tuples(st.sampled_from(["ship", "hold", "cancel", "depart", "wait"]), st.integers(1, 2))


@settings(max_examples=12)
@given(st.lists(_STEPS, max_size=10))
def test_parts_against_the_model(steps: list[tuple[str, int]]) -> None:
    """Whatever is asked in whatever order, each part does what it would alone."""

    async def answer(asked: Any) -> str:
        try:
            return str((await asked).status)
        except Failure:
            return "closed"

    async def run(url: str) -> None:
        clock, models = ManualClock(), {1: Model(), 2: Model()}
        async with opened(url, clock) as (store, shipments):
            for step, part in steps:
                model, now_s = models[part], clock.monotonic_s()
                if step in ("ship", "hold"):
                    hold_s = 5.0 if step == "hold" else 0.0
                    request = Ship(OURS.order_id, ORDER.items, ORDER.shipping_address, part, hold_s)
                    assert model.ship(hold_s, now_s) == await answer(shipments.ship(request))
                elif step == "cancel":
                    assert model.cancel() == await answer(shipments.cancel(OURS.order_id, part))
                elif step == "wait":
                    await clock.advance(3.0)
                else:
                    await shipments.depart()
                    for each in models.values():
                        each.depart(now_s)
            told = await OURS.told(store)
            for part, model in models.items():
                assert model.told == [topic for topic, of in told if of == part]

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(f"sqlite:///{folder}/shop.db"))


class Sometimes:
    """Shipments whose database is away for the first looks."""

    def __init__(self, shipments: Shipments, away: int) -> None:
        self._shipments = shipments
        self.away = away
        self.looks = 0
        self.is_looking = False

    async def depart(self) -> int | None:
        """Look, or fail."""
        self.looks += 1
        if self.looks <= self.away:
            raise StoreUnavailableError("shop.db", "it is away")
        self.is_looking = True
        try:
            return await self._shipments.depart()
        finally:
            self.is_looking = False


async def test_a_hold_outlasts_its_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The next process, on a database that comes late, sends it on its way within a second (E8)."""
    clock, log = ManualClock(), logging.LoggerAdapter(logging.getLogger("agent99.test"))
    url = f"sqlite:///{tmp_path}/shop.db"
    async with opened(url, clock) as (_, shipments):
        first = Departures(shipments, clock, log)
        first.start()
        await shipments.ship(OURS.held)
        await first.stop()
    async with opened(url, clock) as (store, shipments):
        looking: Any = Sometimes(shipments, away=2)
        second = Departures(looking, clock, log)
        second.start()
        second.start()
        await eventually(lambda: looking.looks == 1)
        await clock.advance(59.0)
        assert 1 == caplog.text.count("what is held back does not leave")
        assert ["prepared"] == [topic for topic, _ in await OURS.told(store)]
        async with asyncio.timeout(PATIENCE_S):
            while len(await OURS.told(store)) < 2:
                await clock.advance(LOOK_S / 10)
                await eventually(lambda: not looking.is_looking)
        assert 60.0 <= clock.monotonic_s() <= 61.0
        await second.stop()
        await second.stop()
        assert "is_looking=False" in repr(second)


async def test_a_shipment_on_the_mesh(tmp_path: Path) -> None:
    """Held back and asked about, cancelled, or gone by itself, over a restart of its agent."""
    mesh_settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")

    async def states(mesh: Mesh, order_id: UUID) -> list[str]:
        asked = {"order_id": order_id}
        found = await mesh.request("fulfillment", "query", asked, returns=OrderShipments)
        return [each.status for each in found.shipments]

    async with Mesh(settings=mesh_settings, engine=MemoryEngine()) as mesh:
        agent = FulfillmentAgent(settings_in(tmp_path))
        await mesh.host(agent)
        assert [] == await states(mesh, OURS.order_id)
        await mesh.request("fulfillment", payload=OURS.held)
        assert ["prepared"] == await states(mesh, OURS.order_id)
        wanted = {"order_id": OURS.order_id}
        done = await mesh.request("fulfillment", "cancel", wanted, returns=ShipmentView)
        assert "cancelled" == done.status
        late = await mesh.request("fulfillment", payload=OURS.held, returns=Shipment)
        assert "cancelled" == late.status
        brief = msgspec.structs.replace(OURS.held, order_id=an_id("brief"), hold_s=0.05)
        await mesh.request("fulfillment", payload=brief)
        await mesh.stop(agent)
        await mesh.host(FulfillmentAgent(settings_in(tmp_path)))
        async with asyncio.timeout(PATIENCE_S):
            while await states(mesh, brief.order_id) != ["shipped"]:
                await asyncio.sleep(0)
