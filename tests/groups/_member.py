"""A process of its own that is a member of a group: `python _member.py URL MESH DATABASE KIND`.

It writes the effect of each event into a store that all members share, with the time at which it
was handed out. Of kind `fenced` the effects carry the epoch; of kind `plain` each event that comes
is written, as by a handler whose effects are elsewhere. It says `joined` when it is a member, and
`left` when it has left, which it does when it is told to terminate.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import msgspec

from agent99 import Mesh
from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.envelope import key_text, parse_log, split_message
from agent99.groups import Batch, Group
from agent99.store import Migration, Store, StoreOptions, Transaction, open_store

GROUP = "campaign"
_TABLE = (
    "CREATE TABLE effect (place INTEGER PRIMARY KEY, key TEXT NOT NULL, number BIGINT NOT NULL,"
    " part INTEGER NOT NULL, epoch BIGINT NOT NULL, member TEXT NOT NULL,"
    " stored_us BIGINT NOT NULL, handed_us BIGINT NOT NULL)"
)
TABLES = (Migration(1, "effects", (_TABLE,)),)
OPTIONS = StoreOptions(lock_s_max=30.0)
_ADD = (
    "INSERT INTO effect (key, number, part, epoch, member, stored_us, handed_us) VALUES"
    " (:key, :number, :part, :epoch, :member, :stored_us, :handed_us)"
)


def open_effects(database: str) -> Store:
    """Return the store of the effects, not yet open."""
    return open_store(database, migrations=TABLES, options=OPTIONS)


def write(transaction: Transaction, batch: Batch, member: str, handed_us: int, kind: str) -> None:
    """Write the effects of a batch."""
    rows = [
        {
            "key": key_text(parse_log(record.subject).key),
            "number": msgspec.json.decode(split_message(record.payload)[1])["number"],
            "part": batch.partition,
            "epoch": batch.epoch,
            "member": member,
            "stored_us": record.stored_us,
            "handed_us": handed_us,
        }
        for record in (batch.fresh(transaction) if kind == "fenced" else batch.records)
    ]
    if rows:
        transaction.execute(_ADD, rows)


async def main(url: str, mesh_name: str, database: str, kind: str) -> None:
    """Be a member until it is told to terminate."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    asyncio.get_running_loop().add_reader(sys.stdin, os._exit, 1)  # whoever started it is gone
    clock = SystemClock()
    async with (
        open_effects(database) as store,
        Mesh(url, mesh=mesh_name) as mesh,
    ):

        async def handle(batch: Batch) -> None:
            handed_us = clock.wall_us()
            await store.transaction(lambda one: write(one, batch, group.member, handed_us, kind))

        counts = store if kind == "fenced" else None
        group = Group(mesh, GROUP, [">"], handle, store=counts)
        async with group:
            say(f"joined {group.member}")
            await ended.wait()
        say("left")


def say(line: str) -> None:
    """Tell the parent."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(*sys.argv[1:]))
