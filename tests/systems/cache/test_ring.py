"""The ring: all nodes from any point, the same everywhere; who comes or goes moves alone."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.systems.cache._ring import PLACES, Ring, point_of

_NODES = st.dictionaries(
    st.sampled_from("abcdefgh"), st.sampled_from([0.001, 0.25, 1.0, 2.0]), max_size=6
)
_POINTS = st.integers(0, 2**64 - 1)
_MANY = [point_of(f"point {number}") for number in range(2_000)]


def ring_of(nodes: dict[str, float]) -> Ring:
    """Return a ring with these nodes."""
    ring = Ring()
    for node, weight in nodes.items():
        ring.add(node, weight)
    return ring


def naive_order(nodes: dict[str, float], point: int) -> list[str]:
    """Return the nodes by the distance of the place that is next from the point."""
    distances = {
        node: min(
            (point_of(f"{node}#{number}") - point) % 2**64
            for number in range(max(1, round(PLACES * weight)))
        )
        for node, weight in nodes.items()
    }
    return sorted(nodes, key=lambda node: distances[node])


@settings(max_examples=50)
@given(_NODES, _POINTS)
def test_orders_nodes_by_their_next_place(nodes: dict[str, float], point: int) -> None:
    """From a point on come all nodes, once each, as the next places of each do."""
    assert naive_order(nodes, point) == list(ring_of(nodes).order(point))


@settings(max_examples=50)
@given(_NODES, st.sampled_from("abcdefgh"), _POINTS)
def test_who_goes_or_comes_changes_no_other_place(
    nodes: dict[str, float], node: str, point: int
) -> None:
    """Without a node, the others stand in the order that they have with it; it may come back."""
    ring = ring_of(nodes)
    ring.add(node)
    whole = list(ring.order(point))
    ring.remove(node)
    assert [each for each in whole if each != node] == list(ring.order(point))
    ring.add(node)
    assert whole == list(ring.order(point))


def test_weight_is_a_share() -> None:
    """Who has three times the weight of another is first from about three points in four."""
    ring = ring_of({"a": 1.0, "b": 3.0})
    firsts = Counter(next(ring.order(point)) for point in _MANY)
    assert 0.68 < firsts["b"] / len(_MANY) < 0.82


def test_a_node_may_change_its_weight() -> None:
    """Who is added again has the places of its new weight alone."""
    ring = ring_of({"a": 4.0, "b": 1.0})
    ring.add("a", 1.0)
    equal = ring_of({"a": 1.0, "b": 1.0})
    assert [list(equal.order(point)) for point in _MANY] == [
        list(ring.order(point)) for point in _MANY
    ]


def test_points_are_the_same_everywhere() -> None:
    """A text's point is that of every other process: known values."""
    assert {"": 0xE4A6A0577479B2B4, "a#0": 0xAB60D3F47D8EBE19} == {
        text: point_of(text) for text in ("", "a#0")
    }
