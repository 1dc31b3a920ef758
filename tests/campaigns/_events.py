"""Publishes, delivers and takes events, for a campaign to kill.

As a process of its own: `python -m tests.campaigns._events URL MESH DIR ROLE FAULT`. What it is
depends on its role; all effects are rows of one database, which all of them share.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from agent99 import Agent, Mesh, operation
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.errors import Agent99Error, LeaseLostError
from agent99.groups import CloudEvent, Event, EventGroup, EventOptions
from agent99.groups._ledger import Ledger
from agent99.groups._place import Progress
from agent99.store import Migration, Store, StoreOptions, Transaction, open_store
from agent99.systems.events import EventBusAgent

EFFECTS = (
    "CREATE TABLE effect (place INTEGER PRIMARY KEY AUTOINCREMENT, reader TEXT NOT NULL,"
    " id TEXT NOT NULL, pid INTEGER NOT NULL, sequence BIGINT NOT NULL, at_us BIGINT NOT NULL)"
)
TABLES = (Migration(1, "effects", (EFFECTS,)),)
OPTIONS = StoreOptions(lock_s_max=30.0)
KEYS = 5
PAUSE_S = 0.05
"""Between two events of a key, at each publisher."""
HANDLING_S = 0.01
SLOW_S = 0.06
"""What an event takes, where a fault is planted: so slow that there is always something open."""
FAULTS = {
    "a ledger that forgets": "stored, and without an effect: group",
    "an effect without is_new": "two effects: group",
}
"""Planted on purpose, and what the campaign says of each."""
STOPS_ITSELF = "stops itself"
"""As a fault: the process stands still in the middle of the event that says so."""


class Made(msgspec.Struct):
    """What an event holds."""

    number: int
    stops: int = 0
    """The process that stands still at it; 0: none."""


def store_url(folder: Path) -> str:
    """Return where the effects are."""
    return f"sqlite:///{folder / 'effects.db'}"


def id_of(role: str, key: str, number: int) -> str:
    """Return the id that a publisher gives to an event."""
    return f"{role}.{key}.{number}"


def acknowledged(folder: Path, role: str) -> list[tuple[str, int]]:
    """Return the keys and numbers that a publisher was promised, in all its lives."""
    path = folder / f"{role}.acked"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(key, int(number)) for key, number in map(str.split, lines)]


# --- who publishes --------------------------------------------------------------------------------

Put = Callable[[str, int, str], Awaitable[object]]


def put_by_bus(mesh: Mesh) -> Put:
    """Return what has the bus publish an event."""

    async def put(key: str, number: int, event_id: str) -> None:
        event = {"type": "order.moved", "subject": key, "data": {"number": number}, "id": event_id}
        await mesh.request("event_bus", "publish", event, timeout_s=3.0)

    return put


def put_by_log(mesh: Mesh) -> Put:
    """Return what appends an event."""

    def put(key: str, number: int, event_id: str) -> Awaitable[object]:
        return mesh.append("order.moved", {"number": number}, key=key, event_id=event_id)

    return put


async def publish(put: Put, role: str, folder: Path) -> None:
    """Publish the next event of each key, for ever; one that was not promised, again."""
    done = Counter(key for key, _ in acknowledged(folder, role))
    file = os.open(folder / f"{role}.acked", os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    async def lane(key: str) -> None:
        while True:
            number = done[key]
            await asyncio.sleep(PAUSE_S)
            try:
                await put(key, number, id_of(role, key, number))
            except Agent99Error:
                continue  # whether it is stored is unknown: the same once more
            os.write(file, f"{key} {number}\n".encode())
            done[key] += 1

    await asyncio.gather(*(lane(f"k{key}") for key in range(KEYS)))


# --- who takes ------------------------------------------------------------------------------------


class Subscriber(Agent):
    """Is given events by the bus, and has one effect of each; or one each time, if it is plain."""

    capabilities = ("shipping",)

    def __init__(self, store: Store, *, is_plain: bool) -> None:
        self._store = store
        self._is_plain = is_plain

    @operation(idempotent=True)
    async def handle_event(self, event: CloudEvent) -> None:
        """Have an effect."""
        await self._store.transaction(lambda one: self._take(one, event))

    def _take(self, transaction: Transaction, event: CloudEvent) -> None:
        if self._is_plain or transaction.first_time(event.id, reader="shipping"):
            enter(transaction, "shipping", event.id, int(event.sequence or 0))


class Reader:
    """Handles the events of a group: each has its effect once."""

    def __init__(self, store: Store, folder: Path, fault: str) -> None:
        self._store = store
        self._folder = folder
        self._fault = fault
        self._is_plain = fault.startswith("an effect without is_new")
        self._handling_s = SLOW_S if fault in FAULTS else HANDLING_S

    async def handle(self, event: Event) -> None:
        """Have an effect, after a moment."""
        await asyncio.sleep(self._handling_s)
        stops = STOPS_ITSELF in self._fault and event.decode(Made).stops == os.getpid()
        if stops:
            self._tell(f"stops {SystemClock().wall_us()}")
            os.kill(os.getpid(), signal.SIGSTOP)
        # Who stood still is cancelled, perhaps twice, when it hears of that: the effect is not.
        writing = asyncio.ensure_future(self._write(event, stops=stops))
        await asyncio.shield(writing)

    async def _write(self, event: Event, *, stops: bool) -> None:
        try:
            await self._store.transaction(lambda one: self._take(one, event))
        except LeaseLostError:
            self._tell(f"refused {event.id}")
            raise
        if stops:
            self._tell(f"done {event.id}")

    def _take(self, transaction: Transaction, event: Event) -> None:
        if self._is_plain or event.is_new(transaction):
            enter(transaction, "group", event.id, event.sequence)

    def _tell(self, line: str) -> None:
        with (self._folder / f"{os.getpid()}.lines").open("a") as file:
            file.write(f"{line}\n")


def enter(transaction: Transaction, reader: str, event_id: str, sequence: int) -> None:
    """Have an effect of an event."""
    row = {
        "reader": reader,
        "id": event_id,
        "pid": os.getpid(),
        "sequence": sequence,
        "at_us": SystemClock().wall_us(),
    }
    columns = ", ".join(row)
    values = ", ".join(f":{column}" for column in row)
    transaction.execute(f"INSERT INTO effect ({columns}) VALUES ({values})", row)


def plant(fault: str) -> None:
    """Swap what a member says of how far it is, where the fault is one of the group's."""

    def forget(ledger: Ledger) -> Progress:
        return ledger._progress(ledger._reached, 0, ())

    if fault == "a ledger that forgets":
        setattr(Ledger, "progress", forget)  # noqa: B010 - the fault


