"""How one node, or client, reaches another: by the agent's own instance."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol

from agent99 import Description, Peer, Target
from agent99.systems.cache._table import Node


class Asking(Protocol):
    """Whoever makes the requests: a connection's own caller, or an agent's."""

    def request(
        self,
        target: Target,
        operation: str,
        payload: Any,
        *,
        returns: Any,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Ask; see `Mesh.request`."""
        ...


class Peers:
    """The nodes of a table, as targets of requests; the registry need not know them yet."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._known: dict[str, Peer] = {}

    def __repr__(self) -> str:
        return f"Peers(known={len(self._known)})"

    def ask(
        self, node: Node, operation: str, payload: Any, *, returns: Any, timeout_s: float
    ) -> Coroutine[Any, Any, Any]:
        """Ask one node; see `Mesh.request` for the promise and the errors."""
        peer = self._known.get(node.id)
        if peer is None:
            who = Description(instance=node.instance, name=node.name)
            peer = self._known[node.id] = Peer(who, self._asking)
        how: dict[str, Any] = {"returns": returns, "timeout_s": timeout_s}
        return self._asking.request(peer, operation, payload, **how)

    def forget_others(self, nodes: tuple[Node, ...]) -> None:
        """Forget those that are not in a table any more."""
        there = {node.id for node in nodes}
        for gone in self._known.keys() - there:
            del self._known[gone]
