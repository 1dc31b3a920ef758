"""What the connection tells of itself, to whoever listens."""

from __future__ import annotations

from agent99.observe import ConnectionChanged, Hooks, MessageDropped
from agent99.wire import ConnectionState, Wire


def observe_wire(wire: Wire, url: str, hooks: Hooks) -> None:
    """Tell the hooks of a connection's states and of what it drops; its present state at once.

    Args:
        url: Where it is, without a credential.
    """

    def tell_state(state: ConnectionState) -> None:
        if (tell := hooks.connection) is not None:
            tell(ConnectionChanged(state.value, url, wire.statistics().reconnects))

    def tell_drop(reason: str, count: int) -> None:
        if (tell := hooks.dropped) is not None:
            tell(MessageDropped(reason, count=count))

    tell_state(wire.state)
    wire.on_state(tell_state)
    wire.on_drop(tell_drop)
