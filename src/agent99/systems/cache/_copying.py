"""Sends items to the nodes that have copies: what comes in one turn of the loop goes together."""

from __future__ import annotations

import asyncio
from contextvars import Context
from enum import Enum

from agent99.errors import Agent99Error, NoAgentError
from agent99.systems.cache._options import COPY_S, PORTION_BYTES
from agent99.systems.cache._peers import Peers
from agent99.systems.cache._table import Node
from agent99.systems.cache._words import Copied, Copy, Portion


class Receipt(Enum):
    """What became of a portion."""

    THERE = "there"
    FENCED = "fenced"
    """It knows a later owner of the partition, or has no copy of it."""
    GONE = "gone"
    """Nobody listens at that node."""
    SILENT = "silent"
    """It may be there, or not: send it again."""


class Lane:
    """What goes to one node."""

    def __init__(self, peers: Peers, node: Node) -> None:
        self.node = node
        self._peers = peers
        self._waiting: list[tuple[Portion, asyncio.Future[Receipt]]] = []
        self._loop = asyncio.get_running_loop()
        self._sending: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Lane({self.node.id!r}, sending={len(self._sending)})"

    def send(self, portion: Portion) -> asyncio.Future[Receipt]:
        """Send a portion with the next message; the future says what became of it."""
        receipt: asyncio.Future[Receipt] = self._loop.create_future()
        self._waiting.append((portion, receipt))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._flush, context=Context())  # no request's own deadline
        return receipt

    def close(self) -> None:
        """Send nothing more."""
        for task in self._sending:
            task.cancel()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        while waiting:
            size, count = 0, 0
            for portion, _ in waiting:
                size += portion_bytes(portion)
                if count and size > PORTION_BYTES:
                    break
                count += 1
            task = self._loop.create_task(self._send(waiting[:count]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            waiting = waiting[count:]

    async def _send(self, sent: list[tuple[Portion, asyncio.Future[Receipt]]]) -> None:
        copy = Copy(tuple(portion for portion, _ in sent))
        fenced: tuple[int, ...] = ()
        whole = Receipt.SILENT
        try:
            answer: Copied = await self._peers.ask(
                self.node, "copy", copy, returns=Copied, timeout_s=COPY_S
            )
        except NoAgentError:
            whole = Receipt.GONE
        except Agent99Error:
            pass
        else:
            whole, fenced = Receipt.THERE, answer.fenced
        finally:
            for portion, receipt in sent:
                if not receipt.done():
                    refused = portion.partition in fenced
                    receipt.set_result(Receipt.FENCED if refused else whole)


class Lanes:
    """One for each node."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._lanes: dict[str, Lane] = {}

    def __repr__(self) -> str:
        return f"Lanes({sorted(self._lanes)})"

    def to(self, node: Node) -> Lane:
        """Return the lane to a node."""
        lane = self._lanes.get(node.id)
        if lane is None:
            lane = self._lanes[node.id] = Lane(self._peers, node)
        return lane

    def forget_others(self, nodes: tuple[Node, ...]) -> None:
        """Close the lanes to those that are not in a table any more."""
        there = {node.id for node in nodes}
        for gone in self._lanes.keys() - there:
            self._lanes.pop(gone).close()

    def close(self) -> None:
        """Close all."""
        for lane in self._lanes.values():
            lane.close()


def portion_bytes(portion: Portion) -> int:
    """Return about what the items of a portion weigh."""
    return sum(len(item.key) + len(item.value) + 32 for item in portion.items)
