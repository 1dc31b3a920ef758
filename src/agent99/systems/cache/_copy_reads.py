"""A client's reads of hot keys: owner and copies are asked in turn, where that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from agent99.clock import Clock
from agent99.errors import Agent99Error
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._lanes import Lane, Wait
from agent99.systems.cache._lookup import Lookup
from agent99.systems.cache._peers import Peers
from agent99.systems.cache._spread import Spread
from agent99.systems.cache._table import Node
from agent99.systems.cache._words import Found, Hit, Read

ATTEMPT_S = 0.25
"""A copy that does not answer for so long is passed by: the owner is asked."""
BEHIND_MAX = 3
"""So often an owner is asked again that is behind what a copy has shown."""


class Client(Protocol):
    """Whose reads they are."""

    clock: Clock
    lookup: Lookup
    peers: Peers


class Ends(NamedTuple):
    """What becomes of a read."""

    start: Callable[[Any, Node, Sequence[Wait]], None]
    """A node is asked for a batch, by a coroutine function."""
    finish: Callable[[Wait, Hit | None, int], None]
    """It has an answer, given at the node's time; 0: which is not to be held near."""
    again: Callable[[Wait], None]
    """It is sent again, to the owner."""
    put_off: Callable[[list[Wait], Agent99Error, int], None]
    """It failed, by the table of an epoch."""
    gone: Callable[[], Agent99Error]
    """Why a batch that was cancelled will not be answered."""


class CopyReads:
    """Sends what may be read from copies, and sees that nothing older is shown than before."""

    def __init__(self, client: Client, ends: Ends) -> None:
        self._client = client
        self._ends = ends
        self._spread = Spread()
        self._lanes: dict[str, Lane] = {}

    def __repr__(self) -> str:
        return f"CopyReads({self._spread!r})"

    def heard(self, found: Found) -> None:
        """Note which keys a node says are hot."""
        if found.hot:
            self._spread.heard(found.hot, self._client.clock.monotonic_s())

    def is_hot(self, key: str) -> bool:
        """Tell whether a key was hot when it was last asked for."""
        return self._spread.is_hot(key)

    def takes(self, wait: Wait) -> bool:
        """Send a read to a copy if it is one's turn; else returns False: it is the owner's."""
        lookup = self._client.lookup
        part = lookup.part(partition_of(wait.key))
        turn = self._spread.turn(wait.key, part, self._client.clock.monotonic_s())
        node = None if turn is None else lookup.node(turn)
        if node is None:
            return False
        lane = self._lanes.get(node.id)
        if lane is None:
            send = partial(self._ends.start, self._ask, node)
            lane = self._lanes[node.id] = Lane(send)
        lane.add(wait)
        return True

    def is_behind(self, wait: Wait, hit: Hit | None) -> bool:
        """Tell whether an owner is to be asked again: it will have what a copy has shown."""
        is_old = hit is not None and not self._spread.accepts(wait.key, hit.version)
        return is_old and wait.tries < BEHIND_MAX

    def forget_others(self, there: Iterable[str]) -> None:
        """Forget nodes that are not there any more."""
        for gone in self._lanes.keys() - set(there):
            del self._lanes[gone]

    # --- inside -----------------------------------------------------------------------------------

    async def _ask(self, node: Node, batch: list[Wait]) -> None:
        """Ask a copy; what it has not, or not any more, the owner is asked for."""
        read = Read(self._client.lookup.table.epoch, tuple(wait.key for wait in batch))
        for wait in batch:
            wait.is_any = False  # if it is asked for again
        try:
            found: Found = await self._client.peers.ask(
                node, "read_copy", read, returns=Found, timeout_s=ATTEMPT_S
            )
        except asyncio.CancelledError:
            self._ends.put_off(batch, self._ends.gone(), read.epoch)
            return
        except Agent99Error as error:
            self._ends.put_off(batch, error, read.epoch)
            return
        self.heard(found)
        for index, wait in enumerate(batch):
            hit = found.hits[index] if index < len(found.hits) else None
            if hit is not None and self._spread.accepts(wait.key, hit.version):
                self._ends.finish(wait, hit, 0)
            else:
                self._ends.again(wait)
