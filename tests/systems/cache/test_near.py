"""The near cache gives what was put, within its time, until it hears of something newer."""

from __future__ import annotations

from typing import NamedTuple

import hypothesis.strategies as st
import pytest
from hypothesis import given
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent99.errors import UsageError
from agent99.systems.cache._keys import partition_of
from agent99.systems.cache._near import ENTRY_BYTES, LOOKS_MAX, MISSING, Near

_KEYS = [f"ns:{number}" for number in range(3)]
_keys = st.sampled_from(_KEYS)
_FOR_EVER_S = 10**18


class _Answer(NamedTuple):
    """On its way from the owner, which may have written again meanwhile."""

    key: str
    version: int
    until_s: int
    ticket: int
    asked: int
    """How many things had happened when it was asked for."""


class _Races(RuleBasedStateMachine):
    """Answers and news on their way, which overtake each other, and are lost with the link."""

    @initialize(entries_max=st.integers(1, 6), news_max=st.integers(1, 6))
    def make(self, entries_max: int, news_max: int) -> None:
        """Begin, sometimes with so little room that things must be forgotten."""
        self.entries_max = entries_max
        self.bytes_max = 8 * (ENTRY_BYTES + 40)
        self.near = Near(entries_max=entries_max, bytes_max=self.bytes_max, news_max=news_max)
        self.now_s = 0
        self.happened = 0
        self.truth = dict.fromkeys(_KEYS, 1)
        self.heard = dict.fromkeys(_KEYS, 0)
        self.forgotten = dict.fromkeys(_KEYS, 0)
        self.answers: list[_Answer] = []
        self.news: list[tuple[str, int]] = []

    @rule(key=_keys)
    def write(self, key: str) -> None:
        """Somebody writes: the owner's version grows, and news of it are on their way."""
        self.truth[key] += 1
        self.news.append((key, self.truth[key]))

    @rule(key=_keys, ttl_s=st.integers(1, 9))
    def ask(self, key: str, ttl_s: int) -> None:
        """The client asks, and the owner answers at once: the answer is on its way."""
        self.happened += 1
        until_s = self.now_s + ttl_s
        ticket = self.near.begin()
        self.answers.append(_Answer(key, self.truth[key], until_s, ticket, self.happened))

    @rule(data=st.data(), size=st.integers(0, 45))
    def arrive(self, data: st.DataObject, size: int) -> None:
        """An answer arrives, of all that are under way."""
        if self.answers:
            answer = self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))
            key, version, until_s, ticket, _ = answer
            self.near.put(key, answer, version, until_s, size=size, ticket=ticket)

    @rule(data=st.data())
    def hear(self, data: st.DataObject) -> None:
        """News arrive, of all that are under way."""
        if self.news:
            key, version = self.news.pop(data.draw(st.integers(0, len(self.news) - 1)))
            self.near.invalidate(key, version)
            self.heard[key] = max(self.heard[key], version)

    @rule(key=_keys)
    def move(self, key: str) -> None:
        """A partition moves: news of its keys may be lost."""
        self.happened += 1
        self.near.forget({partition_of(key)})
        self.news = [each for each in self.news if each[0] != key]
        self.forgotten[key] = self.happened

    @rule()
    def cut(self) -> None:
        """The link was away: all news may be lost."""
        self.happened += 1
        self.near.clear()
        self.news.clear()
        self.forgotten = dict.fromkeys(_KEYS, self.happened)

    @rule(passed_s=st.integers(1, 9))
    def wait(self, passed_s: int) -> None:
        """Time passes."""
        self.now_s += passed_s

    @rule(keys=st.sets(_keys, min_size=1))
    def get(self, keys: set[str]) -> None:
        """Somebody reads."""
        for key in sorted(keys):
            self.get_one(key)

    def get_one(self, key: str) -> None:
        """What is given is in time, not older than what was heard, and not from before a move."""
        found = self.near.get(key, self.now_s)
        if found is MISSING:
            return
        assert isinstance(found, _Answer)
        assert key == found.key
        assert self.now_s < found.until_s
        assert found.version >= self.heard[key]
        assert found.asked > self.forgotten[key]
        still_coming = [version for name, version in self.news if name == key]
        assert found.version == self.truth[key] or still_coming, "old, and nothing will tell"

    @invariant()
    def stays_within_bounds(self) -> None:
        """Entries and bytes are within their bounds; what it reckons is what it holds."""
        numbers = self.near.statistics()
        assert len(self.near) == numbers.entries <= self.entries_max
        assert numbers.entries * ENTRY_BYTES <= numbers.bytes <= self.bytes_max


