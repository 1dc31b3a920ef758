"""A process that uses the embedded server: says one line when it has it, and stays until told.

Arguments: the state folder and the linger in seconds. It ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from agent99.embedded import acquire_server
from agent99.settings import Settings


async def _main() -> None:
    state_folder, linger_s = Path(sys.argv[1]), float(sys.argv[2])
    settings = Settings(project=state_folder.parent, state_folder=state_folder, linger_s=linger_s)
    async with await acquire_server(settings) as server:
        sys.stdout.write(json.dumps({"url": server.url, "started": server.started}) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(_main())
os._exit(0)
