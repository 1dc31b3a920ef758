"""How often stored work was really tried: the server counts deliveries, also what was given back.

What is delivered for the first time has not been tried, and most of it is done then: it costs
nothing. What comes again has a note in a bucket, written before its handler runs; a note that says
that an attempt began, and not how it ended, is all that a process leaves that dies of it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal

import msgspec

from agent99.envelope import Subjects
from agent99.errors import Agent99Error, StreamNotFoundError
from agent99.journal import Bucket, BucketConfig, Delivery, Entry, Journal

KEPT_S = 14 * 86_400.0
"""Longer than the longest wait between two attempts."""
_BYTES_MAX = 16 * 1024**2

End = Literal["failed", "unknown", "unknown, alone"]
"""Of the last attempt: it failed; or nobody knows, most likely since its process died; and whether
any other suspect ran beside it."""


class Tried(msgspec.Struct, frozen=True):
    """What is known of the attempts at one message."""

    times: int = 0
    end: End = "failed"

    def is_suspect(self, attempts_max: int) -> bool:
        """Tell whether its process may have died of it: it is to be tried alone then.

        At most one such attempt is in doubt by bad luck: what ran beside one that took the process
        along is tried alone the next time, and goes well.
        """
        return self.end != "failed" and (self.times > 1 or self.times + 1 >= attempts_max)

    def is_spent(self, attempts_max: int) -> bool:
        """Tell whether it had all its attempts, and nothing else can have ended the last."""
        return self.times >= attempts_max and self.end == "unknown, alone"


class _Note(msgspec.Struct, frozen=True):
    stored_us: int
    """Of the message: a stream that was made anew counts from 1 again."""
    tried: Tried


_NOTHING = Tried()
_ONCE = Tried(1, "unknown")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Note).decode


class Tries:
    """Keeps count of the attempts at the stored work of one mesh.

    Invariant: an attempt that is not a message's first is noted before its handler runs.
    """

    def __init__(self, journal: Journal, subjects: Subjects, *, replicas: int) -> None:
        self._journal = journal
        self._name = f"a99_{subjects.mesh}_tries"
        self._replicas = replicas
        self._bucket: Bucket | None = None
        self.alone = asyncio.Lock()
        """Whoever has it runs a suspect: of those only one at a time, in this process."""

    def __repr__(self) -> str:
        return f"Tries({self._name!r})"

    async def of(self, delivery: Delivery, key: str) -> Tried:
        """Return what is known of a message.

        Raises:
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        if delivery.attempt == 1:
            return _NOTHING
        entry = await self._get(key)
        if entry is None:
            return _ONCE
        try:
            note = _decode(entry.value)
        except msgspec.MsgspecError:
            return _ONCE
        return note.tried if note.stored_us == delivery.record.stored_us else _ONCE

    async def note(self, delivery: Delivery, key: str, tried: Tried) -> None:
        """Note what is known now.

        Raises:
            JournalError, DeadlineExceededError, TransportError, ClosedError
        """
        value = _encode(_Note(delivery.record.stored_us, tried))
        try:
            await (await self._open()).put(key, value)
        except StreamNotFoundError:
            self._bucket = None
            raise

    async def forget(self, key: str) -> None:
        """Drop the note of a message that has come to its end; it expires anyway."""
        with suppress(Agent99Error):
            await (await self._open()).delete(key)

    async def _get(self, key: str) -> Entry | None:
        try:
            return await (await self._open()).get(key)
        except StreamNotFoundError:  # it was deleted: what was in it is gone
            self._bucket = None
            return None

    async def _open(self) -> Bucket:
        if self._bucket is None:
            config = BucketConfig(
                name=self._name, ttl_s=KEPT_S, bytes_max=_BYTES_MAX, replicas=self._replicas
            )
            self._bucket = await self._journal.bucket(config)
        return self._bucket
