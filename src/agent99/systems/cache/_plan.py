"""Who is to have which partition: evenly by weight, with as few moves as there can be. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from agent99.systems.cache._placing import Placing, shares
from agent99.systems.cache._ring import Ring, point_of
from agent99.systems.cache._table import Node, Part


def plan(
    nodes: Sequence[Node], parts: Sequence[Part], replicas: int
) -> tuple[tuple[str, ...], ...]:
    """Return by partition who is to have it, the owner first; nobody where no node may get any.

    A node's share of the owners, and then of the copies, is what its weight says, rounded; between
    equal weights they differ by one at most. Who has a partition keeps it within its share. While
    nobody comes or goes, a plan is its own successor, however much of it is done. The same input
    gives the same output in every process, in whatever order the nodes stand.

    Args:
        replicas: Copies wanted besides the owner's; there are as many as the other nodes allow.
    """
    staying = sorted((node.id, node.weight) for node in nodes if not node.is_leaving)
    weights = dict(staying)
    if not weights:
        return ((),) * len(parts)
    ring = Ring()
    for node, weight in staying:
        ring.add(node, weight)
    orders = [tuple(ring.order(point_of(f"partition {number}"))) for number in range(len(parts))]
    owners = _owners(weights, parts, orders)
    copies = _copies(weights, parts, orders, owners, min(replicas, len(weights) - 1))
    return tuple((owner, *others) for owner, others in zip(owners, copies, strict=True))


def _owners(
    weights: dict[str, float], parts: Sequence[Part], orders: Sequence[tuple[str, ...]]
) -> list[str]:
    before = Counter(node for part in parts for node in part.goal[:1])
    bounds = dict.fromkeys(weights, len(parts))
    room = shares(len(parts), weights, bounds, before)
    placing = Placing(room, [""] * len(parts), wanted=1)
    # Of more than its share, an owner keeps the first: the same, however many it has handed over.
    placing.wish((part.owner,) for part in parts)
    placing.wish(part.goal[:1] for part in parts)
    placing.wish(part.replicas for part in parts)
    placing.fill(orders)
    return [owner for (owner,) in placing.placed]


def _copies(
    weights: dict[str, float],
    parts: Sequence[Part],
    orders: Sequence[tuple[str, ...]],
    owners: Sequence[str],
    wanted: int,
) -> list[list[str]]:
    before = Counter(node for part in parts for node in part.goal[1:])
    owned = Counter(owners)
    # Nobody has a copy of what it owns: of two nodes with very unequal weights, the small one has
    # a copy of everything that the large one owns.
    bounds = {node: len(parts) - owned[node] for node in weights}
    room = shares(wanted * len(parts), weights, bounds, before)
    placing = Placing(room, owners, wanted)
    holding = [(*part.replicas, part.owner) for part in parts]
    placing.wish(part.goal[1:] for part in parts)
    placing.wish(holding)
    # Who has it comes first here, too: if somebody must give up a copy, it is to be another one.
    placing.fill([(*held, *order) for held, order in zip(holding, orders, strict=True)])
    return placing.placed
