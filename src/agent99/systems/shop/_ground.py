"""Where a demo runs: a mesh of its own, on a server of its own or on the one at AGENT99_URL."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from agent99 import Mesh, Settings
from agent99.agent import NatsEngine
from agent99.clock import Clock
from agent99.embedded import temporary_server
from agent99.errors import JournalError, TransportError
from agent99.ids import Ids

_log = logging.getLogger("agent99.shop")
BUCKETS: Final = (
    *("KV_a99_{}_registry", "KV_a99_{}_leases", "KV_a99_{}_keeper"),
    *("KV_a99_{}_tries", "KV_a99_{}_sagas"),
    *("KV_a99_{}_groups", "KV_a99_{}_subscriptions", "KV_a99_{}_cache"),
)
WORK_STREAMS: Final = "A99_{}_"
"""What a mesh leaves on a server: these, and all that begin so."""
LOG_STREAM: Final = "A99_{}_LOG"


class Ground(NamedTuple):
    """Where a demo runs."""

    settings: Settings
    mesh: Mesh
    server_pid: Callable[[], int] | None
    """Returns the process of the server; None: it is somebody else's."""


@asynccontextmanager
async def mesh_of_its_own(folder: Path, clock: Clock, ids: Ids) -> AsyncGenerator[Ground]:
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
                _let_in(settings)
                yield Ground(settings, mesh, lambda: server.pid)
        return
    settings = Settings(project=folder, state_folder=folder, url=url, mesh=name)
    is_joined = False  # what was never joined has left nothing
    try:
        async with Mesh(settings=settings) as mesh:
            is_joined = True
            _let_in(settings)
            yield Ground(settings, mesh, None)
    finally:
        if is_joined:
            await _clear(settings, clock, ids)


def _let_in(settings: Settings) -> None:
    """Make the folder a project of this mesh: from there `agent99 top` and `trace` find it.

    The folder is ours alone: the address holds a credential.
    """
    said = f"mesh = {json.dumps(settings.mesh)}\nurl = {json.dumps(settings.url)}\n"
    (settings.project / "agent99.toml").write_text(said)


async def read_log(settings: Settings, clock: Clock, ids: Ids) -> AsyncIterator[bytes]:
    """Yield every event that a mesh has stored, the oldest first.

    Raises:
        JournalError, TransportError, DeadlineExceededError
    """
    sender = ids.token().decode()[:20]
    async with NatsEngine(settings).open(sender, clock=clock, ids=ids) as parts:
        async for record in parts.journal.read(LOG_STREAM.format(settings.mesh)):
            yield record.payload


async def _clear(settings: Settings, clock: Clock, ids: Ids) -> None:
    """Remove what the mesh left: the server keeps room free for it, and demos come often."""
    sender = ids.token().decode()[:20]
    try:
        async with NatsEngine(settings).open(sender, clock=clock, ids=ids) as parts:
            mesh = settings.mesh
            work = await parts.journal.streams(WORK_STREAMS.format(mesh))
            names = [state.config.name for state in work]
            for name in (*names, *(stream.format(mesh) for stream in BUCKETS)):
                await parts.journal.delete_stream(name)
    except (JournalError, TransportError) as error:
        _log.warning("the mesh %s is still on the server: %s", settings.mesh, error)
