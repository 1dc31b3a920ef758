"""Whom a request is for: a capability (plain text), a name, or one instance."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol, TypeVar, overload

import msgspec

from agent99.dispatch import DEFAULT_OPERATION
from agent99.envelope import Name, parse_name
from agent99.registry import Description, Selection, Where, least_loaded
from agent99.registry import where as parse_where

T = TypeVar("T")


class Named(msgspec.Struct, frozen=True):
    """An agent by its name; any of its instances will do. Made by `named`."""

    name: Name


def named(name: str) -> Named:
    """Return the target that means an agent's name; a plain string is always a capability.

    Raises:
        InvalidNameError
    """
    return Named(parse_name("agent name", name))


class Pick(msgspec.Struct, frozen=True):
    """One instance of a capability, chosen by the caller at each request. Made by `pick`."""

    capability: Name
    by: Selection
    where: Where | None


def pick(capability: str, by: Selection | None = None, *, where: str | Where | None = None) -> Pick:
    """Return the target that means one instance of a capability, chosen here and not by the server.

    Args:
        by: `least_loaded()` (the default), `hash_of(key)` or `sticky(key)`.
        where: A filter over names, versions and labels: `region=eu, version>=2`.

    Raises:
        InvalidNameError: the capability breaks the grammar.
        InvalidFilterError: `where` breaks its grammar; says where.
    """
    name = parse_name("capability", capability)
    parsed = parse_where(where) if isinstance(where, str) else where
    return Pick(name, by if by is not None else least_loaded(), parsed)


class Asker(Protocol):
    """Whoever makes a peer's requests."""

    def request(
        self,
        target: Peer,
        operation: str,
        payload: Any,
        *,
        returns: Any,
        timeout_s: float,
        headers: Mapping[str, str] | None,
    ) -> Coroutine[Any, Any, Any]:
        """Ask one instance; see `Mesh.request`."""
        ...


class Peer:
    """One running instance that was discovered, and can be called."""

    __slots__ = ("_asker", "description")

    def __init__(self, description: Description, asker: Asker) -> None:
        self.description = description
        """What it says of itself."""
        self._asker = asker

    def __repr__(self) -> str:
        return f"Peer({self.name!r}, {self.instance!r}, {self.description.state})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peer) and other.instance == self.instance

    def __hash__(self) -> int:
        return hash(self.instance)

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.description.name

    @property
    def instance(self) -> str:
        """The instance's UUID."""
        return self.description.instance

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What it offers."""
        return self.description.capabilities

    @overload
    async def request(
        self,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: type[T],
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> T: ...

    @overload
    async def request(
        self,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> Any: ...

    async def request(
        self,
        operation: str = DEFAULT_OPERATION,
        payload: Any = None,
        *,
        returns: Any = Any,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask this very instance; see `Mesh.request` for the promise and the errors."""
        return await self._asker.request(
            self, operation, payload, returns=returns, timeout_s=timeout_s, headers=headers
        )


Target = str | Named | Pick | Peer
"""Plain text is a capability."""
