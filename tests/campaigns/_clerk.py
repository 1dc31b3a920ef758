"""The agent that campaigns break, and its process: `python -m tests.campaigns._clerk URL MESH DIR`.

What it does is written down where a killed process cannot take it along: one line for each handler
that began in a file of the process, and rows in a database that all clerks share.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec

from agent99 import Agent, Mesh, operation
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.store import Migration, Store, Transaction, open_store

TABLES = (Migration(1, "paid", ("CREATE TABLE paid (number INTEGER, clerk TEXT)",)),)
SERVICE_S = 0.05
"""So long each request is in a clerk's hands."""
_wall_us = SystemClock().wall_us


class Line(msgspec.Struct, frozen=True, array_like=True):
    """One handler that began."""

    operation: str
    number: int
    instance: str
    attempt: int
    is_expired: bool
    """It began after the caller's deadline."""


class Clerk(Agent):
    """Looks up, which may be done twice; books, which may not; pays, once for each key."""

    capabilities = ("clerk",)

    def __init__(self, folder: Path, store: Store) -> None:
        self._store = store
        path = folder / f"{os.getpid()}.lines"
        self._lines = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    @operation(idempotent=True)
    async def look_up(self, number: int, until_us: int) -> str:
        """Change nothing."""
        self._begin(number, until_us)
        await asyncio.sleep(SERVICE_S)
        return self.instance

    @operation
    async def book(self, number: int, until_us: int) -> str:
        """Have an effect each time."""
        self._begin(number, until_us)
        await asyncio.sleep(SERVICE_S)
        return self.instance

    @operation
    async def pay(self, number: int, until_us: int) -> str:
        """Have one effect for each key, in whichever process."""
        self._begin(number, until_us)
        key = self.context.idempotency_key
        assert key is not None
        answer = await self._store.once(
            key, number, lambda transaction: self._enter(transaction, number), str
        )
        await asyncio.sleep(SERVICE_S)
        return answer

    @operation
    async def block(self, seconds: float) -> str:
        """Let nothing else run."""
        time.sleep(seconds)  # noqa: ASYNC251 - that it blocks is the fault
        return self.instance

    def _enter(self, transaction: Transaction, number: int) -> str:
        row = {"number": number, "clerk": self.instance}
        transaction.execute("INSERT INTO paid VALUES (:number, :clerk)", row)
        return self.instance

    def _begin(self, number: int, until_us: int) -> None:
        context = self.context
        attempt = context.request.attempt or 1
        is_expired = _wall_us() > until_us
        line = Line(context.operation, number, self.instance, attempt, is_expired)
        os.write(self._lines, msgspec.json.encode(line) + b"\n")


class Effects:
    """What all clerks have done, as it stands on the disk."""

    suffix: ClassVar[str] = "*.lines"

    def __init__(self, folder: Path, paid: list[int]) -> None:
        self.lines = list(_lines(folder))
        self.paid = paid

    def __repr__(self) -> str:
        return f"Effects(lines={len(self.lines)}, paid={len(self.paid)})"

    @property
    def expired(self) -> int:
        """How many began after their callers' deadlines."""
        return sum(line.is_expired for line in self.lines)

    def done(self, operation: str) -> list[int]:
        """Return the numbers for which an operation began, each as often as it did."""
        return [line.number for line in self.lines if line.operation == operation]


async def effects_of(folder: Path) -> Effects:
    """Read what all clerks have done."""
    async with open_store(store_url(folder), migrations=TABLES) as store:
        rows = await store.read(lambda t: t.execute("SELECT number FROM paid").scalars())
    return Effects(folder, rows)


def store_url(folder: Path) -> str:
    """Return where the clerks' database is."""
    return f"sqlite:///{folder / 'paid.db'}"


def _lines(folder: Path) -> Iterator[Line]:
    for path in sorted(folder.glob(Effects.suffix)):
        for text in path.read_bytes().splitlines():
            yield msgspec.json.decode(text, type=Line)


async def main(url: str, mesh_name: str, folder: Path) -> None:
    """Host until the process is ended; print the instance when it is there."""
    store = open_store(store_url(folder), migrations=TABLES)
    async with store, Mesh(url, mesh=mesh_name) as mesh:
        clerk = Clerk(folder, store)
        await mesh.host(clerk)
        print(clerk.instance, flush=True)  # noqa: T201 - the campaign waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(filename=Path(sys.argv[3]) / f"{os.getpid()}.log", level=logging.INFO)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
