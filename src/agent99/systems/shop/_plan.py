"""What the demo starts: which processes, and what each of them must know."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from agent99 import Settings
from agent99.systems.shop._data import read_year
from agent99.systems.shop._options import DemoOptions
from agent99.systems.shop._settings import ShopSettings
from agent99.systems.shop._worker import RESTARTS_MAX, Catalogue, Place, Plan
from agent99.systems.shop._year import Year

CHAOS_RESTARTS_MAX: Final = 10_000
STREAM_BYTES_MIN: Final = 16 * 1024**2
STREAM_BYTES_PER_ORDER: Final = 16 * 1024
BESIDE: Final = "cache-node"
"""The agent of another system that runs beside those of the shop."""
BESIDE_PROCESSES: Final = 2
_CATALOGUE: Final = "catalogue.json"


def places_of(options: DemoOptions) -> tuple[Place, ...]:
    """Return the processes; those that are needed first come first, and who only looks last."""
    several = [
        Place(agent, index)
        for index in range(1, options.instances + 1)
        for agent in ("order-processing", "inventory", "payment")
    ]
    rest = [Place(agent, 1) for agent in ("fulfillment", "notification")]
    beside = [
        Place(BESIDE, index, source)
        for source in options.beside
        for index in range(1, BESIDE_PROCESSES + 1)
    ]
    return (*rest, *several, Place("order-history", 1), Place("checker", 1), *beside)


def plan_of(options: DemoOptions, settings: Settings, shop: ShopSettings, year: Year) -> Plan:
    """Return what the nursery is told, and its processes through it."""
    return Plan(
        folder=str(settings.project),
        url=settings.url or "",
        mesh=settings.mesh,
        shop=shop,
        catalogue=str(settings.project / _CATALOGUE),
        places=places_of(options),
        stream_bytes_max=STREAM_BYTES_MIN + STREAM_BYTES_PER_ORDER * year.counts.orders,
        is_chaos=options.chaos,
        restarts_max=CHAOS_RESTARTS_MAX if options.chaos else RESTARTS_MAX,
        debug=options.debug,
    )


def read_file(options: DemoOptions, folder: Path) -> Year:
    """Read the file, and write down for the agents what it sells."""
    year = read_year(options.path)
    catalogue = Catalogue(tuple(year.price_list()), year.opening_stock(options.scarcity))
    (folder / _CATALOGUE).write_bytes(msgspec.json.encode(catalogue))
    return year