# --- the process ----------------------------------------------------------------------------------


async def main(url: str, mesh_name: str, folder: Path, role: str, fault: str) -> None:
    """Be what the role says until the process is ended; print a line when it is."""
    plant(fault)
    store = open_store(store_url(folder), migrations=TABLES, options=OPTIONS)
    async with store, Mesh(url, mesh=mesh_name) as mesh:
        if role == "bus":
            await mesh.host(EventBusAgent())
        elif role in ("subscriber", "listener"):
            await mesh.host(Subscriber(store, is_plain=role == "listener"))
        elif role in ("reader", "single"):
            handle = Reader(store, folder, fault).handle
            options = EventOptions(active="one" if role == "single" else "all")
            group = EventGroup(mesh, "group", [">"], handle, store=store, options=options)
            await group.__aenter__()
        print("works", flush=True)  # noqa: T201 - the campaign waits for it
        if role == "publisher":
            await publish(put_by_bus(mesh), role, folder)
        elif role == "appender":
            await publish(put_by_log(mesh), role, folder)
        await asyncio.Event().wait()


if __name__ == "__main__":
    path = Path(sys.argv[3])
    logging.basicConfig(filename=path / f"{os.getpid()}.log", level=logging.INFO)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(sys.argv[1], sys.argv[2], path, sys.argv[4], sys.argv[5]))
