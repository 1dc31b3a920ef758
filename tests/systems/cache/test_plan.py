"""The plan: even by weight, the fewest moves, settled once it is made, the same everywhere."""

from __future__ import annotations

from collections import Counter
from zlib import crc32

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agent99.systems.cache._placing import Placing, shares
from agent99.systems.cache._plan import plan
from agent99.systems.cache._table import PARTITIONS, REPLICAS_MAX, Node, Part

_IDS = "abcdefgh"
_WEIGHTS = st.sampled_from([1 / 16, 0.5, 1.0, 1.0, 1.0, 4.0])
_REPLICAS = st.integers(0, REPLICAS_MAX)


def node(name: str, weight: float = 1.0, *, is_leaving: bool = False) -> Node:
    """Return a node with this id."""
    return Node(name, "cache-node", f"instance-{name}", weight, is_leaving)


def equal(count: int) -> list[Node]:
    """Return so many nodes of weight 1."""
    return [node(name) for name in "abcdefghijklmnopqrstuvwxyz"[:count]]


def done(nodes: list[Node], parts: list[Part], replicas: int) -> list[Part]:
    """Return the parts when the plan for them has been carried out."""
    goals = plan(nodes, parts, replicas)
    return [Part(1, (*goal, "")[0], goal[1:], goal) for goal in goals]


@st.composite
def _parts(draw: st.DrawFn) -> list[Part]:
    """Any state of things: by few of its kinds, since 256 are too many to draw each."""
    several = st.lists(st.sampled_from(_IDS), max_size=4, unique=True).map(tuple)
    kinds: list[Part] = []
    for holders, goal in draw(st.lists(st.tuples(several, several), min_size=1, max_size=8)):
        kinds.append(Part(1, holders[0], holders[1:], goal) if holders else Part(goal=goal))
    return [kinds[crc32(b"%d" % number) % len(kinds)] for number in range(PARTITIONS)]


_NODES = st.builds(
    lambda weights, leaving: [
        node(name, weight, is_leaving=name in leaving) for name, weight in weights.items()
    ],
    st.dictionaries(st.sampled_from(_IDS), _WEIGHTS, max_size=6),
    st.sets(st.sampled_from(_IDS), max_size=2),
)


@settings(max_examples=20, deadline=None)
@given(_NODES, _parts(), _REPLICAS)
def test_gives_each_its_share_from_any_state(
    nodes: list[Node], parts: list[Part], replicas: int
) -> None:
    """Whoever had what: owners by weight, copies on other nodes, and nothing for who leaves."""
    goals = plan(nodes, parts, replicas)
    staying = {each.id: each.weight for each in nodes if not each.is_leaving}
    if not staying:
        assert goals == ((),) * PARTITIONS
        return
    wanted = 1 + min(replicas, len(staying) - 1)
    assert {(wanted, wanted)} == {(len(goal), len(set(goal))) for goal in goals}
    assert set(staying) >= {name for goal in goals for name in goal}
    owned = Counter(goal[0] for goal in goals)
    for name, weight in staying.items():
        assert abs(owned[name] - PARTITIONS * weight / sum(staying.values())) < 1


@settings(max_examples=20, deadline=None)
@given(_NODES, _parts(), _REPLICAS)
def test_is_settled_and_the_same_everywhere(
    nodes: list[Node], parts: list[Part], replicas: int
) -> None:
    """A plan is its own successor, begun or done, and the order of the nodes does not count."""
    goals = plan(nodes, parts, replicas)
    assert goals == plan(nodes[::-1], parts, replicas)
    begun = [replace(part, goal=goal) for part, goal in zip(parts, goals, strict=True)]
    assert goals == plan(nodes, begun, replicas)
    after = [Part(1, goal[0], goal[1:], goal) if goal else Part() for goal in goals]
    assert goals == plan(nodes, after, replicas)


@settings(max_examples=20, deadline=None)
@given(_NODES, _parts())
def test_takes_from_an_owner_only_what_is_beyond_its_share(
    nodes: list[Node], parts: list[Part]
) -> None:
    """Who owns no more than its share keeps all of it, and who owns more keeps its share."""
    goals = plan(nodes, parts, 0)
    shared = Counter(goal[0] for goal in goals if goal)
    owned = Counter(part.owner for part in parts)
    kept = Counter(
        part.owner for part, goal in zip(parts, goals, strict=True) if goal == (part.owner,)
    )
    for each in nodes:
        assert min(owned[each.id], shared[each.id]) == kept[each.id]


@pytest.mark.parametrize("replicas", range(REPLICAS_MAX + 1))
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 20])
def test_who_joins_takes_its_share_alone(count: int, replicas: int) -> None:
    """Among equals, owners and copies move to the newcomer only, and no more than its share."""
    before = done(equal(count), [Part()] * PARTITIONS, replicas)
    nodes = equal(count + 1)
    goals = plan(nodes, before, replicas)
    new = nodes[-1].id
    moved = 0
    for part, goal in zip(before, goals, strict=True):
        assert {new} >= set(goal) - {part.owner, *part.replicas}
        moved += goal[0] != part.owner
    assert PARTITIONS // (count + 1) <= moved <= -(-PARTITIONS // (count + 1))


