"""What is there while a mesh is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from agent99.agent._facilities import open_cache
from agent99.errors import ClosedError

if TYPE_CHECKING:
    from agent99.agent._caller import Caller
    from agent99.agent._link import Link
    from agent99.registry import Registry
    from agent99.systems.cache import Cache, Reads
    from agent99.work import Ledger, Quarantine

V = TypeVar("V")


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

    @overload
    async def cache(
        self,
        namespace: str = "default",
        *,
        compress: bool = False,
        near_s: float | None = None,
        reads: Reads = "owner",
    ) -> Cache[Any]: ...

    @overload
    async def cache(
        self,
        namespace: str,
        of: type[V],
        *,
        compress: bool = False,
        near_s: float | None = None,
        reads: Reads = "owner",
    ) -> Cache[V]: ...

    async def cache(
        self,
        namespace: str = "default",
        of: Any = Any,
        *,
        compress: bool = False,
        near_s: float | None = None,
        reads: Reads = "owner",
    ) -> Cache[Any]:
        """Return a namespace of the mesh's distributed cache.

        Args:
            namespace: Of its keys: the same key in another one is another key.
            of: The type of its values: what msgspec can read from JSON, `bytes`, `str`, or Any.
            compress: Whether values over 1,024 bytes travel, and are kept, compressed.
            near_s: Values that were read are held in this process, and given again for so long at
                most; None: each read asks a key's owner. See `Cache.reading`.
            reads: `any`: keys that many ask for are read from their copies, too.

        Raises:
            InvalidNameError: of the namespace.
            UsageError: values of that type cannot be read back; `near_s` or `reads` make no sense.
            ClosedError
        """
        return open_cache(
            self._open(), namespace, of, compress=compress, near_s=near_s, reads=reads
        )

    def _open(self) -> Link:
        if self._link is None:
            raise ClosedError("mesh")
        return self._link

    def _call(self) -> Caller:
        if self._caller is None:
            raise ClosedError("mesh")
        return self._caller
