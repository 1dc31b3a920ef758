"""Processes that ingest lines, which a campaign starts and kills."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from agent99.systems.analytics import IngestionOptions

ROOT = Path(__file__).parents[3]


class Ingesters:
    """Processes that ingest; one that is killed is followed by another one."""

    def __init__(self, url: str, mesh: str, options: IngestionOptions, plant: str = "none") -> None:
        self.running: list[asyncio.subprocess.Process] = []
        self._words = (url, mesh, plant, msgspec.json.encode(options).decode())

    async def start(self) -> None:
        """Start one, and wait until it is at work."""
        pipe = asyncio.subprocess.PIPE
        command = (sys.executable, "-m", "tests.systems.analytics._ingester", *self._words)
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=pipe, stdout=pipe)
        self.running.append(process)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert b"ready\n" == await process.stdout.readline()

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        """End one as a crash would."""
        self.running.remove(process)
        process.kill()
        await process.wait()

    async def aclose(self) -> None:
        """End all of them."""
        for process in tuple(self.running):
            await self.kill(process)
