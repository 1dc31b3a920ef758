"""Where a demo runs: a mesh of its own, on a server of its own or on the one at AGENT99_URL."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from agent99 import Mesh, Settings
from agent99.agent import NatsEngine
from agent99.clock import Clock
from agent99.embedded import temporary_server
from agent99.errors import JournalError, TransportError
from agent99.ids import Ids

_log = logging.getLogger("agent99.shop")
REGISTRY_STREAMS: Final = ("KV_a99_{}_registry", "KV_a99_{}_leases", "KV_a99_{}_keeper")
"""What a mesh leaves on a server."""


@asynccontextmanager
async def mesh_of_its_own(
    folder: Path, clock: Clock, ids: Ids
) -> AsyncGenerator[tuple[Settings, Mesh]]:
    """Give a mesh that nobody else uses, and its settings; at the end nothing of it is left.

    Raises:
        EmbeddedServerError: a server could not be started.
        TransportError, JournalError: the one at AGENT99_URL is not there, or refuses.
    """
    url = os.environ.get("AGENT99_URL", "")
    name = f"shop-{ids.token().decode()[:10]}"
    if not url:
        async with temporary_server(clock=clock) as server:
            settings = Settings(project=folder, state_folder=folder, url=server.url, mesh=name)
            async with Mesh(settings=settings) as mesh:
                yield settings, mesh
        return
    settings = Settings(project=folder, state_folder=folder, url=url, mesh=name)
    is_joined = False  # what was never joined has left nothing
    try:
        async with Mesh(settings=settings) as mesh:
            is_joined = True
            yield settings, mesh
    finally:
        if is_joined:
            await _clear(settings, clock, ids)


async def _clear(settings: Settings, clock: Clock, ids: Ids) -> None:
    """Remove what the mesh left: the server keeps 73 MB free for it, and demos come often."""
    sender = ids.token().decode()[:20]
    try:
        async with NatsEngine(settings).open(sender, clock=clock, ids=ids) as parts:
            for stream in REGISTRY_STREAMS:
                await parts.journal.delete_stream(stream.format(settings.mesh))
    except (JournalError, TransportError) as error:
        _log.warning("the mesh %s is still on the server: %s", settings.mesh, error)
