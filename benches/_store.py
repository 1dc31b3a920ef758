"""Idempotent transactions, 64 callers at once, in several set-ups of one database, in turns.

Prints one JSON object: for each set-up a list of transactions per second, one per round.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable

import msgspec

from agent99.dispatch import new_event_loop
from agent99.store import Migration, Store, StoreOptions, Transaction, open_store

CALLERS = 64
TABLES = (
    Migration(
        1,
        "payments",
        (
            "CREATE TABLE account (id INTEGER PRIMARY KEY, pence BIGINT NOT NULL)",
            "CREATE TABLE payment (id TEXT PRIMARY KEY, account INTEGER NOT NULL, pence BIGINT)",
        ),
    ),
)
SET_UPS = {
    "sqlite": {
        "shared": StoreOptions(),
        "alone": StoreOptions(batch_max=1),
        "telling": StoreOptions(outbox_rows_max=100_000_000),
    },
    "postgresql": {
        "shared": StoreOptions(),
        "alone": StoreOptions(writers_max=1),
        "telling": StoreOptions(outbox_rows_max=100_000_000),
    },
}
"""`shared` is the default; `alone` commits one after the other; `telling` appends an event each."""


class Payment(msgspec.Struct, frozen=True):
    """The request, and the event."""

    account: int
    pence: int


def pay(key: str, payment: Payment, *, tells: bool) -> Callable[[Transaction], int]:
    """Return what one transaction does: two statements, and an event where it tells."""
    values = {"id": key, "account": payment.account, "pence": payment.pence}

    def work(transaction: Transaction) -> int:
        transaction.execute("UPDATE account SET pence = pence - :pence WHERE id = :account", values)
        transaction.execute("INSERT INTO payment VALUES (:id, :account, :pence)", values)
        if tells:
            transaction.append("payment.made", payment, key=str(payment.account))
        return payment.pence

    return work


async def transactions_per_s(store: Store, name: str, seconds: float) -> float:
    """Keep one transaction of each caller under way for so long."""
    began = time.perf_counter()
    stop = began + seconds
    done = 0

    async def keep_on(account: int) -> None:
        nonlocal done
        payment = Payment(account, 1)
        number = 0
        while time.perf_counter() < stop:
            number += 1
            key = f"{name}-{began}-{account}-{number}"
            work = pay(key, payment, tells=name == "telling")
            await store.once(key, payment, work, int)
            done += 1

    await asyncio.gather(*(keep_on(account) for account in range(CALLERS)))
    return done / (time.perf_counter() - began)


def fill(transaction: Transaction) -> None:
    """Make the accounts."""
    rows = [{"id": account, "pence": 10**9} for account in range(CALLERS)]
    transaction.execute("INSERT INTO account VALUES (:id, :pence) ON CONFLICT DO NOTHING", rows)


async def measure(url: str, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure every set-up, in turns."""
    set_ups = SET_UPS[url.partition(":")[0]]
    figures: dict[str, list[float]] = {name: [] for name in set_ups}
    async with contextlib.AsyncExitStack() as stack:
        stores = {
            name: await stack.enter_async_context(
                open_store(url, migrations=TABLES, options=options)
            )
            for name, options in set_ups.items()
        }
        await stores["shared"].transaction(fill)
        for name, store in stores.items():
            await transactions_per_s(store, name, seconds / 4)
        for _ in range(rounds):
            for name, store in stores.items():
                figures[name].append(await transactions_per_s(store, name, seconds))
    return figures


def main() -> None:
    """Measure; the arguments are the database's URL, rounds, and seconds for each figure."""
    url, rounds, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(measure(url, rounds, seconds))).decode())


if __name__ == "__main__":
    main()
