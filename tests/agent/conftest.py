"""Meshes to test with: in memory and on a real server, by the same tests, on our own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent99 import Mesh, Settings
from agent99.dispatch import new_event_loop
from agent99.ids import SystemIds
from agent99.testing import MemoryEngine
from tests._nats_server import NatsServer


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of `agent99 run`: on 3.11 no other starts handlers at once."""
    return {"agent99": new_event_loop}


OpenMesh = Callable[[], Awaitable[Mesh]]


@pytest.fixture(params=["memory", "nats"])
async def open_mesh(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenMesh]:
    """Give a function that opens one more process's worth of a mesh; closed with the test."""
    how: dict[str, Any] = {}
    url = None
    if request.param == "memory":
        how["engine"] = MemoryEngine()
    else:
        server: NatsServer = request.getfixturevalue("nats_server")
        url = server.url
    name = f"t{SystemIds().token().decode()[:12]}"
    settings = Settings(project=tmp_path, state_folder=tmp_path, url=url, mesh=name)
    async with AsyncExitStack() as stack:

        async def open_one() -> Mesh:
            return await stack.enter_async_context(Mesh(settings=settings, **how))

        yield open_one


@pytest.fixture
async def mesh(open_mesh: OpenMesh) -> Mesh:
    """Give the mesh on which agents are hosted."""
    return await open_mesh()


@pytest.fixture
async def client(open_mesh: OpenMesh, mesh: Mesh) -> Mesh:
    """Give another process's worth of the same mesh, from which they are called."""
    del mesh
    return await open_mesh()
