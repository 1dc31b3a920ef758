"""A process whose files may not grow any more: `python _full_disk.py URL`. Prints what happened.

A limit on the size of files is the nearest thing to a full disk that needs no root.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys
from collections.abc import Callable

from agent99.errors import StoreError
from agent99.store import Migration, Transaction, open_store

NOTE = Migration(1, "note", ("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)",))
FILE_BYTES_MAX = 300_000


def put(number: int) -> Callable[[Transaction], int]:
    """Insert three kilobytes."""

    def work(transaction: Transaction) -> int:
        values = {"id": number, "text": "x" * 3000}
        transaction.execute("INSERT INTO note VALUES (:id, :text)", values)
        return number

    return work


async def main(url: str) -> None:
    """Write until nothing fits, and some more; give room again, and write one last."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails instead
    unlimited = resource.RLIM_INFINITY
    async with open_store(url, migrations=(NOTE,)) as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, unlimited))
        ended: list[int | BaseException] = []
        for start in range(0, 240, 8):
            together = (store.transaction(put(start + index)) for index in range(8))
            ended += await asyncio.gather(*together, return_exceptions=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (unlimited, unlimited))
        last = await store.transaction(put(1000))
        found = await store.read(lambda t: t.execute("SELECT id FROM note").scalars())
    failures = [end for end in ended if isinstance(end, BaseException)]
    report = {
        "acknowledged": [end for end in ended if isinstance(end, int)] + [last],
        "found": found,
        "failures": len(failures),
        "untyped": [repr(end) for end in failures if not isinstance(end, StoreError)],
    }
    print(json.dumps(report))  # noqa: T201 - the test reads it


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
