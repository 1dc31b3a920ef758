"""A queue out of which anything can be taken: the oldest first, or what is not wanted any more."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

import msgspec

UNLINKED: Final[Any] = None
"""What a link points to before it is linked, and after."""
NEVER: Final = -1
"""`moved` of what was not touched since it was pushed."""


class Link(msgspec.Struct, gc=False, eq=False, kw_only=True):
    """A key's place in a queue.

    The garbage collector does not look at links, so that a million of them make no pause. So a
    cycle of them is never freed by itself: who removes one sets its neighbours to `UNLINKED`.
    """

    key: str
    before: Link = UNLINKED
    """The next older one."""
    after: Link = UNLINKED
    """The next younger one."""
    moved: int = NEVER
    """When it was last touched, by its queue's clock, which counts pushes."""
    size: int = 0
    """What it counts, in bytes."""


class _Root(Link, gc=True):
    """Where a queue begins and ends: the ring of an empty one is freed with it."""


LinkT = TypeVar("LinkT", bound=Link)


class Fifo(Generic[LinkT]):
    """Links from the oldest to the youngest.

    Invariant: the ring holds `len` links besides the root, and `bytes` is the sum of their sizes.
    """

    __slots__ = ("_count", "_root", "bytes", "settled")

    def __init__(self) -> None:
        self.bytes = 0
        """What the links count."""
        self.settled = NEVER
        """What moved before this is to be touched when it is read: here nothing is."""
        self._count = 0
        self._root: Link = _Root(key="")
        root = self._root
        root.before = root.after = root

    def __repr__(self) -> str:
        return f"<Fifo {self._count:,} links, {self.bytes:,} bytes>"

    def __len__(self) -> int:
        return self._count

    def push(self, link: LinkT) -> None:
        """Take one in, as the youngest."""
        root = self._root
        youngest = root.before
        link.before = youngest
        link.after = root
        youngest.after = root.before = link
        self._count += 1
        self.bytes += link.size

    def remove(self, link: LinkT) -> None:
        """Take out one that is in this queue."""
        before, after = link.before, link.after
        before.after = after
        after.before = before
        link.before = link.after = UNLINKED
        self._count -= 1
        self.bytes -= link.size

    def touch(self, link: LinkT) -> None:
        """Note that one was read: it stays where it is."""

    def resize(self, link: LinkT, size: int) -> None:
        """Give one that is in this queue another size."""
        self.bytes += size - link.size
        link.size = size

    def choose(self, spared: LinkT | None = None) -> LinkT | None:
        """Return who must go next, the oldest; it stays in until it is removed.

        Args:
            spared: One that must not go, since it is being written.

        Returns:
            None if there is none, or only the spared one.
        """
        oldest = self._root.after
        if oldest is spared:
            oldest = oldest.after
        return None if oldest is self._root else oldest  # type: ignore[return-value]  # no other
