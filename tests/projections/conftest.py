"""Meshes and databases for projections."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent99.store import Store, open_store
from tests.groups.conftest import (  # noqa: F401 - fixtures
    mesh,
    open_mesh,
    pytest_asyncio_loop_factories,
)
from tests.systems.conftest import url  # noqa: F401 - a fixture


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:  # noqa: F811 - a fixture
    """Give a store on an empty database, of either kind."""
    async with open_store(url) as opened:
        yield opened
