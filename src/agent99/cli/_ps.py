"""`agent99 ps`: every instance on the mesh."""

from __future__ import annotations

from typing import Any

import msgspec

from agent99.agent import Mesh, Peer
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import (
    count,
    duration,
    print_json,
    print_table,
    short,
    tell,
    with_lacks,
)
from agent99.clock import SystemClock

_COLUMNS = ("agent", "instance", "state", "capabilities", "version", "uptime", "where")


def ps(scope: Scope) -> int:
    r"""Show every instance of every agent on the mesh.

    \b
    agent99 ps
    agent99 ps --json | jq '.instances[] | select(.state != "ready")'
    """
    return run_async(_ps(scope))


async def _ps(scope: Scope) -> int:
    async with join(scope) as mesh:
        peers = mesh.peers()
        if scope.json:
            instances = [_document(mesh, peer) for peer in peers]
            print_json({"mesh": mesh.name, "url": mesh.url, "instances": instances})
        elif not peers:
            tell(f"no agents on mesh {mesh.name!r} at {mesh.url}")
        else:
            print_table(_COLUMNS, [_row(mesh, peer) for peer in peers])
            names = {peer.name for peer in peers}
            many = f"{count(len(peers), 'instance')} of {count(len(names), 'agent')}"
            tell(f"{many} on mesh {mesh.name!r} at {mesh.url}")
        return 0


def uptime_s(peer: Peer) -> float:
    """Return the seconds since an instance started, by this machine's clock."""
    return (SystemClock().wall_us() - peer.description.started_us) / 1e6


def state_of(mesh: Mesh, peer: Peer) -> str:
    """Return an instance's state for people, with what it lacks."""
    about = peer.description
    state: str = about.state
    state = with_lacks(state, about.missing, about.full)
    if mesh.registry.table.is_suspect(peer.instance):
        state = f"{state}, suspect"
    return state


def _row(mesh: Mesh, peer: Peer) -> tuple[str, ...]:
    about = peer.description
    return (
        peer.name,
        short(peer.instance),
        state_of(mesh, peer),
        ", ".join(about.capabilities) or "-",
        about.version,
        duration(uptime_s(peer)),
        f"{about.host}/{about.pid}",
    )


def _document(mesh: Mesh, peer: Peer) -> dict[str, Any]:
    about = peer.description
    fields = ("name", "instance", "state", "missing", "full", "kind", "version", "capabilities")
    more = ("uses", "metadata", "host", "pid", "started_us")
    document = {field: getattr(about, field) for field in (*fields, *more)}
    document["operations"] = [operation.name for operation in about.operations]
    document["suspect"] = mesh.registry.table.is_suspect(peer.instance)
    document["uptime_s"] = round(max(0.0, uptime_s(peer)), 3)
    built: dict[str, Any] = msgspec.to_builtins(document)
    return built
