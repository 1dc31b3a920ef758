"""One partition that a node owns: what is on its way to the copies, and the versions to come."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from agent99.systems.cache._item import Item
from agent99.systems.cache._leads import Leads

EPOCH_SHIFT = 40
"""A version is the owner's epoch and, in the lower bits, a number that it counts."""


class Staged(NamedTuple):
    """The latest state of a key, which not all copies have yet."""

    item: Item
    settled: asyncio.Future[bool]
    """Whether it came to be; False: it may have, or not."""


class Holding:
    """What its owner knows of a partition besides what the store has.

    Changes are made one after the other on what is staged, and shown to readers when every copy has
    them: so nobody reads what the death of the owner could take back.

    Args:
        epoch: Since when it is owned: no two owners have the same.
    """

    __slots__ = (
        *("_count", "_idle", "epoch", "in_flight", "is_ready", "last", "leads"),
        *("learners", "partition", "staged", "takes_changes"),
    )

    def __init__(self, partition: int, epoch: int) -> None:
        self.partition = partition
        self.epoch = epoch
        self.staged: dict[str, Staged] = {}
        self.learners: set[str] = set()
        """Nodes that are being brought in sync: they are told of every change, too."""
        self.leads = Leads()
        """Who computes which keys now."""
        self.is_ready = False
        """Whether it is served; not before the other copies have what this one was told, and no
        longer while it is handed over."""
        self.takes_changes = True
        """Whether it may be changed: no longer when it is about to be handed over."""
        self.in_flight = 0
        """Changes that not all copies have."""
        self.last: asyncio.Future[bool] | None = None
        """Of the changes that began last: whether they came to be."""
        self._count = 0
        self._idle: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"Holding({self.partition}, epoch={self.epoch}, ready={self.is_ready})"

    def next_version(self) -> int:
        """Return the version of the next state of any key: higher than all before."""
        self._count += 1
        return (self.epoch << EPOCH_SHIFT) | self._count

    def begin(self) -> None:
        """Changes are on their way."""
        self.in_flight += 1

    def end(self) -> None:
        """They are settled."""
        self.in_flight -= 1
        if not self.in_flight and self._idle is not None:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Wait until nothing is on its way."""
        while self.in_flight:
            self._idle = asyncio.Event()
            await self._idle.wait()
