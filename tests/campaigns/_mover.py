"""Moves money by sagas, for a campaign to kill.

As a process of its own: `python -m tests.campaigns._mover URL MESH DIR FAULT`. All its effects are
rows of one database, which all movers share, and which honours keys: what a key did is done once,
and what was undone under a key is not done by a step that comes late.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from uuid import uuid4

from agent99 import Agent, Failure, Mesh
from agent99.dispatch import new_event_loop
from agent99.saga import Saga, Step, Undo, saga
from agent99.store import Migration, Store, Transaction, open_store

MOVES = "CREATE TABLE move (key TEXT PRIMARY KEY, undone INTEGER NOT NULL)"
EFFECTS = (
    "CREATE TABLE effect (place INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,"
    " number INTEGER NOT NULL, change INTEGER NOT NULL)"
)
TABLES = (Migration(1, "effects", (MOVES, EFFECTS)),)
KINDS = ("take", "give", "tell")
FAULTS = {
    "an undo forgotten": "failed, and something is left of it",
    "a charge without key": "an effect that took place twice",
    "ack before effect": "done, and something of it is missing",
}
"""Planted on purpose, and what the campaign says of each."""
REFUSED = 10
"""Every so manieth transfer is refused at its last step."""


def store_url(folder: Path) -> str:
    """Return where the movers' database is."""
    return f"sqlite:///{folder / 'moves.db'}"


class Mover(Agent):
    """Moves money: takes it here, gives it there, and tells."""

    capabilities = ("mover",)

    def __init__(self, store: Store, fault: str) -> None:
        self._store = store
        self._fault = fault
        self._late: set[asyncio.Task[None]] = set()

    @saga
    async def transfer(self, number: int, saga: Saga) -> int:
        """Move the money of one number."""
        await saga.step("take", self.take, number, undo=self.undo)
        await saga.step("give", self.give, number, undo=self.undo)
        await saga.sleep(0.01)
        if number % REFUSED == 0:
            raise Failure("refused", code="REFUSED")
        await saga.step("tell", self.tell, number)
        return number

    @saga
    async def later(self, number: int, seconds: float, saga: Saga) -> int:
        """Wait, then tell."""
        await saga.sleep(seconds)
        await saga.step("tell", self.tell, number)
        return number

    async def take(self, step: Step, number: int) -> None:
        """Take it here."""
        await self._do(step, number)

    async def give(self, step: Step, number: int) -> None:
        """Give it there."""
        await self._do(step, number)

    async def tell(self, step: Step, number: int) -> None:
        """Tell of it."""
        await self._do(step, number)

    async def undo(self, undo: Undo[None], number: int) -> None:
        """Undo one of them."""
        if self._fault == "an undo forgotten" and undo.name == "give":
            return
        await self._store.transaction(lambda t: _undo(t, undo.step_key, undo.name, number))

    async def _do(self, step: Step, number: int) -> None:
        key = str(uuid4()) if self._fault == "a charge without key" else step.key
        work = self._store.transaction(lambda t: _do(t, key, step.name, number))
        if self._fault == "ack before effect":
            task = asyncio.create_task(_later(work))
            self._late.add(task)
            task.add_done_callback(self._late.discard)
            return
        await work
        await asyncio.sleep(0.01)  # here, too, its process may be killed


async def _later(work: object) -> None:
    await asyncio.sleep(0.2)
    await work  # type: ignore[misc]  # a coroutine, whose type the store keeps to itself


def _do(transaction: Transaction, key: str, kind: str, number: int) -> None:
    sql = "INSERT INTO move (key, undone) VALUES (:key, 0) ON CONFLICT DO NOTHING"
    if transaction.execute(sql, {"key": key}).changed:
        _enter(transaction, kind, number, 1)


def _undo(transaction: Transaction, key: str, kind: str, number: int) -> None:
    sql = "INSERT INTO move (key, undone) VALUES (:key, 1) ON CONFLICT DO NOTHING"
    if transaction.execute(sql, {"key": key}).changed:
        return  # it never took effect, and cannot any more
    sql = "UPDATE move SET undone = 1 WHERE key = :key AND undone = 0"
    if transaction.execute(sql, {"key": key}).changed:
        _enter(transaction, kind, number, -1)


def _enter(transaction: Transaction, kind: str, number: int, change: int) -> None:
    transaction.execute(
        "INSERT INTO effect (kind, number, change) VALUES (:kind, :number, :change)",
        {"kind": kind, "number": number, "change": change},
    )


async def main(url: str, mesh_name: str, folder: Path, fault: str) -> None:
    """Move until the process is ended; print the instance when it does."""
    store = open_store(store_url(folder), migrations=TABLES)
    async with store, Mesh(url, mesh=mesh_name) as mesh:
        mover = Mover(store, fault)
        await mesh.host(mover)
        print(mover.instance, flush=True)  # noqa: T201 - the campaign waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(filename=Path(sys.argv[3]) / f"{os.getpid()}.log", level=logging.INFO)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
