"""Meshes for schedules: those of groups."""

from __future__ import annotations

from tests.groups.conftest import (  # noqa: F401 - fixtures
    OpenMesh,
    mesh,
    open_mesh,
    pytest_asyncio_loop_factories,
)
