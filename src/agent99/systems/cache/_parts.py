"""Values that are too large for one message: sent, and read, in parts of 256 KiB.

What is sent is staged where it goes to, and the message that follows names it. So a change, or what
a copy is told, is whole or is not there. What is read is read at one version: where that has
changed meanwhile, it is read from the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from agent99.clock import Clock
from agent99.errors import Failure, RequestCancelledError
from agent99.systems.cache._options import WHOLE_BYTES
from agent99.systems.cache._peers import Peers
from agent99.systems.cache._resolve import TOO_LARGE
from agent99.systems.cache._staging import PartOf, Verdict, cut, parts_of
from agent99.systems.cache._table import Node
from agent99.systems.cache._words import Write

WINDOW = 4
"""Parts on their way at once."""
PART_S = 1.5
"""A part that is not answered for so long is lost: all of them are sent again, or read again."""
BUSY_S = 0.05
"""Before it is tried again to send to a node that has no room for another value now."""


class Staged(msgspec.Struct, frozen=True):
    """What became of a part."""

    verdict: int


class ReadPart(msgspec.Struct, frozen=True):
    """Asks for one part of a value."""

    key: str
    version: int
    """At which it is wanted, and no other."""
    index: int


class Wanted(NamedTuple):
    """A value that is too large for a message, as an owner has told of it."""

    key: str
    version: int
    size: int
    """In bytes."""


class Slice(msgspec.Struct, frozen=True, omit_defaults=True):
    """One part of a value."""

    data: bytes | None = None
    """None: the key is not at that version (any more), or not of that node."""


def is_large(write: Write) -> bool:
    """Whether the value of a message's only change is to be sent ahead of it."""
    return len(write.changes) == 1 and len(write.changes[0].value) > WHOLE_BYTES


class Parts:
    """Sends values to nodes, and reads them from there.

    Args:
        make_id: Makes names of uploads, which nobody else makes.
    """

    def __init__(self, peers: Peers, clock: Clock, make_id: Callable[[], str]) -> None:
        self._peers = peers
        self._clock = clock
        self._make_id = make_id

    def __repr__(self) -> str:
        return f"Parts({self._peers!r})"

    async def ahead(self, node: Node, write: Write, is_wanted: Callable[[], bool]) -> Write:
        """Send the value of a message's only change; returns what is to be sent after it.

        Raises:
            Failure: VALUE_TOO_LARGE, the node can never take it.
            RequestCancelledError: it is not wanted any more; the change must not be made.
            as `send`
        """
        (change,) = write.changes
        upload = await self.send(node, change.value, is_wanted)
        if not is_wanted():
            raise RequestCancelledError("nobody waits for it any more")
        if upload is None:
            raise Failure("the value is larger than its node takes", code=TOO_LARGE)
        return replace(write, changes=(replace(change, value=b""),), upload=upload)

    async def send(
        self, node: Node, value: bytes, is_wanted: Callable[[], bool], *, is_copy: bool = False
    ) -> str | None:
        """Have a node stage a value; returns its name, or None: the node can never take it.

        Args:
            is_wanted: Asked while the node has no room: whether to try on. If not, None is
                returned, too.

        Raises:
            as `Peers.ask`: the node has not all of it.
        """
        while True:
            upload = self._make_id()
            verdict = await self._send(node, upload, value, is_copy=is_copy)
            if verdict is Verdict.THERE:
                return upload
            if verdict is not Verdict.BUSY or not is_wanted():
                return None
            await self._clock.sleep(BUSY_S)

    async def read(self, node: Node, wanted: Wanted, is_wanted: Callable[[], bool]) -> bytes | None:
        """Return a value at a version, or None: it is there no more, or not wanted any more.

        Raises:
            as `Peers.ask`
        """
        found: list[bytes] = []
        count = parts_of(wanted.size)
        for first in range(0, count, WINDOW):
            if not is_wanted():
                return None
            indexes = range(first, min(first + WINDOW, count))
            asked = (ReadPart(wanted.key, wanted.version, index) for index in indexes)
            slices: list[Slice] = await asyncio.gather(
                *(
                    self._peers.ask(node, "read_part", one, returns=Slice, timeout_s=PART_S)
                    for one in asked
                )
            )
            for one in slices:
                if one.data is None:
                    return None
                found.append(one.data)
        value = b"".join(found)
        return value if len(value) == wanted.size else None

    # --- inside -----------------------------------------------------------------------------------

    async def _send(self, node: Node, upload: str, value: bytes, *, is_copy: bool) -> Verdict:
        """Send all parts: the first one alone, since it takes the room for all."""
        size, count = len(value), parts_of(len(value))
        first, width = 0, 1
        while first < count:
            sent = (
                PartOf(upload, index, size, cut(value, index), is_copy)
                for index in range(first, min(first + width, count))
            )
            answers: list[Staged] = await asyncio.gather(
                *(
                    self._peers.ask(node, "stage", part, returns=Staged, timeout_s=PART_S)
                    for part in sent
                )
            )
            worst = max(answer.verdict for answer in answers)
            if worst:
                return Verdict(worst) if worst in _VERDICTS else Verdict.WRONG
            first, width = first + width, WINDOW
        return Verdict.THERE


_VERDICTS = frozenset(Verdict)
