"""What concerns many keys of a namespace at once: by a tag, by how they begin, or all of them.

It is done partition by partition: each by its owner of that moment, at least once, so that none is
missed though partitions move meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Literal
from zlib import crc32

import msgspec
from msgspec.structs import replace

from agent99.errors import DeadlineExceededError, NoAgentError
from agent99.systems.cache._client import AGAIN_S_MAX, ATTEMPT_S, MAY_PASS, NO_NODES, CacheClient
from agent99.systems.cache._owner import Owner
from agent99.systems.cache._stay import Stay
from agent99.systems.cache._table import PARTITIONS
from agent99.systems.cache._values import NOTHING
from agent99.systems.cache._words import Change, Status, Verb

BUCKETS = 64
"""Parts in which the keys of a partition are told: all may be too many for one message."""
KEYS_BYTES = 256 * 1024
"""Of keys in one answer, about."""
CHANGES_MAX = 1_000
"""Deleted in one go: whoever else asks has his turn in between."""

Action = Literal["delete_tagged", "delete", "count", "keys"]


class Sweep(msgspec.Struct, frozen=True):
    """Asks for something about the keys of some partitions."""

    action: Action
    namespace: str
    text: str = ""
    """A tag, or how the keys begin (without the namespace)."""
    bucket: int = -1
    """Of `keys`: only those of this part; -1: all."""
    partitions: tuple[int, ...] = tuple(range(PARTITIONS))
    epoch: int = 0
    """Of the table by which it was sent."""


class Swept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it."""

    done: tuple[int, ...]
    """The partitions in which it was done; ask others about the rest."""
    count: int = 0
    keys: tuple[str, ...] = ()
    cut: tuple[int, ...] = ()
    """Partitions whose keys are not told here: they are too many for one answer."""
    table: bytes = b""


async def sweep_here(stay: Stay, sweep: Sweep) -> Swept:
    """Do at a node what is asked for, in those of the partitions that it serves."""
    answer = _Answer()
    for partition in dict.fromkeys(sweep.partitions):
        if not 0 <= partition < PARTITIONS or stay.owner.serving(partition) is None:
            continue
        found = _found(stay, partition, sweep)
        if sweep.action in ("delete", "delete_tagged"):
            _end_leads(stay, partition, sweep)
            answer.deleted(partition, await _delete(stay.owner, partition, found, stay))
        else:
            answer.found(partition, found, sweep)
        await asyncio.sleep(0)  # a namespace may be large: others have their turn
    return answer.whole()


class _Answer:
    """What came of a sweep so far."""

    def __init__(self) -> None:
        self._done: list[int] = []
        self._cut: list[int] = []
        self._keys: list[str] = []
        self._count, self._room = 0, KEYS_BYTES

    def __repr__(self) -> str:
        return f"_Answer(done={len(self._done)}, count={self._count})"

    def deleted(self, partition: int, count: int | None) -> None:
        """So many keys were deleted; None: the partition is another's by now."""
        if count is not None:
            self._count += count
            self._done.append(partition)

    def found(self, partition: int, keys: list[str], sweep: Sweep) -> None:
        """These keys are there."""
        self._count += len(keys)
        self._done.append(partition)
        if sweep.action != "keys":
            return
        size = sum(map(len, keys))
        # A bucket is the smallest part: it is told whole, however large.
        if size > self._room and sweep.bucket < 0:
            self._cut.append(partition)
        else:
            self._keys += keys
            self._room -= size

    def whole(self) -> Swept:
        """Return all of it."""
        return Swept(tuple(self._done), self._count, tuple(self._keys), tuple(self._cut))


async def sweep_everywhere(client: CacheClient, wanted: Sweep, *, timeout_s: float) -> Swept:
    """Do something about all keys of a namespace, at all nodes; returned = done everywhere.

    Raises:
        NoAgentError: there are no nodes.
        DeadlineExceededError: some nodes have not answered; elsewhere it was done.
        HandlerError, BadAnswerError, TransportError, ClosedError
    """
    clock, left = client.clock, set(wanted.partitions)
    until_s = clock.monotonic_s() + timeout_s
    count, keys, cut = 0, list[str](), list[int]()
    while left:
        epoch = client.lookup.table.epoch
        asked = _by_owner(client, left)
        if not asked and client.has_nobody():
            raise NoAgentError(NO_NODES, reason="nobody")
        sweeps = [
            (node, replace(wanted, epoch=epoch, partitions=tuple(sorted(these))))
            for node, these in asked.items()
        ]
        ask, wait_s = client.peers.ask, max(min(until_s - clock.monotonic_s(), 5 * ATTEMPT_S), 0.01)
        answers = await asyncio.gather(
            *(
                ask(client.book.nodes[node], "sweep", sweep, returns=Swept, timeout_s=wait_s)
                for node, sweep in sweeps
            ),
            return_exceptions=True,
        )
        for answer in answers:
            if isinstance(answer, Swept):
                client.book.learn(answer.table)
                left.difference_update(answer.done)
                count += answer.count
                keys += answer.keys
                cut += answer.cut
            elif not isinstance(answer, MAY_PASS):
                raise answer
        if left:
            if clock.monotonic_s() >= until_s:
                raise DeadlineExceededError(f"{len(left)} of {PARTITIONS} partitions are not done")
            await client.book.wait_newer(epoch, AGAIN_S_MAX)
    return Swept((), count, tuple(keys), tuple(cut))


def _by_owner(client: CacheClient, partitions: Iterable[int]) -> dict[str, list[int]]:
    asked: dict[str, list[int]] = {}
    for partition in partitions:
        owner = client.lookup.part(partition).owner
        if owner in client.book.nodes:
            asked.setdefault(owner, []).append(partition)
    return asked


def _found(stay: Stay, partition: int, sweep: Sweep) -> list[str]:
    if sweep.action == "delete_tagged":
        return stay.store.tagged(partition, sweep.namespace, sweep.text)
    store, now_us = stay.store, stay.now_us()
    keys = store.prefixed(partition, f"{sweep.namespace}:{sweep.text}")
    if sweep.bucket >= 0:
        keys = [key for key in keys if bucket_of(key) == sweep.bucket]
    if sweep.action == "delete":
        return keys
    entries = ((key, store.peek(partition, key, now_us)) for key in keys)
    # Of what is known not to be there nothing is there, for whoever asks.
    return [key for key, entry in entries if entry is not None and entry.kind != NOTHING]


def _end_leads(stay: Stay, partition: int, sweep: Sweep) -> None:
    """Keep out what is computed now: it may be of before."""
    prefix, tag = f"{sweep.namespace}:", sweep.text
    if sweep.action == "delete":
        prefix, tag = prefix + sweep.text, ""
    stay.owner.holdings[partition].leads.end_where(
        lambda key, lead: key.startswith(prefix) and (not tag or tag in lead.tags)
    )


def bucket_of(key: str) -> int:
    """Return the part of its partition in which a full key is told."""
    return (crc32(key.encode()) >> 8) % BUCKETS


async def _delete(owner: Owner, partition: int, keys: list[str], stay: Stay) -> int | None:
    """Delete keys; returns how many were there, or None: the partition is another's by now."""
    deleted = 0
    for at in range(0, len(keys), CHANGES_MAX):
        changes = [(partition, Change(Verb.DELETE, key)) for key in keys[at : at + CHANGES_MAX]]
        outcomes = await owner.change(changes, stay.now_us())
        for outcome in outcomes:
            if outcome.status in (Status.MOVED, Status.UNKNOWN):
                return None
            deleted += outcome.status == Status.DONE
    return deleted
