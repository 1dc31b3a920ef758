"""A process of its own that works on a store: `python _child.py URL FIRST COUNT`.

It runs idempotent transactions, 64 at once, and writes each number to standard output once it is
acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

from agent99.store import Migration, StoreOptions, Transaction, open_store

TABLES = (
    Migration(
        1,
        "effects",
        (
            "CREATE TABLE effect (number INTEGER PRIMARY KEY, process INTEGER NOT NULL)",
            "CREATE TABLE total (id INTEGER PRIMARY KEY, sum BIGINT NOT NULL)",
            "INSERT INTO total VALUES (1, 0)",
        ),
    ),
)


def effect(number: int) -> Callable[[Transaction], int]:
    """Insert a row and add to a total; the answer is the process that did it."""

    def work(transaction: Transaction) -> int:
        process = os.getpid()
        values = {"number": number, "process": process}
        transaction.execute("INSERT INTO effect VALUES (:number, :process)", values)
        transaction.execute("UPDATE total SET sum = sum + :by", {"by": number})
        return process

    return work


async def main(url: str, first: int, count: int) -> None:
    """Run the numbers from `first` on, each once."""
    numbers = iter(range(first, first + count))
    options = StoreOptions(lock_s_max=30.0)  # a busy machine makes nobody give up
    async with open_store(url, migrations=TABLES, options=options) as store:

        async def caller() -> None:
            for number in numbers:
                process = await store.once(f"effect-{number}", number, effect(number), int)
                os.write(1, f"{number} {process}\n".encode())

        await asyncio.gather(*(caller() for _ in range(64)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
