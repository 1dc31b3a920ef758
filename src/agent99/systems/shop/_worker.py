"""One agent in a process of its own, as the demo runs it: hosted until it is told to end.

The demo shuts its agents down over the mesh: they drain, and their processes end. Standard input is
for the other case. It is a pipe whose other end only the demo holds: when that closes, however the
demo ended, nobody waits for an answer any more, and the process ends at once.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final
from uuid import UUID

import msgspec

from agent99 import Agent, Mesh, Settings
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.errors import Agent99Error, MigrationError, StoreError, StoreFullError, UsageError
from agent99.ids import SystemIds
from agent99.systems.shop._agents import InventoryAgent, OrderProcessingAgent, PaymentAgent
from agent99.systems.shop._agents_aftercare import FulfillmentAgent, NotificationAgent
from agent99.systems.shop._catalogue import PriceList
from agent99.systems.shop._checker import CheckerAgent
from agent99.systems.shop._disk import is_nearly_full
from agent99.systems.shop._history_agent import OrderHistoryAgent
from agent99.systems.shop._settings import ShopSettings

END_S: Final = 2
"""Whole seconds from the end of the demo to the end of this process, whatever it is doing."""

RESTARTS_MAX: Final = 5
EXCUSE_MAX: Final = 500
"""Characters of an excuse: a line of it must go into a pipe at once."""
_FINAL: Final = (UsageError, MigrationError, StoreFullError)


class Place(msgspec.Struct, frozen=True):
    """One process of the demo."""

    agent: str
    """What it runs: an agent's name."""
    index: int
    """Which of several; starts at 1."""
    source: str = ""
    """Of an agent of another system: MODULE:CLASS."""

    @property
    def label(self) -> str:
        """Its name for people: `inventory/2`."""
        return f"{self.agent}/{self.index}"


class Excuse(msgspec.Struct, frozen=True):
    """Why a process of the demo ended, in its own words: a line of JSON to the nursery."""

    pid: int
    code: str
    """The error's."""
    sentence: str
    is_final: bool
    """Whether the next one at this place would fail as well."""


class Catalogue(msgspec.Struct, frozen=True):
    """What the stores hold before the first order: a file between the demo and its agents."""

    prices: tuple[tuple[UUID, int], ...]
    """Every product and price in pence."""
    stock: dict[UUID, int]
    """The opening units of every product."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the processes need to know. It holds a credential: it travels by a pipe."""

    folder: str
    """Where the demo keeps its files."""
    url: str
    mesh: str
    shop: ShopSettings
    catalogue: str
    """The file of the catalogue."""
    places: tuple[Place, ...]
    stream_bytes_max: int
    """What each stream of the mesh may hold."""
    restarts_max: int = RESTARTS_MAX
    """Times a place is started again within half a minute; then the demo is told, and ends."""
    is_chaos: bool = False
    """Processes are killed on purpose: what the others say of that is no news."""
    debug: bool = False

    def __repr__(self) -> str:
        return f"Plan({self.mesh!r}, places={len(self.places)})"


_AGENTS: Final[Mapping[str, Callable[[ShopSettings], Agent]]] = MappingProxyType(
    {
        "order-processing": OrderProcessingAgent,
        "inventory": InventoryAgent,
        "payment": PaymentAgent,
        "fulfillment": FulfillmentAgent,
        "notification": NotificationAgent,
        "order-history": OrderHistoryAgent,
        "checker": CheckerAgent,
    }
)
"""By the name of a place."""


def make_agent(place: Place, settings: ShopSettings) -> Agent:
    """Return the agent of a place."""
    if place.source:
        module, _, name = place.source.partition(":")
        guest: Agent = getattr(importlib.import_module(module), name)()
        return guest
    return _AGENTS[place.agent](settings)


def run_worker(place: Place, plan: Plan, excuses: int) -> int:
    """Host an agent until it is told to end; returns the exit code.

    Args:
        place: Which agent.
        plan: Where.
        excuses: The pipe that takes an `Excuse` if it ends with an error.
    """
    calm = logging.ERROR if plan.is_chaos else logging.WARNING
    level = logging.DEBUG if plan.debug else calm
    said = f"%(asctime)s %(levelname)-7s [{place.label}] %(message)s"
    logging.basicConfig(level=level, format=said, datefmt="%H:%M:%S")
    if not plan.debug and not plan.is_chaos:
        logging.getLogger("agent99.wire").setLevel(logging.INFO)  # who says "lost" says "back"
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            runner.run(_host(place, plan))
        except Agent99Error as error:
            os.write(excuses, msgspec.json.encode(_excuse(error, plan)) + b"\n")
            return 1
    return 0


def _excuse(error: Agent99Error, plan: Plan) -> Excuse:
    is_final = isinstance(error, _FINAL) or (
        isinstance(error, StoreError) and is_nearly_full(Path(plan.folder))
    )
    return Excuse(os.getpid(), error.code, str(error)[:EXCUSE_MAX], is_final)


async def _host(place: Place, plan: Plan) -> None:
    folder = Path(plan.folder)
    settings = Settings(
        project=folder,
        state_folder=folder,
        url=plan.url,
        mesh=plan.mesh,
        log_bytes_max=plan.stream_bytes_max,
        job_bytes_max=plan.stream_bytes_max,
        dead_bytes_max=plan.stream_bytes_max,
        saga_bytes_max=plan.stream_bytes_max,
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await _stock_up(place, plan)
    async with Mesh(settings=settings) as mesh:
        loop.add_reader(0, partial(_abandon, mesh, ended))
        await mesh.host(make_agent(place, plan.shop))
        waiting = [asyncio.ensure_future(each) for each in (ended.wait(), mesh.wait_empty())]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()


async def _stock_up(place: Place, plan: Plan) -> None:
    """Put the price list or the opening stock into an agent's store; what is there already stays.

    Each agent's process does so for its own store, all at once, and the demo need not load
    SQLAlchemy before its first order.
    """
    if place.agent not in ("order-processing", "inventory"):
        return
    from agent99.systems.shop._opening import (  # noqa: PLC0415 - loads SQLAlchemy
        open_orders,
        open_stock,
    )

    clock, ids = SystemClock(), SystemIds()
    data = await asyncio.to_thread(Path(plan.catalogue).read_bytes)
    catalogue = msgspec.json.decode(data, type=Catalogue)
    if place.agent == "inventory":
        store, stock = await open_stock(plan.shop, clock, ids)
        work = stock.fill(catalogue.stock)
    else:
        store, orders = await open_orders(plan.shop, clock, ids)
        work = orders.add_prices(PriceList.of(catalogue.prices))
    try:
        await work
    finally:
        await store.aclose()


def _abandon(mesh: Mesh, ended: asyncio.Event) -> None:
    """Nobody is left who would wait for an answer, and the server goes too: end, quietly."""
    asyncio.get_running_loop().remove_reader(0)
    signal.alarm(END_S)  # whatever hangs cannot hold this up
    logging.disable()
    mesh.abandon()
    ended.set()


def leave(code: int) -> None:
    """End this process, a fork, without what its parent would do at its end."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
