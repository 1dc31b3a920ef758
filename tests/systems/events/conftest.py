"""Databases and meshes for the audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from agent99.systems.events import AuditLog
from tests.groups.conftest import (  # noqa: F401 - fixtures
    mesh,
    open_mesh,
    pytest_asyncio_loop_factories,
)


@pytest.fixture
async def log(url: str) -> AsyncIterator[AuditLog]:
    """Give an empty audit log."""
    async with AuditLog.opened(url) as log:
        yield log
