"""Meshes for groups: in memory and on a real server, by the same tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent99 import Mesh, Settings
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal
from agent99.testing import MemoryEngine
from agent99.wire import open_wire
from tests._nats_server import NatsServer

OpenMesh = Callable[[], Awaitable[Mesh]]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of `agent99 run`."""
    return {"agent99": new_event_loop}


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
    where: dict[str, Any] = {"project": tmp_path, "state_folder": tmp_path, "url": url}
    settings = Settings(**where, mesh=name, log_bytes_max=64 * 1024**2)
    async with AsyncExitStack() as stack:
        if url is not None:
            stack.push_async_callback(delete_streams, url, name)

        async def open_one() -> Mesh:
            return await stack.enter_async_context(Mesh(settings=settings, **how))

        yield open_one


@pytest.fixture
async def mesh(open_mesh: OpenMesh) -> Mesh:
    """Give one mesh."""
    return await open_mesh()


async def delete_streams(url: str, mesh: str) -> None:
    """Delete what is set aside for a mesh: the next test has use for it."""
    clock, ids = SystemClock(), SystemIds()
    wire = await open_wire(url, sender=ids.token(), clock=clock, ids=ids)
    try:
        journal = JetStreamJournal(wire, clock=clock, ids=ids)
        await journal.delete_stream(f"A99_{mesh}_LOG")
        for bucket in ("groups", "schedules"):
            await journal.delete_stream(f"KV_a99_{mesh}_{bucket}")
        for dead in await journal.streams(f"A99_{mesh}_DEAD_"):
            await journal.delete_stream(dead.config.name)
    finally:
        await wire.aclose()
