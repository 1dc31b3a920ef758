"""A node's lease: an entry in the bucket that it alone writes, by compare-and-set."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from agent99.clock import Clock
from agent99.errors import Agent99Error, ClosedError, WrongSequenceError
from agent99.systems.cache._book import NODE, TableBook
from agent99.systems.cache._options import LEASE_S, RENEW_S
from agent99.systems.cache._table import Node

_log = logging.getLogger("agent99.systems.cache")

encode_node = msgspec.json.Encoder().encode


def decode_node(value: bytes) -> Node | None:
    """Return what a lease says of its node, or None: it is a stranger's."""
    try:
        return msgspec.json.decode(value, type=Node)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Lease:
    """Says that a node is there, and tells it whether others still believe so.

    It counts from the moment at which a renewal was sent. Whoever removes a node takes its entry
    away by compare-and-set, at least `SILENCE_S` after it was last renewed: so a renewal that
    succeeds was before that, and a node whose renewal is refused has been removed.

    Args:
        deposed: Called when the node was removed by others: it is another one from then on.

    Invariant: while `is_valid`, no other node owns what this one does.
    """

    def __init__(
        self, book: TableBook, clock: Clock, node: Node, *, deposed: Callable[[], None]
    ) -> None:
        self.node = node
        self._book = book
        self._clock = clock
        self._deposed = deposed
        self._revision = 0
        self._until_s = 0.0
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Lease({self.node.id!r}, valid={self.is_valid()})"

    def is_valid(self) -> bool:
        """Whether the node may serve now."""
        return self._clock.monotonic_s() < self._until_s

    def lose(self) -> None:
        """Serve no more, until the next renewal: the link is away."""
        self._until_s = 0.0

    async def take(self) -> None:
        """Write the entry for the first time.

        Raises:
            JournalError, DeadlineExceededError, TransportError, RemoteProtocolError, ClosedError
        """
        bucket = await self._book.bucket()
        sent_s = self._clock.monotonic_s()
        self._revision = await bucket.create(NODE + self.node.id, encode_node(self.node))
        self._until_s = sent_s + LEASE_S

    async def leave(self) -> None:
        """Say that the node wants to hand everything over.

        Raises:
            as `take`.
        """
        self.node = msgspec.structs.replace(self.node, is_leaving=True)
        await self._renew()

    async def give_up(self) -> None:
        """Serve no more, and take the entry away."""
        self.lose()
        self._revision, revision = 0, self._revision
        if revision:
            with suppress(Agent99Error):  # then it runs out
                bucket = await self._book.bucket()
                await bucket.delete(NODE + self.node.id)

    async def keep(self) -> None:
        """Renew it, until cancelled or removed."""
        while self._revision:
            await self._clock.sleep(RENEW_S)
            try:
                await self._renew()
            except ClosedError:
                return
            except Agent99Error as error:
                _log.info("%r could not be renewed: %s", self, error)

    # --- inside -----------------------------------------------------------------------------------

    async def _renew(self) -> None:
        async with self._lock:
            if not self._revision:
                return
            bucket, key = await self._book.bucket(), NODE + self.node.id
            value, sent_s = encode_node(self.node), self._clock.monotonic_s()
            try:
                revision = await bucket.update(key, value, revision=self._revision)
            except WrongSequenceError:
                entry = await bucket.get(key)
                if entry is not None and decode_node(entry.value) is not None:
                    self._revision = entry.revision  # our own, whose receipt was lost
                    return
                self._revision = 0
                self.lose()
                _log.warning("node %s was removed by others", self.node.id)
                self._deposed()
            else:
                if self._revision:  # else it was given up meanwhile, and is valid no more
                    self._revision, self._until_s = revision, sent_s + LEASE_S
