"""`agent99 info`: what an agent says of itself, schemas included."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from agent99.agent import Mesh, Peer
from agent99.cli._find import find_capable, find_instance, find_named, nobody
from agent99.cli._join import join, run_async
from agent99.cli._ps import state_of, uptime_s
from agent99.cli._schema import fields_of
from agent99.cli._scope import Scope
from agent99.cli._show import compact, duration, print_json, tell
from agent99.registry import Description, OperationInfo


def info(
    scope: Scope,
    what: Annotated[
        str, typer.Argument(help="A name, a capability, or (the beginning of) an instance's UUID.")
    ],
) -> int:
    r"""Describe an agent: its operations and their JSON Schemas.

    \b
    agent99 info greeter
    agent99 info 3f2a91c0
    agent99 info calculator --json
    """
    return run_async(_info(scope, what))


async def _info(scope: Scope, what: str) -> int:
    async with join(scope) as mesh:
        peers = mesh.peers()
        found = find_named(peers, what) or find_capable(peers, what)
        if not found:
            one = find_instance(peers, what)
            found = [one] if one is not None else []
        if not found:
            raise nobody(peers, what, capabilities=True)
        if scope.json:
            print_json({"instances": [msgspec.to_builtins(p.description) for p in found]})
        else:
            for lines in _grouped(mesh, found):
                tell(lines)
        return 0


def _grouped(mesh: Mesh, found: list[Peer]) -> list[str]:
    """One text for the instances that say the same of themselves, apart from who and where."""
    groups: dict[str, list[Peer]] = {}
    for peer in found:
        groups.setdefault(_said(peer.description), []).append(peer)
    return [
        "\n".join((*_about(peers[0].description), *_where(mesh, peers)))
        for peers in groups.values()
    ]


def _said(about: Description) -> str:
    return compact(
        (about.name, about.version, about.description, about.capabilities, about.operations)
    )


def _about(about: Description) -> list[str]:
    lines = [f"{about.name} {about.version} ({about.kind})"]
    if about.description:
        lines.append(f"  {about.description}")
    lines.append(f"  capabilities: {', '.join(about.capabilities) or '-'}")
    if about.uses:
        lines.append(f"  uses: {', '.join(about.uses)}")
    if about.metadata:
        labels = ", ".join(f"{key}={value}" for key, value in sorted(about.metadata.items()))
        lines.append(f"  metadata: {labels}")
    lines.append("  operations:" if about.operations else "  operations: -")
    for operation in about.operations:
        lines += _operation(operation)
    return lines


def _operation(operation: OperationInfo) -> list[str]:
    mark = " (idempotent)" if operation.idempotent else ""
    lines = [f"    {operation.name}({_parameters(operation.request)}){mark}"]
    if operation.description:
        lines.append(f"      {operation.description}")
    lines.append(f"      request: {compact(operation.request)}")
    lines.append(f"      answer:  {compact(operation.answer)}")
    return lines


def _parameters(schema: dict[str, Any]) -> str:
    """Return the fields of a payload in short; those with a `?` may be left out."""
    fields = fields_of(schema) or {}
    return ", ".join(name if required else f"{name}?" for name, required in fields.items())


def _where(mesh: Mesh, peers: list[Peer]) -> list[str]:
    return [
        f"  instance {peer.instance}: {state_of(mesh, peer)},"
        f" up {duration(uptime_s(peer))}, {peer.description.host}/{peer.description.pid}"
        for peer in peers
    ]
