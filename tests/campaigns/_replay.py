"""A group that is replayed, and one that lives beside it; each is a process of its own.

`python -m tests.campaigns._replay URL MESH replay EVENTS` hashes what it is given, per key, and
says `hash HEX` whenever it had so many events. `… live FILE` writes a line for each event: its
number, and how long after it was stored it was handled, in microseconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
from hashlib import blake2b

import msgspec

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.envelope import key_text, parse_log, split_message
from agent99.groups import Batch, Event, EventGroup, EventOptions, Group, GroupOptions

REPLAYED = "replayed"
PACED = GroupOptions(commit_s=0.5, prefetch_max=64, batch_max=64)
"""Reads in small pieces, between which the server has a moment for others: as fast as in large."""


class Numbered(msgspec.Struct):
    """What all events hold."""

    number: int


class Hashes:
    """A hash for each key, of all its events in their order; event 0 begins anew."""

    def __init__(self, events: int) -> None:
        self._by_key: dict[str, bytes] = {}
        self._events = events
        self._count = 0

    async def handle(self, batch: Batch) -> None:
        """Add events."""
        for record in batch.records:
            key = key_text(parse_log(record.subject).key)
            _, body = split_message(record.payload)
            is_first = msgspec.json.decode(body, type=Numbered).number == 0
            before = b"" if is_first else self._by_key.get(key, b"lost")
            self._by_key[key] = blake2b(before + body, digest_size=16).digest()
            self._count += 1
            if self._count % self._events == 0:
                self._tell()

    def _tell(self) -> None:
        whole = blake2b(digest_size=16)
        for key, value in sorted(self._by_key.items()):
            whole.update(key.encode() + value)
        print("hash", whole.hexdigest(), flush=True)  # noqa: T201 - the campaign waits for it


async def replay(mesh: Mesh, events: int) -> None:
    """Be the group that is replayed, for ever."""
    os.nice(19)  # the cores are for the others: what is measured is not who gets them
    hashes = Hashes(events)
    async with Group(mesh, REPLAYED, ["order.*"], hashes.handle, options=PACED):
        print("works", flush=True)  # noqa: T201 - the campaign waits for it
        await asyncio.Event().wait()


async def live(mesh: Mesh, path: str) -> None:
    """Be the group that lives beside it, for ever."""
    clock = SystemClock()
    file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    async def handle(event: Event) -> None:
        took_us = clock.wall_us() - event.stored_us
        os.write(file, f"{event.decode(Numbered).number} {took_us}\n".encode())

    async with EventGroup(mesh, "live", ["tick.*"], handle, options=EventOptions(start="new")):
        print("works", flush=True)  # noqa: T201 - the campaign waits for it
        await asyncio.Event().wait()


async def main(url: str, mesh_name: str, role: str, what: str) -> None:
    """Be one of the two until the process is ended."""
    async with Mesh(url, mesh=mesh_name) as mesh:
        await (replay(mesh, int(what)) if role == "replay" else live(mesh, what))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
