"""A process of its own with all of an outbox: `python _sender.py URL FIRST STREAM FAULT`.

Callers run transactions that append, a relay sends what they appended to a file that stands for a
stream, and a reader takes in what stands there. Each number is written to standard output once its
transaction is acknowledged. A fault is planted by its name; `none` plants none.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from agent99.clock import SystemClock
from agent99.errors import LeaseLostError
from agent99.store import (
    Migration,
    OutboxLease,
    OutboxReceipt,
    OutboxRow,
    Store,
    StoreOptions,
    Transaction,
    open_store,
)

CALLERS = 24
KEYS = 5
OPTIONS = StoreOptions(lock_s_max=30.0, outbox_lease_s=0.5)
TABLES = (
    Migration(
        1,
        "effects",
        (
            "CREATE TABLE effect (number INTEGER PRIMARY KEY)",
            "CREATE TABLE version (key TEXT PRIMARY KEY, version BIGINT NOT NULL)",
            "CREATE TABLE received (number INTEGER PRIMARY KEY)",
        ),
    ),
)
FAULTS = {
    "row first": "an event without an effect",
    "row later": "took effect without an event",
    "acknowledged first": "acknowledged, and lost",
    "marked first": "an event that is not in the stream",
    "not given back": "an event that is not in the stream",
}
"""What somebody might get wrong, and what the campaign must find then."""
_COUNT_UP = (
    "INSERT INTO version VALUES (:key, 1)"
    " ON CONFLICT (key) DO UPDATE SET version = version.version + 1 RETURNING version"
)
_MOMENT_S = 0.02  # makes the gap of a planted fault wide enough to be hit


class Sent(msgspec.Struct, frozen=True):
    """One line of the stream."""

    id: str
    key: str
    number: int
    version: int


class Stream:
    """A file that stands for a stream: what is stored lasts, unless somebody cuts it off."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_APPEND | os.O_CREAT | os.O_RDWR)

    def store(self, row: OutboxRow) -> int:
        """Store a row; returns its sequence."""
        body = msgspec.json.decode(row.body)
        os.write(self._file, msgspec.json.encode({"id": row.id, "key": row.key, **body}) + b"\n")
        return os.lseek(self._file, 0, os.SEEK_CUR)

    def end(self) -> int:
        """Return the last sequence."""
        return os.fstat(self._file).st_size

    def read(self) -> list[Sent]:
        """Return every line."""
        return [msgspec.json.decode(line, type=Sent) for line in _lines(self._path)]


def _lines(path: Path) -> Iterator[bytes]:
    yield from path.read_bytes().splitlines()


def effect(number: int, *, appends: bool = True, fails: bool = False) -> Callable[..., None]:
    """Take effect, and append that it did."""

    def work(transaction: Transaction) -> None:
        key = f"k{number % KEYS}"
        version = transaction.execute(_COUNT_UP, {"key": key}).scalar()
        if appends:
            transaction.append("effect", {"number": number, "version": version}, key=key)
        transaction.execute("INSERT INTO effect VALUES (:number)", {"number": number})
        if fails:
            raise LookupError(number)

    return work


def append_alone(number: int) -> Callable[[Transaction], None]:
    """Append without an effect: half of a planted fault."""

    def work(transaction: Transaction) -> None:
        transaction.append("effect", {"number": number, "version": 0}, key=f"k{number % KEYS}")

    return work


def receive(sent: Sent) -> Callable[[Transaction], None]:
    """Take in a message once, however often it comes."""

    def work(transaction: Transaction) -> None:
        if transaction.first_time(sent.id):
            values = {"number": sent.number}
            transaction.execute("INSERT INTO received VALUES (:number)", values)

    return work


async def run_number(store: Store, number: int, fault: str) -> None:
    """Run one transaction; one in eight fails."""
    fails = number % 8 == 0
    if fault == "row first":
        await store.transaction(append_alone(number))
    if fault == "acknowledged first" and not fails:
        os.write(1, f"{number}\n".encode())
    appends = fault not in ("row first", "row later")
    try:
        if number % 2:
            work = effect(number, appends=appends, fails=fails)
            await store.transaction(work)
        else:
            work = effect(number, appends=appends, fails=fails)
            await store.once(f"n-{number}", number, work, type(None))
    except LookupError:
        return
    if fault == "row later":
        await store.transaction(append_alone(number))
    os.write(1, f"{number}\n".encode())


async def relay(store: Store, stream: Stream, fault: str) -> None:
    """Send what is in the outbox, for ever."""
    while True:
        lease = await claim(store)
        try:
            if fault != "not given back":
                await compare(lease, stream)
            while True:
                await send(lease, stream, marks_first=fault == "marked first")
                await store.outbox.wait_added(0.05)
        except LeaseLostError:
            continue


async def claim(store: Store) -> OutboxLease:
    """Wait until the outbox is ours."""
    while (lease := await store.outbox.claim()) is None:
        await SystemClock().sleep(0.05)
    return lease


async def compare(lease: OutboxLease, stream: Stream) -> None:
    """Give back what the stream has lost."""
    for height in await lease.heights():
        if height.sequence > stream.end():
            await lease.give_back(height.stream, stream.end())


async def send(lease: OutboxLease, stream: Stream, *, marks_first: bool = False) -> None:
    """Send some rows."""
    rows = await lease.take(64)
    if marks_first:
        await lease.mark([OutboxReceipt(row.position, "file", 0) for row in rows])
        await SystemClock().sleep(_MOMENT_S)
    receipts: list[OutboxReceipt] = []
    for row in rows:
        if not lease.is_live:
            break
        receipts.append(OutboxReceipt(row.position, "file", stream.store(row)))
    await lease.mark(receipts)


async def read(store: Store, stream: Stream) -> None:
    """Take in the stream from its beginning, again and again."""
    while True:
        for sent in stream.read()[-500:]:
            await store.transaction(receive(sent))
        await SystemClock().sleep(0.05)


async def main(url: str, first: int, path: Path, fault: str) -> None:
    """Do all of it until somebody ends it."""
    numbers = iter(range(first, first + 1_000_000))
    async with open_store(url, migrations=TABLES, options=OPTIONS) as store:
        stream = Stream(path)

        async def caller() -> None:
            for number in numbers:
                await run_number(store, number, fault)
                await SystemClock().sleep(0.005)

        tasks: list[Any] = [caller() for _ in range(CALLERS)]
        await asyncio.gather(*tasks, relay(store, stream, fault), read(store, stream))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]))
