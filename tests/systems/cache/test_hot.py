"""The few keys that take a great part of the reads are found, with few counters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain, cycle, islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.systems.cache._hot import KEYS_MAX, SHARE_MIN, Counts, HotKeys

_SECOND_US = 1_000_000
_TINY = 1e-6
_steps: list[str | float] = [*"aaaaaaaaaaaabbbbcdefghijkl", 0.5]
"""Keys to count, some more often than others, and a fading now and then."""


def _every_16th() -> float:
    """Return the draw by which every sixteenth read counts, exactly."""
    return 0.5


def _read(hot: HotKeys, keys: Iterable[str]) -> None:
    for key in keys:
        hot.note_all((key,))


@given(st.integers(1, 5), st.lists(st.sampled_from(_steps), max_size=300))
def test_counts_are_right_but_for_a_bounded_error(keys_max: int, steps: list[str | float]) -> None:
    """Every key's count is its true one, or less by no more than `error`, fading included."""
    counts = Counts(keys_max)
    truth: Counter[str] = Counter()
    exact: dict[str, float] = truth  # type: ignore[assignment]  # it counts in fractions too
    for step in steps:
        if isinstance(step, str):
            counts.add(step)
            exact[step] = exact.get(step, 0.0) + 1.0
        else:
            counts.fade(step)
            for key in exact:
                exact[key] *= step
    found = dict(counts.above(0.0))
    assert len(found) <= 2 * keys_max
    assert pytest.approx(sum(exact.values())) == counts.total
    assert counts.error <= counts.total / (keys_max + 1) + _TINY
    for key, true in exact.items():
        assert true - counts.error - _TINY <= found.get(key, 0.0) <= true + _TINY


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.6))
def test_no_hot_key_is_missed_and_no_other_is_named(seed: int, share: float) -> None:
    """Of what is sampled, a key over the share and the error is found, one below it is not."""
    random = Random(seed)
    hot = HotKeys(0, _every_16th, rate_min=0)
    seen: Counter[str] = Counter()
    for _ in range(3_000):
        key = "hot" if random.random() < share else f"cold-{random.randrange(2_000)}"
        seen[key] += 1
        _read(hot, [key] * 16)  # of which exactly one counts
    found = {each.key: each.share for each in hot.hot(_SECOND_US)}
    error = 1 / (KEYS_MAX + 1)
    for key, count in seen.items():
        true = count / seen.total()
        assert key in found or true <= SHARE_MIN + error
        assert key not in found or true - error - _TINY <= found[key] <= true + _TINY


@pytest.mark.parametrize("seed", range(5))
def test_batches_of_regular_length_hide_nothing(seed: int) -> None:
    """A key that stands at the same place of each batch of eight is seen at its true share."""
    hot = HotKeys(0, Random(seed).random)
    batches = ([f"cold-{number}-{place}" for place in range(7)] for number in range(20_000))
    for batch in batches:
        _read(hot, ["hot", *batch])
    (only,) = hot.hot(10 * _SECOND_US)
    assert "hot" == only.key
    assert pytest.approx(1 / 8, abs=0.02) == only.share


@pytest.mark.parametrize(("reads", "is_hot"), [(190, False), (210, True)])
def test_a_key_must_be_read_often_too(reads: int, is_hot: bool) -> None:
    """Below 200 reads a second nobody is hot, whatever the share; so from the first second."""
    hot = HotKeys(0, _every_16th)
    for second in range(1, 61):
        # In sixteens, each of which gives one count: whole seconds hold no whole number of them.
        _read(hot, ["only"] * (reads if second > 1 else reads + 16))
        found = hot.hot(second * _SECOND_US)
        assert is_hot is bool(found) or second < 3, second


def test_what_was_hot_cools_down() -> None:
    """When others are read instead, a key is hot no more after a few half-lives."""
    hot = HotKeys(0, _every_16th)
    for second in range(1, 31):
        _read(hot, ["old"] * 8_000)
        assert ["old"] == [each.key for each in hot.hot(second * _SECOND_US)]
    last = 0
    for second in range(31, 61):
        _read(hot, ["new"] * 8_000)
        found = [each.key for each in hot.hot(second * _SECOND_US)]
        assert "new" in found or second < 33
        last = second if "old" in found else last
    assert 33 < last < 50


def test_the_hottest_comes_first() -> None:
    """Keys are named by falling share; those of one share by name."""
    hot = HotKeys(0, _every_16th)
    pattern = chain.from_iterable([key] * 16 for key in "abbccd")
    _read(hot, islice(cycle(list(pattern)), 96 * 100))
    assert ["b", "c", "a", "d"] == [each.key for each in hot.hot(_SECOND_US)]


def test_time_that_stands_or_goes_back_does_no_harm() -> None:
    """Before any time has passed nobody is hot, and a clock that is set back fades nothing."""
    hot = HotKeys(9 * _SECOND_US, _every_16th)
    _read(hot, ["a"] * 320)
    assert [] == hot.hot(9 * _SECOND_US)
    assert [] == hot.hot(0)
    assert ["a"] == [each.key for each in hot.hot(10 * _SECOND_US)]
    assert ["a"] == [each.key for each in hot.hot(10 * _SECOND_US)]


def test_nothing_read_is_nothing_hot() -> None:
    """A node that nobody reads from has no hot keys."""
    assert [] == HotKeys(0, _every_16th).hot(_SECOND_US)


def test_it_says_how_much_it_counts() -> None:
    """Its text has the counters, the total and the error, not the keys."""
    hot = HotKeys(0, _every_16th)
    _read(hot, ["a"] * 32)
    assert "HotKeys(Counts(keys=1, total=2, error=0))" == repr(hot)
