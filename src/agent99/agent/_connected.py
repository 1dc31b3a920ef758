"""What is there while a mesh is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent99.errors import ClosedError

if TYPE_CHECKING:
    from agent99.agent._caller import Caller
    from agent99.agent._link import Link
    from agent99.registry import Registry
    from agent99.work import Ledger, Quarantine


class Connected:
    """The parts of an open mesh; each raises `ClosedError` when it is closed."""

    _link: Link | None = None
    _caller: Caller | None = None

    def __repr__(self) -> str:
        return f"Connected({self._link!r})"

    @property
    def link(self) -> Link:
        """The parts that the rooms above this one build on."""
        return self._open()

    @property
    def registry(self) -> Registry:
        """Who is there: this process's table of descriptions, and how to wait for a change."""
        return self._open().registry

    @property
    def quarantine(self) -> Quarantine:
        """What could not be done: to look at, to have done again, or to give up for good."""
        return self._open().durable.quarantine

    @property
    def ledger(self) -> Ledger:
        """What is stored, and how far those who work it off are: for operators."""
        return self._open().durable.ledger

    def _open(self) -> Link:
        if self._link is None:
            raise ClosedError("mesh")
        return self._link

    def _call(self) -> Caller:
        if self._caller is None:
            raise ClosedError("mesh")
        return self._caller
