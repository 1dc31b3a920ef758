"""A process of its own that ingests lines: `python _ingester.py URL MESH PLANT OPTIONS`.

It says `ready` when it does, and ends when whoever started it is gone. With a plant other than
`none` it does wrong what a campaign has to notice, or has a log that is slow.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import msgspec

from agent99 import Mesh
from agent99.ids import SystemIds
from agent99.systems.analytics import DataIngestionAgent, IngestionOptions
from agent99.systems.analytics._door import Put
from agent99.systems.analytics._entries import Piece
from agent99.systems.analytics._shelf import LogShelf
from agent99.systems.analytics._storing import Storing
from tests.systems.analytics._lines import LINES

MOMENT_S = 0.05
SLOW_S = 0.02


def answer_early(storing: Storing, *how: Any) -> asyncio.Future[None]:
    """Acknowledge what is not stored yet, as the sample does."""
    tasks.append(asyncio.create_task(store_late(storing, *how)))
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done.set_result(None)
    return done


async def store_late(storing: Storing, *how: Any) -> None:
    """Store it a moment later."""
    await asyncio.sleep(MOMENT_S)
    await plain_store(storing, *how)


async def forget_ids(storing: Storing, puts: list[Put], until_s: float) -> None:
    """Store a batch under another id each time, and answer a moment later."""
    for put in puts:
        put.entry.pieces = tuple(
            msgspec.structs.replace(piece, event_id=SystemIds().uuid())
            for piece in put.entry.pieces
        )
    await plain_store(storing, puts, until_s)
    await asyncio.sleep(MOMENT_S)


plain_store = Storing.store
tasks: list[asyncio.Task[None]] = []
PLANTS: dict[str, Any] = {"none": plain_store, "early": answer_early, "ids": forget_ids}


async def store_slowly(shelf: LogShelf, piece: Piece) -> bool:
    """Store an event a moment later."""
    await asyncio.sleep(SLOW_S)
    return await plain_append(shelf, piece)


plain_append = LogShelf.store


async def main(url: str, mesh_name: str, plant: str, words: str) -> None:
    """Ingest until it is killed."""
    if plant == "slow":
        setattr(LogShelf, "store", store_slowly)  # noqa: B010 - no method is assigned by name
    else:
        Storing.store = PLANTS[plant]  # type: ignore[method-assign]  # that is what a plant is
    asyncio.get_running_loop().add_reader(sys.stdin, os._exit, 1)
    options = msgspec.json.decode(words, type=IngestionOptions)
    async with Mesh(url, mesh=mesh_name) as mesh:
        await mesh.host(DataIngestionAgent([LINES], options=options))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
