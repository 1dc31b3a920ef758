"""What the table and the nodes' answers say together."""

from __future__ import annotations

import msgspec

from agent99.systems.cache._overview import overview, totals
from agent99.systems.cache._sample import Counts, NodeStats
from agent99.systems.cache._table import PARTITIONS, Node, Part, Table

A, B, C = (Node(f"{name}-id", "cache-node", name) for name in "abc")


def answer(name: str, **counts: int) -> NodeStats:
    """Return what a node says of itself."""
    return NodeStats(name, Counts(**counts), 10, 1_000, copies=5, memory_max=9_000, evictions=1)


def table(*parts: Part, nodes: tuple[Node, ...] = (A, B)) -> Table:
    """Return a table that begins with these parts; nobody has the others, nor is to."""
    return Table(7, 1, nodes, (*parts, *(Part(),) * (PARTITIONS - len(parts))), lost=2)


def test_who_has_what_he_is_to_have_is_ready() -> None:
    """Partitions that nobody has are counted, and concern no node."""
    parts = (Part(1, A.id, (B.id,), (A.id, B.id)), Part(1, B.id, (A.id,), (B.id, A.id)))
    found = overview(table(*parts), {"a": answer("a"), "b": answer("b")})
    assert ["ready", "ready"] == [node.state for node in found.nodes]
    assert [(1, 1, 0), (1, 1, 0)] == [(n.owned, n.copied, n.awaited) for n in found.nodes]
    assert (7, 1, 0, 2) == (found.epoch, found.replicas, found.moving, found.lost)
    assert PARTITIONS - 2 == found.unowned


def test_a_copy_that_is_missing_is_the_owners_work_and_the_receivers() -> None:
    """Both re-replicate; who has nothing to do with it is ready."""
    parts = (Part(1, A.id, (), (A.id, B.id)), Part(1, C.id, (), (C.id,)))
    names = {name: answer(name) for name in "abc"}
    found = overview(table(*parts, nodes=(A, B, C)), names)
    assert ["re-replicating", "re-replicating", "ready"] == [node.state for node in found.nodes]
    assert [0, 1, 0] == [node.awaited for node in found.nodes]
    assert 1 == found.moving


def test_who_leaves_who_is_silent_and_who_joins() -> None:
    """Silence counts most, since whoever is silent may have left; joining is not in the table."""
    leaving = msgspec.structs.replace(A, is_leaving=True)
    found = overview(table(nodes=(leaving, B)), {"a": answer("a"), "z": answer("z")})
    assert [("a", "leaving"), ("b", "silent"), ("z", "joining")] == [
        (node.instance, node.state) for node in found.nodes
    ]
    assert [True, False, True] == [node.stats is not None for node in found.nodes]


def test_sums_are_of_those_that_answered() -> None:
    """And the ratio of hits is none where nothing was asked for."""
    found = overview(table(), {"a": answer("a", gets=4, hits=3, misses=1, sets=2)})
    summed = totals(found)
    assert (2, 1, 10, 5) == (summed.nodes, summed.silent, summed.keys, summed.copies)
    assert (0.75, Counts(4, 2, 0, 3, 1)) == (summed.hit_ratio, summed.counts)
    assert (1_000, 9_000, 1, 0) == (
        *(summed.memory_bytes, summed.memory_max),
        *(summed.evictions, summed.expirations),
    )
    assert None is totals(overview(table(), {})).hit_ratio
