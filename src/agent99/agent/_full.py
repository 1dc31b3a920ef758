"""Which streams refuse what this process stores, so that its agents can say so."""

from __future__ import annotations

from collections.abc import Callable


class FullStreams:
    """The streams that are full, or whose disk is, as far as somebody here was refused.

    Invariant: a stream stands here from a refusal until it takes something again, or until the link
    to the server changes and nobody knows any more.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"FullStreams({', '.join(self.names)})"

    def note(self, stream: str, *, is_full: bool) -> None:
        """Note that a stream refused something, or took it."""
        if is_full != (stream in self.names):
            names = {*self.names, stream} if is_full else {*self.names} - {stream}
            self._set(names)

    def forget(self, _state: object = None) -> None:
        """The link changed: who is full now is not known."""
        if self.names:
            self._set(set())

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after each change; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _set(self, names: set[str]) -> None:
        self.names = tuple(sorted(names))
        for listener in tuple(self._listeners):
            listener()
