"""Does stored work, follows events and relays an outbox, for a campaign to kill.

As a process of its own: `python -m tests.campaigns._worker URL MESH DIR FAULT`. All its effects are
rows of one database, which all workers share; each is made once for each number.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

import agent99.work
from agent99 import Agent, Mesh, follow, job
from agent99.dispatch import new_event_loop
from agent99.journal import Delivery
from agent99.store import Migration, Store, StoreOptions, Transaction, open_store
from agent99.work import Worker, events_for, jobs_for
from tests.work._fragile import with_ack_wait

EFFECTS = (
    "CREATE TABLE effect (place INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,"
    " number INTEGER NOT NULL, key TEXT NOT NULL)"
)
TABLES = (Migration(1, "effects", (EFFECTS,)),)
OPTIONS = StoreOptions(outbox_lease_s=2.0)
ACK_WAIT_S = 2.0
CURVE: dict[str, Any] = {"attempts_max": 100, "delay_s": 0.1, "delay_s_max": 0.5}
FAULTS = {"ack before effect": "acknowledged, and not done", "publish before commit": "two events"}
"""Planted on purpose, and what the campaign says of each."""


def store_url(folder: Path) -> str:
    """Return where the workers' database is."""
    return f"sqlite:///{folder / 'effects.db'}"


class Hand(Agent):
    """Does each number once, whatever comes twice."""

    capabilities = ("hand",)

    def __init__(self, store: Store, fault: str) -> None:
        self._store = store
        self._publishes_first = fault == "publish before commit"

    async def start(self) -> None:
        """Send what the transactions append."""
        self.relay(self._store)

    @job(**CURVE)
    async def work(self, number: int) -> None:
        """Have an effect."""
        await self._store.transaction(lambda t: _enter(t, "job", number, ""))

    @job(**CURVE)
    async def trade(self, number: int, key: str) -> None:
        """Have an effect, and tell of it."""
        event = {"number": number, "key": key}
        if self._publishes_first:
            await self.append("row.made", event, key=key)
            await asyncio.sleep(0.05)

        def work(transaction: Transaction) -> None:
            if _enter(transaction, "row", number, key) and not self._publishes_first:
                transaction.append("row.made", event, key=key)

        await self._store.transaction(work)

    @follow("*.made", **CURVE)
    async def note(self, number: int, key: str) -> None:
        """Have an effect of an event."""
        kind = f"noted {self.context.operation.partition('.')[0]}"
        await self._store.transaction(lambda t: _enter(t, kind, number, key))


def _enter(transaction: Transaction, kind: str, number: int, key: str) -> bool:
    if not transaction.first_time(f"{number}", reader=kind):
        return False
    row = {"kind": kind, "number": number, "key": key}
    transaction.execute("INSERT INTO effect (kind, number, key) VALUES (:kind, :number, :key)", row)
    return True


class _Acknowledged:
    """A delivery whose end was told too early."""

    def __init__(self, delivery: Delivery) -> None:
        self.record, self.attempt = delivery.record, delivery.attempt

    async def ack(self) -> None:
        """Do nothing."""

    async def retry(self, delay_s: float = 0.0) -> None:
        """Do nothing."""


def plant(fault: str) -> None:
    """Swap two lines of the worker, where the fault is one of its own."""
    attend = Worker._bring_to_its_end

    async def hasty(self: Worker, delivery: Delivery) -> None:
        await delivery.ack()
        await asyncio.sleep(0.05)
        await attend(self, _Acknowledged(delivery))  # type: ignore[arg-type]  # as much as it needs

    if fault == "ack before effect":
        setattr(Worker, "_bring_to_its_end", hasty)  # noqa: B010 - the fault


async def main(url: str, mesh_name: str, folder: Path, fault: str) -> None:
    """Work until the process is ended; print a line when it does."""
    setattr(agent99.work, "jobs_for", with_ack_wait(jobs_for, ACK_WAIT_S))  # noqa: B010 - else 30 s
    setattr(agent99.work, "events_for", with_ack_wait(events_for, ACK_WAIT_S))  # noqa: B010 - else 30 s
    plant(fault)
    store = open_store(store_url(folder), migrations=TABLES, options=OPTIONS)
    async with store, Mesh(url, mesh=mesh_name) as mesh:
        await mesh.host(Hand(store, fault))
        print("works", flush=True)  # noqa: T201 - the campaign waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(filename=Path(sys.argv[3]) / f"{os.getpid()}.log", level=logging.INFO)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4]))
