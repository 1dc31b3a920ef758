"""The watermark of a source comes from its shards and the wall clock, and never goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.analytics import Source
from agent99.systems.analytics._watermark import FOREVER_US, Watermark

from ._by_definition import Tick

S = 1_000_000
Note = tuple[int, int, int, bool]
NOWHERE = -(10**9)


def source_of(shards: int) -> Source[Tick]:
    return Source("ticks", Tick, time="at_us", delay_s=2.0, idle_s=5.0, shards=shards)


def test_nothing_known() -> None:
    """Before anything is known of a source it has no watermark, however long one waits."""
    assert Watermark(source_of(2)).at(1_000 * S) is None


def test_earliest_shard() -> None:
    """The watermark is the earliest time of the shards, less the delay."""
    watermark = Watermark(source_of(2))
    watermark.note(0, 100 * S, 0)
    watermark.note(1, 90 * S, 0)
    assert watermark.at(S) == 88 * S


def test_unheard_shard() -> None:
    """A shard of which nothing is known is waited for until it is idle."""
    watermark = Watermark(source_of(2))
    watermark.note(0, 100 * S, 10 * S)
    assert watermark.at(11 * S) is None
    watermark.note(0, 104 * S, 14 * S)
    assert watermark.at(15 * S) == 102 * S


def test_shard_without_records() -> None:
    """A shard that has been seen but has no record yet is waited for until it is idle."""
    watermark = Watermark(source_of(1))
    watermark.note(0, None, 0)
    assert watermark.at(S) is None
    assert watermark.at(100 * S) is None


def test_idle_shard() -> None:
    """An idle shard is not waited for; when it speaks again the watermark does not go back."""
    watermark = Watermark(source_of(2))
    watermark.note(0, 100 * S, 0)
    watermark.note(1, 50 * S, 0)
    watermark.note(0, 105 * S, 5 * S)
    assert watermark.at(5 * S) == 103 * S
    watermark.note(1, 51 * S, 5 * S)
    assert watermark.at(5 * S) == 103 * S


def test_all_idle() -> None:
    """When all shards are idle, the watermark goes on with the wall clock from the latest time."""
    watermark = Watermark(source_of(2))
    watermark.note(0, 100 * S, 0)
    watermark.note(1, 50 * S, S)
    assert watermark.at(int(4.9 * S)) == 48 * S
    assert watermark.at(6 * S) == 103 * S
    assert watermark.at(60 * S) == 157 * S


def test_final_shards() -> None:
    """A shard that has ended is not waited for; when all have, every window may close."""
    watermark = Watermark(source_of(2))
    watermark.note(0, 100 * S, 0)
    watermark.note(1, 50 * S, 0, is_final=True)
    assert watermark.at(S) == 98 * S
    watermark.note(0, 100 * S, 0, is_final=True)
    assert watermark.at(S) == FOREVER_US


def test_floor() -> None:
    """A watermark that was kept before is where the next one begins."""
    watermark = Watermark(source_of(1), floor_us=10 * S)
    assert watermark.at(0) == 10 * S
    watermark.note(0, 5 * S, 0)
    assert watermark.at(0) == 10 * S


def naive(notes: list[Note], shards: int, now_us: int) -> int | None:
    """Return the watermark by definition, but for its not going back."""
    times = {one: [at for shard, at, *_ in notes if shard == one] for one in range(shards)}
    seen = {one: [at for shard, _, at, _ in notes if shard == one] for one in range(shards)}
    first = min(at for _, _, at, _ in notes)
    ended = {shard for shard, *_, is_final in notes if is_final}
    if len(ended) == shards:
        return FOREVER_US
    active = [
        one
        for one in range(shards)
        if one not in ended and now_us - max([first, *seen[one]]) < 5 * S
    ]
    if any(not times[one] for one in active):
        return None
    if active:
        return min(max(times[one]) for one in active) - 2 * S
    latest = max(at for _, at, _, _ in notes)
    return latest - 2 * S + now_us - max(at for _, _, at, _ in notes)


@given(
    st.integers(1, 3).flatmap(
        lambda shards: st.tuples(
            st.just(shards),
            st.lists(
                st.tuples(
                    st.integers(0, shards - 1),
                    st.integers(0, 100).map(lambda s: s * S),
                    st.integers(0, 8).map(lambda s: s * S),
                    st.sampled_from((False, False, False, True)),
                ),
                min_size=1,
                max_size=10,
            ),
        )
    )
)
def test_by_definition(drawn: tuple[int, list[Note]]) -> None:
    """After each note the watermark is the highest that there was by definition so far."""
    shards, steps = drawn
    watermark, now_us, highest = Watermark(source_of(shards)), 0, NOWHERE
    notes: list[Note] = []
    for shard, max_us, passed_us, is_final in steps:
        now_us += passed_us
        notes.append((shard, max_us, now_us, is_final))
        watermark.note(shard, max_us, now_us, is_final=is_final)
        for at_us in (now_us, now_us + 5 * S):
            expected = naive(notes, shards, at_us)
            highest = max(highest, NOWHERE if expected is None else expected)
            found = watermark.at(at_us)
            assert (NOWHERE if found is None else found) == highest