_Races.TestCase.__doc__ = "No order of answers, news and cuts makes it give what it must not."
TestRaces = _Races.TestCase


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), _keys, st.integers(1, 9), st.integers(0, 50)),
        st.tuples(st.just("news"), _keys, st.integers(1, 9), st.just(0)),
        st.tuples(st.just("get"), _keys, st.integers(0, 50), st.just(0)),
    )
)


@given(_steps)
def test_with_room_it_gives_exactly_what_a_naive_one_would(
    steps: list[tuple[str, str, int, int]],
) -> None:
    """Without bounds in the way nothing is lost: it is a dict with versions and times."""
    near = Near(entries_max=100, bytes_max=10**7)
    naive: dict[str, tuple[int, int]] = {}
    heard = dict.fromkeys(_KEYS, 0)
    now_s = 0
    for what, key, number, until_s in steps:
        version, end_s = naive.get(key, (0, 0))
        if what == "put":
            is_newest = number >= max(version, heard[key])
            ticket = near.begin()
            stored = near.put(key, number, number, until_s, size=1, ticket=ticket)
            assert is_newest is stored
            naive.update({key: (number, until_s)} if is_newest else {})
        elif what == "news":
            near.invalidate(key, number)
            heard[key] = max(heard[key], number)
            if version < number:
                naive.pop(key, None)
        else:
            now_s = max(now_s, number)
            assert (version if now_s < end_s else MISSING) == near.get(key, now_s)
            if now_s >= end_s:
                naive.pop(key, None)


def _near_with(keys: list[str], *, entries_max: int) -> Near:
    near = Near(entries_max=entries_max, bytes_max=10**7)
    for key in keys:
        _put(near, key)
    return near


def _put(near: Near, key: str, *, size: int = 1) -> bool:
    return near.put(key, key, 1, _FOR_EVER_S, size=size, ticket=near.begin())


def _held(near: Near, keys: list[str]) -> list[str]:
    return [key for key in keys if near.get(key, 0) is not MISSING]


def test_what_was_used_stays() -> None:
    """The oldest entry goes, unless it was used since it was last looked at."""
    near = _near_with(["a", "b", "c"], entries_max=3)
    near.get("a", 0)
    _put(near, "d")
    assert ["a", "c", "d"] == _held(near, ["a", "b", "c", "d"])
    assert 1 == near.statistics().evictions


def test_what_was_used_once_does_not_stay_for_ever() -> None:
    """An entry that was spared goes the next time, unless it was used again."""
    near = _near_with(["a", "b", "c"], entries_max=3)
    near.get("a", 0)
    for key in ("d", "e", "f"):
        _put(near, key)
    assert ["d", "e", "f"] == _held(near, ["a", "b", "c", "d", "e", "f"])


def test_bytes_are_bounded_too() -> None:
    """Where values are large there are fewer of them."""
    near = Near(entries_max=100, bytes_max=8 * (ENTRY_BYTES + 100))
    for number in range(20):
        assert _put(near, f"{number:02}", size=98)
        assert near.statistics().bytes <= 8 * (ENTRY_BYTES + 100)
    assert 8 == len(near)


def test_a_put_looks_at_few_entries() -> None:
    """Where everything was used, one of the first goes: no put walks through them all."""
    keys = [str(number) for number in range(LOOKS_MAX * 4)]
    near = _near_with(keys, entries_max=len(keys))
    assert keys == _held(near, keys)
    _put(near, "new")
    assert [keys[LOOKS_MAX]] == [key for key in keys if near.get(key, 0) is MISSING]


def test_a_scan_does_not_drive_out_what_is_used() -> None:
    """Keys read once pass through; keys read between them stay."""
    used = ["a", "b", "c"]
    near = _near_with(used, entries_max=10)
    for number in range(1_000):
        assert used == _held(near, used)
        _put(near, f"once-{number}")


def test_a_great_value_is_not_kept() -> None:
    """A value over an eighth of the room is refused, and what was kept of its key is gone."""
    near = Near(entries_max=10, bytes_max=80_000)
    assert _put(near, "a", size=10_000 - ENTRY_BYTES - 1)
    assert not _put(near, "b", size=10_000 - ENTRY_BYTES)
    assert not _put(near, "a", size=10_000)
    assert [] == _held(near, ["a", "b"])
    assert 0 == near.statistics().bytes