@pytest.mark.parametrize("replicas", range(REPLICAS_MAX + 1))
@pytest.mark.parametrize("count", [2, 3, 4, 5, 9, 20])
def test_who_leaves_gives_up_its_share_alone(count: int, replicas: int) -> None:
    """Among equals, an owner changes only where the one who leaves was the owner."""
    before = done(equal(count), [Part()] * PARTITIONS, replicas)
    nodes = [node("a", is_leaving=True), *equal(count)[1:]]
    goals = plan(nodes, before, replicas)
    assert {"a"} >= {
        part.owner for part, goal in zip(before, goals, strict=True) if part.owner != goal[0]
    }


@pytest.mark.parametrize("replicas", range(REPLICAS_MAX + 1))
def test_shares_between_equals_differ_by_one_at_most(replicas: int) -> None:
    """However nodes come and go, equal nodes own as many, and have as many copies."""
    parts = [Part()] * PARTITIONS
    for names in ("a", "ab", "abcd", "bcd", "bcdefgh", "befgh", "bh"):
        parts = done([node(name) for name in names], parts, replicas)
        owned = Counter(part.owner for part in parts)
        copies = Counter(name for part in parts for name in part.replicas)
        for counts in (owned, copies):
            each = [counts[name] for name in names]
            assert max(each) - min(each) <= 1


def test_who_leaves_is_followed_by_its_copies_as_far_as_they_have_room() -> None:
    """A copy that becomes the owner needs nothing sent: what is left over goes elsewhere."""
    before = done(equal(4), [Part()] * PARTITIONS, 1)
    goals = plan([node("a", is_leaving=True), *equal(4)[1:]], before, 1)
    owned = [part.owner for part in before]
    room = Counter(goal[0] for goal in goals) - Counter(owned)
    left = [(part, goal) for part, goal in zip(before, goals, strict=True) if part.owner == "a"]
    copies = Counter(part.replicas[0] for part, _ in left)
    assert sum((room & copies).values()) == sum(goal[0] in part.replicas for part, goal in left)


def test_a_node_has_room_for_the_copies_that_it_has_before_others() -> None:
    """Who has more copies than its share, and no goal says so, gets none that it has not."""
    owners = [part.owner for part in done(equal(4), [Part()] * PARTITIONS, 0)]
    half = PARTITIONS // 2
    parts = [Part(1, owner) for owner in owners[:half]]
    parts += [Part(1, owner, ("a",) if owner != "a" else ()) for owner in owners[half:]]
    goals = plan(equal(4), parts, 1)
    assert all(goal[1] != "a" for goal in goals[:half])
    assert PARTITIONS // 4 == sum(goal[1] == "a" for goal in goals[half:])


def test_a_plan_under_way_stands_whoever_made_it() -> None:
    """Goals that give each its share are kept, even if they are others than would be made now."""
    parts = [Part(1, "a")] * PARTITIONS
    exchanged = {"a": "a", "b": "c", "c": "b"}
    goals = [tuple(exchanged[name] for name in goal) for goal in plan(equal(3), parts, 0)]
    begun = [Part(1, "a", (), goal) for goal in goals]
    assert goals == list(plan(equal(3), begun, 0))


def test_a_fifth_node_moves_a_fifth() -> None:
    """From four equal nodes to five, a fifth of the owners moves, and 2 % more at most."""
    before = done(equal(4), [Part()] * PARTITIONS, 1)
    goals = plan(equal(5), before, 1)
    moved = sum(part.owner != goal[0] for part, goal in zip(before, goals, strict=True))
    assert moved / PARTITIONS <= 1 / 5 + 0.02


def test_is_the_same_in_every_process_and_release() -> None:
    """Two versions of this code in one cache must agree: the plan of a known state is known."""
    parts = done(equal(4), [Part()] * PARTITIONS, 2)
    goals = plan([*equal(3), node("x", 2.0), node("y", 0.5)], parts, 2)
    assert 280973992 == crc32(repr(goals).encode())


@given(
    st.dictionaries(st.sampled_from(_IDS), st.tuples(_WEIGHTS, st.integers(0, 300)), min_size=1),
    st.integers(0, 600),
)
@example({"a": (1.0, 0), "b": (1.0, 0)}, 0)
def test_shares_are_all_given_out_within_the_bounds(
    nodes: dict[str, tuple[float, int]], total: int
) -> None:
    """As much as there is room for; less than its weight's share only who is at its bound."""
    weights = {name: weight for name, (weight, _) in nodes.items()}
    bounds = {name: bound for name, (_, bound) in nodes.items()}
    total = min(total, sum(bounds.values()))
    result = shares(total, weights, bounds, Counter())
    assert total == sum(result.values())
    for name, share in result.items():
        assert 0 <= share <= bounds[name]
        assert share == bounds[name] or share > total * weights[name] / sum(weights.values()) - 1


def test_equal_remainders_go_to_who_had_most() -> None:
    """A share that might be rounded up for either is so for the one that gives up more if not."""
    weights, bounds = {"a": 1.0, "b": 1.0}, {"a": 9, "b": 9}
    assert {"a": 3, "b": 2} == shares(5, weights, bounds, Counter(a=1))
    assert {"a": 2, "b": 3} == shares(5, weights, bounds, Counter(b=1))


def test_others_move_along_where_the_only_room_is_barred() -> None:
    """A partition that may not go where is room pushes another one there, and no more than that."""
    placing = Placing({"a": 1, "b": 1, "c": 1}, barred=["", "", "c"], wanted=1)
    placing.wish([("a",), ("b",)])
    placing.fill(["abc", "abc", "cba"])
    assert [["a"], ["c"], ["b"]] == placing.placed
