"""Meshes for the live parts: in memory and on a real server, by the same tests."""

from __future__ import annotations

from tests.groups.conftest import (  # noqa: F401 - fixtures
    mesh,
    open_mesh,
    pytest_asyncio_loop_factories,
)
