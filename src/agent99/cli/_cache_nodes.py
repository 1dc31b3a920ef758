"""`agent99 cache nodes` and `stats`: who holds the cache, and what it was asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from agent99.cli._exits import Exit
from agent99.cli._join import join, run_async
from agent99.cli._scope import Scope
from agent99.cli._show import count, print_json, print_table, short, size, tell

if TYPE_CHECKING:
    from agent99.systems.cache import NodeView, Overview

_COLUMNS: Final = (
    *("instance", "state", "weight", "owned", "copied", "keys", "copies", "memory", "budget"),
    *("gets", "hits", "sets"),
)
_NUMBERS: Final = frozenset(_COLUMNS) - {"instance", "state"}


def nodes(scope: Scope) -> int:
    r"""List the nodes of the cache, in the order in which they came.

    \b
    agent99 cache nodes
    agent99 cache nodes --json | jq '.nodes[] | select(.state != "ready")'

    OWNED and COPIED count partitions, of 256; KEYS and COPIES what is in them.
    """
    return run_async(_nodes(scope))


async def _nodes(scope: Scope) -> int:
    from agent99.systems.cache import look_at

    async with join(scope) as mesh:
        found = await look_at(mesh)
        if scope.json:
            print_json({"mesh": mesh.name, "url": mesh.url, **msgspec.to_builtins(found)})
            return Exit.OK
        where = f"on mesh {mesh.name!r} at {mesh.url}"
        if not found.nodes:
            tell(f"no cache nodes {where}")
            return Exit.OK
        print_table(_COLUMNS, [_row(node) for node in found.nodes], numbers=_NUMBERS)
        tell(f"{count(len(found.nodes), 'node')} {where}; {_under_way(found)}")
    return Exit.OK


def _row(node: NodeView) -> tuple[str, ...]:
    placed = (f"{node.weight:g}", f"{node.owned}", f"{node.copied}")
    if node.stats is None:
        return (short(node.instance), node.state, *placed, *("-",) * 7)
    held, counts = node.stats, node.stats.stats
    return (
        *(short(node.instance), node.state, *placed),
        *(f"{held.cache_size:,}", f"{held.copies:,}"),
        *(size(held.memory_usage), size(held.memory_max)),
        *(f"{counts.gets:,}", f"{counts.hits:,}", f"{counts.sets:,}"),
    )


def _under_way(found: Overview) -> str:
    words = [f"{count(found.replicas, 'copy', 'copies')} wanted"]
    if found.moving:
        words.append(f"{count(found.moving, 'partition')} on the way")
    if found.unowned:
        words.append(f"{count(found.unowned, 'partition')} without an owner")
    if found.lost:
        words.append(f"{count(found.lost, 'partition')} lost so far")
    return ", ".join(words)


def stats(scope: Scope) -> int:
    r"""Sum up the cache: keys, memory, hits, and what was lost.

    \b
    agent99 cache stats
    agent99 cache stats --json | jq .hit_ratio

    What nodes were asked is counted since each is there. What a process has kept near, it did not
    ask for.
    """
    return run_async(_stats(scope))


async def _stats(scope: Scope) -> int:
    from agent99.systems.cache import look_at

    async with join(scope) as mesh:
        document = _summary(await look_at(mesh))
        if scope.json:
            print_json({"mesh": mesh.name, "url": mesh.url, **document})
        elif document["nodes"]:
            print_table(("cache", "now"), _lines(document), numbers=frozenset({"now"}))
        else:
            tell(f"no cache nodes on mesh {mesh.name!r} at {mesh.url}")
    return Exit.OK


def _summary(found: Overview) -> dict[str, Any]:
    from agent99.systems.cache import totals

    document: dict[str, Any] = msgspec.to_builtins(totals(found))
    document.update(document.pop("counts"))
    partitions = {"unowned": found.unowned, "moving": found.moving, "lost": found.lost}
    return {**document, "epoch": found.epoch, "replicas": found.replicas, "partitions": partitions}


def _lines(document: dict[str, Any]) -> list[tuple[str, str]]:
    ratio, silent = document["hit_ratio"], document["silent"]
    partitions = document["partitions"]
    memory = f"{size(document['memory_bytes'])} of {size(document['memory_max'])}"
    unanswered = f" ({silent} silent)" if silent else ""
    names = ("gets", "hits", "misses", "sets", "deletes", "evictions", "expirations")
    return [
        ("nodes", f"{document['nodes']}{unanswered}"),
        ("keys", f"{document['keys']:,}"),
        ("copies of keys", f"{document['copies']:,}"),
        ("memory", memory),
        *((name, f"{document[name]:,}") for name in names),
        ("hit ratio", "-" if ratio is None else f"{ratio:.1%}"),
        ("copies wanted", f"{document['replicas']}"),
        ("partitions on the way", f"{partitions['moving']}"),
        ("partitions without an owner", f"{partitions['unowned']}"),
        ("partitions lost so far", f"{partitions['lost']}"),
        ("epoch of the table", f"{document['epoch']:,}"),
    ]
