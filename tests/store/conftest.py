"""The store's databases: a file of SQLite, and a PostgreSQL of the tests' own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agent99.store import Migration, Store, StoreOptions, open_store
from agent99.testing.store import MakeStore


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """Give the address of a file that is not there yet."""
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Give the address of an empty database, of either kind."""
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    address: str = request.getfixturevalue(name)
    return address


@pytest.fixture
def make(url: str) -> MakeStore:
    """Give what makes stores on one database, not yet open."""

    def make_store(
        migrations: Sequence[Migration] = (),
        options: StoreOptions | None = None,
        schema: str = "main",
    ) -> Store:
        return open_store(url, migrations=migrations, options=options, schema=schema)

    return make_store