def test_none_is_a_value() -> None:
    """That a key holds None, or nothing, can be kept too: it is not `MISSING`."""
    near = Near(entries_max=10, bytes_max=10_000)
    near.put("a", None, 1, 9, size=0, ticket=near.begin())
    assert near.get("a", 0) is None
    assert near.get("b", 0) is MISSING
    assert "MISSING" == repr(MISSING)


def test_news_of_what_is_held_change_nothing() -> None:
    """Who hears of the very version that is kept, such as who wrote it, keeps it."""
    near = Near(entries_max=10, bytes_max=10_000)
    ticket = near.begin()
    near.invalidate("a", 7)
    assert near.put("a", "mine", 7, 9, size=4, ticket=ticket)
    near.invalidate("a", 7)
    assert "mine" == near.get("a", 0)
    assert not near.put("a", "older", 6, 9, size=5, ticket=near.begin())
    near.invalidate("a", 8)
    assert near.get("a", 0) is MISSING


def test_too_many_news_make_answers_under_way_worthless() -> None:
    """News that had to be forgotten may have been of any key: an answer from before is not kept."""
    near = Near(entries_max=10, bytes_max=10_000, news_max=2)
    before = near.begin()
    for key in ("a", "b", "c"):
        near.invalidate(key, 5)
    assert not near.put("a", "old", 4, 9, size=3, ticket=before)
    assert not near.put("z", "who knows", 4, 9, size=3, ticket=before)
    assert near.put("z", "new", 4, 9, size=3, ticket=near.begin())


def test_news_may_come_in_any_order() -> None:
    """Older news after newer ones do not let an answer in that the newer ones outdated."""
    near = Near(entries_max=10, bytes_max=10_000)
    ticket = near.begin()
    near.invalidate("a", 8)
    near.invalidate("a", 6)
    assert not near.put("a", "old", 7, 9, size=3, ticket=ticket)


def test_answers_under_way_are_forgotten_too() -> None:
    """What was asked for before a move, or a cut, is not kept: nobody would tell of a change."""
    near = Near(entries_max=10, bytes_max=10_000)
    ticket = near.begin()
    near.forget({partition_of("a")})
    assert not near.put("a", "old", 7, 9, size=3, ticket=ticket)
    ticket = near.begin()
    near.clear()
    assert not near.put("a", "old", 7, 9, size=3, ticket=ticket)
    assert _put(near, "a")


def test_news_that_are_forgotten_do_not_bring_trust_back() -> None:
    """An answer from before a cut stays worthless when news from before it must be forgotten."""
    near = Near(entries_max=10, bytes_max=10_000, news_max=1)
    near.invalidate("b", 5)
    ticket = near.begin()
    near.clear()
    near.invalidate("c", 5)
    assert not near.put("a", "old", 7, 9, size=3, ticket=ticket)


def test_only_the_partitions_named_are_forgotten() -> None:
    """Keys of other partitions stay."""
    near = _near_with(_KEYS, entries_max=10)
    gone = {partition_of(key) for key in _KEYS[:2]}
    near.forget(gone)
    expected = _KEYS[2:]
    assert expected
    assert expected == _held(near, _KEYS)


def test_it_counts_what_it_does() -> None:
    """Hits, misses, news and refused answers are counted; its text has how much it holds."""
    near = Near(entries_max=10, bytes_max=10_000)
    ticket = near.begin()
    near.invalidate("a", 2)
    near.put("a", "old", 1, 9, size=3, ticket=ticket)
    near.put("a", "new", 2, 9, size=3, ticket=ticket)
    near.get("a", 0)
    near.get("a", 9)
    near.get("b", 0)
    numbers = near.statistics()
    expected = (1, 2, 1, 1, 0)
    counted = (numbers.hits, numbers.misses, numbers.invalidations, numbers.refusals)
    assert expected == (*counted, numbers.evictions)
    assert "Near(entries=0, bytes=0)" == repr(near)


@pytest.mark.parametrize(("entries_max", "bytes_max"), [(0, 1), (1, 0), (-1, 1)])
def test_a_near_cache_needs_room(entries_max: int, bytes_max: int) -> None:
    """Bounds below 1 are a mistake."""
    with pytest.raises(UsageError, match="needs room"):
        Near(entries_max=entries_max, bytes_max=bytes_max)
