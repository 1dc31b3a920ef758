"""Heads of the audit log, written down in the mesh: who rewrites the database cannot rewrite them.

Only who may write to the server's stream, which refuses to be thinned out, can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Final

import msgspec

from agent99.agent import Agent, link_of
from agent99.clock import Clock
from agent99.errors import Agent99Error, StreamNotFoundError
from agent99.journal import StreamConfig
from agent99.systems.events._entry import Head

if TYPE_CHECKING:
    from agent99.agent import Mesh

EVERY_ENTRIES: Final = 100
EVERY_S: Final = 1.0
"""Seconds within which every entry is under an anchor."""
BYTES_MAX: Final = 1024**3
"""Of all anchors: some seven million."""

_log = logging.getLogger("agent99.audit")


class Anchor(msgspec.Struct, frozen=True):
    """The hash of an entry, in hexadecimal, and its number."""

    number: int
    hash: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Anchor).decode


class Anchors:
    """The anchors of one mesh's audit log. All methods raise what `Journal` raises.

    Args:
        of: The open mesh, or an agent that runs on it.
    """

    def __init__(self, of: Mesh | Agent) -> None:
        link = link_of(of) if isinstance(of, Agent) else of.link
        self._journal = link.journal
        self._subject = link.subjects.anchors()
        self._config = StreamConfig(
            name=f"A99_{link.subjects.mesh}_AUDIT",
            subjects=(self._subject,),
            bytes_max=BYTES_MAX,
            replicas=link.durable.streams.replicas,
        )

    def __repr__(self) -> str:
        return f"Anchors({self._config.name!r})"

    async def write(self, head: Head) -> None:
        """Write a head down.

        Delivery: returned = stored (and replicated); the server refuses to delete one of them.
        """
        anchor = Anchor(head.number, head.hash.hex())
        await self._journal.ensure_stream(self._config)
        await self._journal.append(
            self._subject, _encode(anchor), message_id=f"{anchor.number}-{anchor.hash}"
        )

    async def read(self) -> Mapping[int, bytes]:
        """Return what was written down, by number of entry; of two the first."""
        found: dict[int, bytes] = {}
        with suppress(StreamNotFoundError):  # nothing was written down yet
            async for record in self._journal.read(self._config.name, self._subject):
                anchor = _decode(record.payload)
                found.setdefault(anchor.number, bytes.fromhex(anchor.hash))
        return found


class Anchoring:
    """Writes heads down as they come: every hundred entries, and each within a second.

    Invariant: what could not be written is written with the next head, a second later at most.
    """

    def __init__(self, anchors: Anchors, clock: Clock) -> None:
        self._anchors = anchors
        self._clock = clock
        self._noted = self._written = Head()
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Anchoring(noted={self._noted.number}, written={self._written.number})"

    def note(self, head: Head) -> None:
        """Learn of a head; they come in any order."""
        if head.number > self._noted.number:
            self._noted = head
            if head.number - self._written.number >= EVERY_ENTRIES:
                self._due.set()

    def start(self) -> None:
        """Write from now on, until `stop`."""
        # Of no request: its task would share the deadline of whoever began it.
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), name="audit-anchors", context=Context())

    async def stop(self) -> None:
        """Write down what is not yet, and end. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            await self._write()

    async def _run(self) -> None:
        while True:
            timer = self._clock.call_later(EVERY_S, self._due.set)
            await self._due.wait()
            timer.cancel()
            self._due.clear()
            await self._write()

    async def _write(self) -> None:
        head = self._noted
        if head.number <= self._written.number:
            return
        try:
            await self._anchors.write(head)
        except Agent99Error as error:
            _log.warning("entry %d is not anchored yet: %s", head.number, error)
        else:
            self._written = head
