"""What may happen to a table: each edit gives the next one, or the same if it does not fit. Pure.

Who edits reads the table, edits it and writes it by compare-and-set; if another was first, it reads
again. An edit that was overtaken names an epoch that is over, or a node that is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from msgspec.structs import replace

from agent99.systems.cache._plan import plan
from agent99.systems.cache._table import Node, Part, Table


def joined(table: Table, node: Node) -> Table:
    """Return the table with a node more, which is to get its share; known ones change nothing."""
    if _knows(table, node.id):
        return table
    return _planned(table, (*table.nodes, node), table.parts, table.replicas)


def leaving(table: Table, node: str) -> Table:
    """Return the table with a node that is to hand over all it has."""
    nodes = tuple(
        replace(each, is_leaving=True) if each.id == node else each for each in table.nodes
    )
    if nodes == table.nodes:
        return table
    return _planned(table, nodes, table.parts, table.replicas)


def gone(table: Table, ids: Collection[str]) -> Table:
    """Return the table without nodes that are dead, or have handed over what they had.

    Where one owned, the first copy in sync is promoted. Where there is none, what was in the
    partition is lost: it begins anew at the node that is to have it.
    """
    nodes = tuple(node for node in table.nodes if node.id not in ids)
    if nodes == table.nodes:
        return table
    parts = [_without(part, ids) for part in table.parts]
    return _planned(table, nodes, parts, table.replicas)


def resized(table: Table, replicas: int) -> Table:
    """Return the table with another number of wanted copies, 0..3."""
    if replicas == table.replicas:
        return table
    return _planned(table, table.nodes, table.parts, replicas)


def in_sync(table: Table, partition: int, epoch: int, node: str) -> Table:
    """Return the table with a node that has all that the partition's owner of that epoch has.

    Only that owner may say so, and it acknowledges no write any more that the node does not have.
    """
    part = table.parts[partition]
    is_new = node != part.owner and node not in part.replicas
    if part.epoch != epoch or not part.owner or not is_new or not _knows(table, node):
        return table
    return _with_part(table, partition, replace(part, replicas=(*part.replicas, node)))


def handed_over(table: Table, partition: int, epoch: int, to: str) -> Table:
    """Return the table with a copy in sync as the partition's owner, and its owner as a copy."""
    part = table.parts[partition]
    if part.epoch != epoch or to not in part.replicas:
        return table
    others = (node for node in part.replicas if node != to)
    replicas = (part.owner, *others)
    after = replace(part, epoch=epoch + 1, owner=to, replicas=replicas, is_anew=False)
    return _with_part(table, partition, after)


def dropped(table: Table, partition: int, epoch: int, node: str) -> Table:
    """Return the table with a node that is no copy of the partition any more."""
    part = table.parts[partition]
    if part.epoch != epoch or node not in part.replicas:
        return table
    others = tuple(each for each in part.replicas if each != node)
    return _with_part(table, partition, replace(part, replicas=others))


def _knows(table: Table, node: str) -> bool:
    return any(each.id == node for each in table.nodes)


def _with_part(table: Table, partition: int, part: Part) -> Table:
    parts = (*table.parts[:partition], _in_order(part), *table.parts[partition + 1 :])
    return replace(table, epoch=table.epoch + 1, parts=parts)


def _without(part: Part, ids: Collection[str]) -> Part:
    replicas = tuple(node for node in part.replicas if node not in ids)
    if part.owner not in ids:
        return replace(part, replicas=replicas)
    return replace(part, owner=(*replicas, "")[0], replicas=replicas[1:], is_anew=False)


def _planned(table: Table, nodes: tuple[Node, ...], parts: Sequence[Part], replicas: int) -> Table:
    """Return the next table: with these nodes, parts without those who are gone, and a plan."""
    goals = plan(nodes, parts, replicas)
    after = tuple(map(_settled, table.parts, parts, goals))
    lost = sum(
        bool(old.owner) and not new.owner for old, new in zip(table.parts, parts, strict=True)
    )
    return Table(table.epoch + 1, replicas, nodes, after, table.lost + lost)


def _settled(old: Part, part: Part, goal: tuple[str, ...]) -> Part:
    owner = part.owner or (*goal, "")[0]
    epoch = old.epoch + (owner != old.owner)
    # Not so where nobody ever had anything of it: the first table would be larger by half.
    begins = bool(owner and not part.owner and old.epoch)
    return _in_order(Part(epoch, owner, part.replicas, goal, begins or part.is_anew))


def _in_order(part: Part) -> Part:
    """Return the part with those first who are to keep their copy: of them one is promoted."""
    kept = tuple(node for node in part.goal if node in part.replicas)
    others = tuple(node for node in part.replicas if node not in part.goal)
    return replace(part, replicas=kept + others)
