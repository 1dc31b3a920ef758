"""Who owns which partition: even, with the fewest moves, the same everywhere."""

from __future__ import annotations

from collections import Counter
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.groups._assignment import NOBODY, assign

_MEMBERS = st.lists(st.sampled_from("abcdefghij"), max_size=8, unique=True)
_OWNERS = st.lists(st.sampled_from(["", *"abcdefghij"]), max_size=64)


def moves(before: list[str] | tuple[str, ...], after: tuple[str, ...], members: set[str]) -> int:
    """Return how many partitions are taken from somebody who is still there."""
    return sum(old in members and old != new for old, new in zip(before, after, strict=True))


def is_even(owners: tuple[str, ...], members: set[str]) -> bool:
    """Tell whether the shares differ by one at most, and nothing is left over."""
    counts = Counter(owners)
    shares = [counts[member] for member in members]
    return set(counts) <= members and max(shares) - min(shares) <= 1


@given(_MEMBERS, _OWNERS)
def test_is_even_and_the_same_everywhere(members: list[str], owners: list[str]) -> None:
    """The shares differ by one at most, whoever owned what; the order of members does not count."""
    result = assign(members, owners)
    assert len(owners) == len(result)
    if members and owners:
        assert is_even(result, set(members))
    else:
        assert {NOBODY} >= set(result)
    assert result == assign(members[::-1], owners)


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from(["", *"abcd"]), max_size=6),
)
def test_moves_the_fewest(members: list[str], owners: list[str]) -> None:
    """No assignment that is as even takes fewer partitions from members: all are tried."""
    there = set(members)
    every = (each for each in product(members, repeat=len(owners)) if is_even(each, there))
    fewest = min(moves(owners, each, there) for each in every)
    assert fewest == moves(owners, assign(members, owners), there)


@given(_MEMBERS, _OWNERS)
def test_is_settled(members: list[str], owners: list[str]) -> None:
    """An assignment is its own successor while nobody comes or goes."""
    result = assign(members, owners)
    assert result == assign(members, result)


@given(_MEMBERS.filter(bool), st.integers(1, 64), st.sampled_from("klm"))
def test_who_comes_takes_his_share_alone(members: list[str], count: int, new: str) -> None:
    """When one member joins, nothing moves but what he is given."""
    before = assign(members, [NOBODY] * count)
    after = assign([*members, new], before)
    assert {new} >= {to for old, to in zip(before, after, strict=True) if old != to}


@given(_MEMBERS.filter(lambda members: len(members) > 1), st.integers(1, 64))
def test_who_goes_leaves_his_share_alone(members: list[str], count: int) -> None:
    """When one member goes, nothing moves but what he owned."""
    before = assign(members, [NOBODY] * count)
    after = assign(members[1:], before)
    assert {members[0]} >= {old for old, to in zip(before, after, strict=True) if old != to}
