"""Databases and meshes for the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent99.systems.events import AuditLog
from tests._postgres import Postgres
from tests.groups.conftest import (  # noqa: F401 - fixtures
    mesh,
    open_mesh,
    pytest_asyncio_loop_factories,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the address of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/audit.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.make_database()


@pytest.fixture
async def log(url: str) -> AsyncIterator[AuditLog]:
    """Give an empty audit log."""
    async with AuditLog.opened(url) as log:
        yield log
