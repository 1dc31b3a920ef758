"""Heads of the audit log, written down in the mesh: who rewrites the database cannot rewrite them.

Only who may write to the server's stream, which refuses to be thinned out, can.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from agent99.agent import Agent, link_of
from agent99.clock import Clock
from agent99.errors import StreamNotFoundError
from agent99.journal import StreamConfig
from agent99.systems.events._entry import Head

if TYPE_CHECKING:
    from agent99.agent import Mesh

EVERY_ENTRIES: Final = 100
EVERY_S: Final = 1.0
"""Seconds within which every entry is under an anchor."""
BYTES_MAX: Final = 1024**3
"""Of all anchors: some five million."""

_log = logging.getLogger("agent99.audit")


class Anchor(msgspec.Struct, frozen=True):
    """What is written down."""

    chain: str
    """The name of the chain: one that begins anew has another one."""
    number: Annotated[int, msgspec.Meta(ge=1)]
    hash: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    """Of that entry, in hexadecimal."""


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
        self._streams = link.durable.streams
        self._subject = link.subjects.anchors()
        self._config = StreamConfig(
            name=f"A99_{link.subjects.mesh}_AUDIT",
            subjects=(self._subject,),
            bytes_max=BYTES_MAX,
            replicas=self._streams.replicas,
            is_permanent=True,
        )

    def __repr__(self) -> str:
        return f"Anchors({self._config.name!r})"

    async def write(self, chain: str, head: Head) -> None:
        """Write the head of a chain down.

        Delivery: returned = stored (and replicated); the server refuses to delete one of them.
        """
        anchor = Anchor(chain, head.number, head.hash.hex())
        await self._streams.append(
            self._config.name,
            self._subject,
            _encode(anchor),
            message_id=f"{chain}-{anchor.number}-{anchor.hash}",
            ensure=partial(self._journal.ensure_stream, self._config),
        )

    async def read(self, chain: str) -> Mapping[int, bytes]:
        """Return what was written down of a chain, by number of entry; of two the first."""
        found: dict[int, bytes] = {}
        with suppress(StreamNotFoundError):  # nothing was written down yet
            async for record in self._journal.read(self._config.name, self._subject):
                try:
                    anchor = _decode(record.payload)
                except msgspec.MsgspecError:
                    _log.warning("message %d of %r is no anchor", record.sequence, self)
                    continue
                if anchor.chain == chain:
                    found.setdefault(anchor.number, bytes.fromhex(anchor.hash))
        return found


class Anchoring:
    """Writes the end of a chain down: every hundred entries, and each entry within a second.

    Invariant: what could not be written is written with the next head, a second later at most.

    Args:
        write: Writes a head down.
        read: Returns the end of the chain, which others may have moved, also who died then.
        clock: The source of time.
    """

    def __init__(
        self,
        write: Callable[[Head], Awaitable[None]],
        read: Callable[[], Awaitable[Head]],
        clock: Clock,
    ) -> None:
        self._write_down = write
        self._read = read
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
        try:
            self.note(await self._read())
            head = self._noted
            if head.number > self._written.number:
                await self._write_down(head)
                self._written = head
        except Exception as error:  # noqa: BLE001 - nobody awaits it: it must not end in silence
            _log.warning("%r goes on in a second: %s", self, error)
