"""The data of the shop's tests: the extract always, the whole year where it is at hand."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from agent99.clock import SystemClock
from agent99.ids import SystemIds
from agent99.store import open_store
from agent99.systems.shop._data import EXTRACT, read_year
from agent99.systems.shop._declines import DeclineRule
from agent99.systems.shop._messages import Messages
from agent99.systems.shop._orders import Orders
from agent99.systems.shop._payments import Payments
from agent99.systems.shop._provider import PretendProvider
from agent99.systems.shop._shipments import Shipments
from agent99.systems.shop._stock import Stock
from agent99.systems.shop._tables import (
    ORDERS_MIGRATIONS,
    ORDERS_SCHEMA,
    PAYMENTS_MIGRATIONS,
    PAYMENTS_SCHEMA,
    STOCK_MIGRATIONS,
    STOCK_SCHEMA,
)
from agent99.systems.shop._tables_aftercare import (
    MESSAGES_MIGRATIONS,
    MESSAGES_SCHEMA,
    SHIPMENTS_MIGRATIONS,
    SHIPMENTS_SCHEMA,
)
from agent99.systems.shop._year import Year
from tests.systems.shop._shelves import Shelves
from tests.systems.shop._shop import OpenShop, Shop
from tests.systems.shop._till import OpenTill, tills


@pytest.fixture(scope="session")
def whole_year(year_file: Path) -> Year:
    """Return the whole year."""
    return read_year(year_file)


@pytest.fixture(scope="session")
def extract() -> Year:
    """Return the four weeks that ship in the package."""
    return read_year(EXTRACT)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[OpenShop]:
    """Give what opens the parts of the shop on one database, and close them in the end."""
    async with AsyncExitStack() as stack:

        async def open_one(declines: DeclineRule | None = None) -> Shop:
            ids, clock = SystemIds(), SystemClock()
            stores = [
                await stack.enter_async_context(
                    open_store(url, migrations=migrations, schema=schema)
                )
                for schema, migrations in (
                    (STOCK_SCHEMA, STOCK_MIGRATIONS),
                    (PAYMENTS_SCHEMA, PAYMENTS_MIGRATIONS),
                    (ORDERS_SCHEMA, ORDERS_MIGRATIONS),
                    (SHIPMENTS_SCHEMA, SHIPMENTS_MIGRATIONS),
                    (MESSAGES_SCHEMA, MESSAGES_MIGRATIONS),
                )
            ]
            return Shop(
                Stock(stores[0], clock, ids),
                Payments(stores[1], clock, ids, declines or DeclineRule(rate=0.0)),
                Orders(stores[2], clock, ids),
                Shipments(stores[3], clock, str),
                Messages(stores[4], clock, str, PretendProvider(stores[4], clock, ids)),
                stores[0],
            )

        yield open_one


@pytest.fixture
async def open_shop(url: str) -> AsyncIterator[OpenShop]:
    """Give `open_shop(rule)`: the parts of the shop on one database, as one more process."""
    async with opened(url) as open_one:
        yield open_one


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def till_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the address of a database of either kind, for all tests of a file: a till opens soon."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('till')}/till.db"
    address: str = request.getfixturevalue("shared_postgres_url")
    return address


@pytest.fixture
async def open_till(till_url: str) -> AsyncIterator[OpenTill]:
    """Give `open_till(rule)`: payments alone, as one more process on the file's database."""
    async with tills(till_url) as open_one:
        yield open_one


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shelves_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the address of a database that the tests of one file share."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path_factory.mktemp('shelves')}/stock.db"
    address: str = request.getfixturevalue("shared_postgres_url")
    return address


@pytest.fixture
async def shelves(shelves_url: str) -> AsyncIterator[Shelves]:
    """Give the stock alone, on a clock that stands still; on either kind of database."""
    async with AsyncExitStack() as stack:
        yield Shelves(stack, shelves_url)
