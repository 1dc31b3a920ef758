"""Sends items to the nodes that have copies: what comes in one turn of the loop goes together."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextvars import Context
from enum import Enum
from functools import partial
from typing import TypeAlias

import msgspec

from agent99.errors import Agent99Error, NoAgentError
from agent99.systems.cache._item import Item
from agent99.systems.cache._options import COPY_S, PORTION_BYTES, WHOLE_BYTES
from agent99.systems.cache._parts import Parts
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


Sent: TypeAlias = tuple[Portion, asyncio.Future[Receipt]]


class Lane:
    """What goes to one node.

    A portion larger than a message has one item: its value goes ahead in parts, one value after
    the other.
    """

    def __init__(self, peers: Peers, parts: Parts, node: Node) -> None:
        self.node = node
        self._peers = peers
        self._parts = parts
        self._one_large = asyncio.Lock()
        self._waiting: list[Sent] = []
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
            sent, waiting = waiting[:count], waiting[count:]
            task = self._loop.create_task(self._send(sent))
            self._sending.add(task)
            task.add_done_callback(partial(self._sent, sent))

    def _sent(self, sent: Sequence[Sent], task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        for _, receipt in sent:  # what was closed before its first step has told nobody
            if not receipt.done():
                receipt.set_result(Receipt.SILENT)

    async def _send(self, sent: Sequence[Sent]) -> None:
        answer = Copied()
        whole = Receipt.SILENT
        try:
            copy = Copy(tuple([await self._fit(portion) for portion, _ in sent]))
            answer = await self._peers.ask(
                self.node, "copy", copy, returns=Copied, timeout_s=COPY_S
            )
        except NoAgentError:
            whole = Receipt.GONE
        except Agent99Error:
            pass
        else:
            whole = Receipt.THERE
        finally:
            for portion, receipt in sent:
                if receipt.done():
                    continue
                if portion.partition in answer.fenced:
                    receipt.set_result(Receipt.FENCED)
                elif portion.partition in answer.lacking:
                    receipt.set_result(Receipt.SILENT)
                else:
                    receipt.set_result(whole)

    async def _fit(self, portion: Portion) -> Portion:
        """Return a portion that fits into a message, once what does not has gone ahead."""
        if portion_bytes(portion) <= WHOLE_BYTES:
            return portion
        (item,) = portion.items
        async with self._one_large:
            upload = await self._parts.send(self.node, item.value, lambda: True, is_copy=True)
        if upload is None:
            # As if it had been evicted there: that node is smaller than this one.
            gone = Item(item.key, item.version, is_deleted=True)
            return msgspec.structs.replace(portion, items=(gone,))
        empty = msgspec.structs.replace(item, value=b"")
        return msgspec.structs.replace(portion, items=(empty,), upload=upload)


class Lanes:
    """One for each node."""

    def __init__(self, peers: Peers, parts: Parts) -> None:
        self._peers = peers
        self._parts = parts
        self._lanes: dict[str, Lane] = {}

    def __repr__(self) -> str:
        return f"Lanes({sorted(self._lanes)})"

    def to(self, node: Node) -> Lane:
        """Return the lane to a node."""
        lane = self._lanes.get(node.id)
        if lane is None:
            lane = self._lanes[node.id] = Lane(self._peers, self._parts, node)
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
    return sum(_item_bytes(item) for item in portion.items)


def pieces(portion: Portion) -> Iterator[Portion]:
    """Yield a portion in several that are no larger than one is to be, or have one item."""
    items = portion.items
    first = size = 0
    for index, item in enumerate(items):
        grown = size + _item_bytes(item)
        if grown > PORTION_BYTES and index > first:
            yield msgspec.structs.replace(portion, items=items[first:index])
            first, grown = index, _item_bytes(item)
        size = grown
    yield portion if first == 0 else msgspec.structs.replace(portion, items=items[first:])


def _item_bytes(item: Item) -> int:
    return len(item.key) + len(item.value) + 32
