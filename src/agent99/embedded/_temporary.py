"""A server of one's own in a folder that vanishes: for demos and tests."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from agent99.clock import Clock
from agent99.embedded._control import stop_server
from agent99.embedded._server import EmbeddedServer, acquire_server
from agent99.embedded._state import Folder
from agent99.settings import Settings


@asynccontextmanager
async def temporary_server(
    *, linger_s: float = 0.5, clock: Clock | None = None
) -> AsyncGenerator[EmbeddedServer]:
    """Start a server in a fresh folder; at the end it is stopped and the folder removed.

    When the process is killed inside, the supervisor removes the folder after its last user.
    Killed together with the supervisor it leaves the folder, but no server.

    Args:
        linger_s: Seconds from the last user's end to the server's, when it is not ended here.
        clock: The real one by default.

    Raises:
        ServerBinaryMissingError: There is no `nats-server`, or only one that is too old.
        ServerStartError: It did not start, or did not end; the message has its last words.
        StateFolderError: The temporary folder cannot be written.
    """
    folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="agent99-"))
    settings = Settings(project=folder, state_folder=folder, linger_s=linger_s)
    try:
        Folder(folder).temporary.touch(mode=0o600)
        try:
            async with await acquire_server(settings, clock=clock) as server, _marked(folder):
                yield server
        finally:
            await stop_server(settings, clock=clock)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


@asynccontextmanager
async def _marked(folder: Path) -> AsyncGenerator[None]:
    """Have the supervisor remove the folder unless this ends; then it is the caller's business."""
    try:
        yield
    finally:
        Folder(folder).temporary.unlink(missing_ok=True)  # while we are a user: there is no race
