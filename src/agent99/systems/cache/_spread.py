"""Hot keys, as one client was told of them: whose turn it is to be asked. Pure.

A copy shows a change before its owner does, or later when it is not in sync any more. So that
nobody who reads here and there goes back in time, a client remembers of each hot key the latest
version that it was shown, and takes no older one from a copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from agent99.systems.cache._table import Part

Reads: TypeAlias = Literal["owner", "any"]
"""Who is asked: a key's owner alone; or, for hot keys, the copies in sync as well."""

HOT_S: Final = 2.0
"""A key is hot for so long since a node said so."""
HOT_MAX: Final = 1_024
"""Hot keys that are remembered: a node tells of ten at most at a time."""


class Spread:
    """Sends reads of hot keys to owner and copies in turn."""

    def __init__(self) -> None:
        self._hot: dict[str, _Hot] = {}

    def __repr__(self) -> str:
        return f"Spread(hot={sorted(self._hot)})"

    def heard(self, keys: Iterable[str], now_s: float) -> None:
        """Hear from a node that keys are hot."""
        for key in keys:
            hot = self._hot.get(key)
            if hot is None:
                if len(self._hot) >= HOT_MAX:
                    self._hot.clear()
                hot = self._hot[key] = _Hot()
            hot.until_s = now_s + HOT_S

    def is_hot(self, key: str) -> bool:
        """Tell whether a key was hot when it was last asked for."""
        return key in self._hot

    def turn(self, key: str, part: Part, now_s: float) -> str | None:
        """Return the id of the copy whose turn it is, or None: ask the owner."""
        hot = self._hot.get(key)
        if hot is None:
            return None
        if now_s >= hot.until_s:
            del self._hot[key]
            return None
        hot.turn = (hot.turn + 1) % (len(part.replicas) + 1)
        return part.replicas[hot.turn - 1] if hot.turn else None

    def accepts(self, key: str, version: int) -> bool:
        """Note a version that a node has; returns False if a later one was shown before."""
        hot = self._hot.get(key)
        if hot is None:
            return True
        if version < hot.version:
            return False
        hot.version = version
        return True


class _Hot:
    __slots__ = ("turn", "until_s", "version")

    def __init__(self) -> None:
        self.turn = 0
        self.until_s = 0.0
        self.version = 0
