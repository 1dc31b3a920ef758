"""What the registry's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests._nats_server import NatsServer
from tests.registry._mesh import RealMesh


@pytest.fixture
async def real_mesh(nats_server: NatsServer) -> AsyncIterator[RealMesh]:
    """Give a mesh of its own on the shared server."""
    mesh = RealMesh(nats_server.url)
    yield mesh
    await mesh.aclose()
