"""Choosing one of several."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from agent99.registry import Description, choose, hash_of, least_loaded, sticky
from tests.registry._describe import describe

_draws = st.floats(0, 1, exclude_max=True)
_MANY = [describe(f"i{n}") for n in range(10)]


def test_nobody_can_be_chosen_of_nobody() -> None:
    """Without candidates the choice is None."""
    for selection in (least_loaded(), hash_of("ada"), sticky()):
        assert choose(selection, [], draw=0.5) is None


@given(st.lists(st.integers(0, 5), min_size=1, max_size=10), _draws)
def test_least_loaded_has_the_least(loads: list[int], draw: float) -> None:
    """Nobody has fewer requests in flight than the chosen one."""
    by_instance = {f"i{n}": load for n, load in enumerate(loads)}
    candidates = _MANY[: len(loads)]
    chosen = choose(least_loaded(), candidates, draw=draw, load=by_instance.__getitem__)
    assert chosen is not None
    assert min(loads) == by_instance[chosen.instance]


def test_least_loaded_draws_among_equals() -> None:
    """Equally loaded instances are all chosen, by the draw."""
    chosen = {
        found.instance
        for n in range(10)
        if (found := choose(least_loaded(), _MANY, draw=n / 10 + 0.05)) is not None
    }
    assert {d.instance for d in _MANY} == chosen


@given(st.text(max_size=20), st.permutations(_MANY), _draws)
def test_a_key_has_one_home(key: str, order: list[Description], draw: float) -> None:
    """The same key goes to the same instance, whatever the order of candidates and the draw."""
    expected = choose(hash_of(key), _MANY, draw=0)
    assert expected == choose(hash_of(key), order, draw=draw)


@given(st.text(max_size=20), st.integers(0, 9))
def test_only_the_share_of_who_went_moves(key: str, gone: int) -> None:
    """When an instance goes, the keys of the others stay where they were."""
    before = choose(hash_of(key), _MANY, draw=0)
    left = [d for d in _MANY if d is not _MANY[gone]]
    after = choose(hash_of(key), left, draw=0)
    assert before is _MANY[gone] or before == after


def test_keys_are_spread_evenly() -> None:
    """Of 10,000 keys each of 10 instances gets between 900 and 1,100."""
    homes = Counter(
        found.instance
        for n in range(10_000)
        if (found := choose(hash_of(f"customer-{n}"), _MANY, draw=0)) is not None
    )
    assert len(_MANY) == len(homes)
    assert all(900 <= count <= 1_100 for count in homes.values()), homes


def test_sticky_stays_while_it_is_there() -> None:
    """The last one is chosen again; once it is gone the draw decides."""
    assert _MANY[7] is choose(sticky(), _MANY, draw=0, previous="i7")
    assert _MANY[0] is choose(sticky(), _MANY, draw=0, previous="gone")
    assert _MANY[9] is choose(sticky(), _MANY, draw=0.999)
