"""Faults planted in a node's process, which a campaign must notice, and a look at what it serves.

Invariant: each takes away one thing that the cache's promise rests on, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec

from agent99.systems.cache import CacheNodeAgent, _copies, _node
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._lease import Lease
from agent99.systems.cache._residence import Residence
from agent99.systems.cache._stay import Stay
from agent99.systems.cache._table import Table
from agent99.systems.cache._words import Found, Read

LOOK_S: Final = 0.02
"""Between two times that a node asks itself, which no link can keep it from."""
_now_ns: Final = time.monotonic_ns


class Served(msgspec.Struct, frozen=True, array_like=True):
    """A node has answered for a key."""

    node: str
    """Its id."""
    partition: int
    epoch: int
    """Since which it owned it, as it thought."""
    began_ns: int
    ended_ns: int


def plant(fault: str) -> None:
    """Break this process's node."""
    _PLANTS[fault]()


def _forgets() -> None:
    """Its copies acknowledge what they are told, and forget it."""
    _replace(_copies, "take_over", _does_nothing)


def _keeps_deleted() -> None:
    """Its copies do not hear that keys were deleted."""
    take_over: Callable[..., None] = _copies.take_over  # type: ignore[attr-defined]  # not exported

    def without_tombstones(store: Any, partition: int, item: Any, now_us: int) -> None:
        if not item.is_deleted:
            take_over(store, partition, item, now_us)

    _replace(_copies, "take_over", without_tombstones)


def _is_deaf() -> None:
    """It never hears of a table without itself: only its lease can tell it that it is out."""
    on_table = Stay.on_table

    def deaf(stay: Stay, table: Table) -> None:
        if any(node.id == stay.lease.node.id for node in table.nodes):
            on_table(stay, table)

    _replace(Stay, "on_table", deaf)


def _needs_no_lease() -> None:
    """It is deaf, and serves on by a lease that ran out, or that others took away."""
    _is_deaf()
    _replace(Lease, "is_valid", _says_yes)
    _replace(Residence, "_removed", _does_nothing)


_PLANTS: Final = {
    "none": lambda: None,
    "forgets": _forgets,
    "keeps deleted": _keeps_deleted,
    "deaf": _is_deaf,
    "needs no lease": _needs_no_lease,
}


async def watch(agent: CacheNodeAgent, folder: Path, keys: tuple[str, ...]) -> None:
    """Write down whatever a node serves, and ask it by itself again and again, until cancelled."""
    file = os.open(folder / f"{os.getpid()}.served", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    read_here: Callable[[Stay, Read], Found] = _node.read_here  # type: ignore[attr-defined]  # as above

    def noted(stay: Stay, read: Read) -> Found:
        began_ns = _now_ns()
        found = read_here(stay, read)
        times, node = (began_ns, _now_ns()), stay.lease.node.id
        for index, key in enumerate(read.keys[: len(found.hits)]):
            if index not in found.moved:
                partition = partition_of(key)
                epoch = stay.owner.holdings[partition].epoch
                line = msgspec.json.encode(Served(node, partition, epoch, *times))
                os.write(file, line + b"\n")
        return found

    _replace(_node, "read_here", noted)
    while True:
        await asyncio.sleep(LOOK_S)
        if agent.stay is not None:
            noted(agent.stay, Read(0, keys))


def read_served(folder: Path) -> list[Served]:
    """Return what all watched nodes have written into a folder."""
    return [
        msgspec.json.decode(line, type=Served)
        for path in sorted(folder.glob("*.served"))
        for line in path.read_bytes().splitlines()
    ]


def second_owners(served: list[Served]) -> list[str]:
    """Return, in words, where two nodes served one partition at a time, or at one epoch."""
    spans: dict[int, dict[tuple[int, str], tuple[int, int]]] = {}
    for each in served:
        of_one = spans.setdefault(each.partition, {})
        reign = each.epoch, each.node
        first_ns, last_ns = of_one.get(reign, (each.ended_ns, each.began_ns))
        of_one[reign] = min(first_ns, each.ended_ns), max(last_ns, each.began_ns)
    found: list[str] = []
    for partition, of_one in sorted(spans.items()):
        reigns = sorted(of_one.items())
        for (before, (_, last_ns)), (then, (first_ns, _)) in pairwise(reigns):
            if before[0] == then[0] or last_ns > first_ns:
                found.append(f"partition {partition}: {before} until {last_ns}, {then} {first_ns}")
    return found


def _replace(place: Any, name: str, value: object) -> None:
    setattr(place, name, value)


def _does_nothing(*_: object) -> None:
    """Take no notice."""


def _says_yes(_: object) -> bool:
    return True
