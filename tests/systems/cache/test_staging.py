"""What arrives in parts: whole, in whatever order, or not at all; and never for ever."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.cache._options import PORTION_BYTES
from agent99.systems.cache._staging import (
    IDLE_S,
    UPLOADS_MAX,
    PartOf,
    Staging,
    Verdict,
    cut,
    parts_of,
)

P = PORTION_BYTES
SIZES = st.sampled_from((0, 1, P - 1, P, P + 1, 2 * P, 3 * P + 7))


def _blob(size: int) -> bytes:
    return hashlib.shake_128(str(size).encode()).digest(size)


def _part(upload: str, value: bytes, index: int) -> PartOf:
    return PartOf(upload, index, len(value), cut(value, index))


@given(size=SIZES.filter(bool), data=st.data())
def test_parts_make_the_value_in_any_order(size: int, data: st.DataObject) -> None:
    """Parts may come in any order, and more than once: what is claimed is the value."""
    staging, value = Staging(4 * P), _blob(size)
    order = data.draw(st.permutations(range(parts_of(size))))
    for index in [*order, order[0]]:
        assert staging.take(_part("u", value, index), 0.0) is Verdict.THERE
    assert staging.bytes == size
    assert staging.claim("u") == value
    assert staging.claim("u") is None
    assert (staging.bytes, len(staging)) == (0, 0)


@given(size=SIZES.filter(lambda size: size > P), data=st.data())
def test_a_value_with_a_part_missing_is_not_there(size: int, data: st.DataObject) -> None:
    """Whichever part is missing, nothing is handed out, and nothing is kept."""
    staging, value = Staging(4 * P), _blob(size)
    lost = data.draw(st.integers(0, parts_of(size) - 1))
    for index in range(parts_of(size)):
        if index != lost:
            staging.take(_part("u", value, index), 0.0)
    assert staging.claim("u") is None
    assert (staging.bytes, len(staging)) == (0, 0)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abcd"), SIZES, st.integers(-1, 4), st.floats(0, 2 * IDLE_S)),
        max_size=40,
    )
)
def test_the_room_is_never_exceeded_and_always_given_back(
    steps: list[tuple[str, int, int, float]],
) -> None:
    """Whatever comes, what is staged stays within the bound, and goes when nothing more comes."""
    staging, now_s = Staging(4 * P), 0.0
    sizes: dict[str, int] = {}
    for upload, size, index, waits_s in steps:
        now_s += waits_s
        part = PartOf(upload, index, size, cut(_blob(size), index) if index >= 0 else b"")
        verdict = staging.take(part, now_s)
        assert (verdict is Verdict.WRONG) or 0 <= index < parts_of(size)
        if verdict is Verdict.THERE:
            sizes[upload] = size
        assert staging.bytes <= min(4 * P, sum(sizes.values()))
    staging.expire(now_s + IDLE_S + 0.001)
    assert (staging.bytes, len(staging)) == (0, 0)


def test_a_part_that_contradicts_itself_is_refused() -> None:
    """A length that does not fit, an index out of range, another size: none is kept."""
    staging = Staging(4 * P)
    for part in (
        PartOf("", 0, 1, b"x"),
        PartOf("u", 0, 0, b""),
        PartOf("u", 0, -5, b""),
        PartOf("u", 0, 2, b"x"),
        PartOf("u", 1, P, b""),
        PartOf("u", -1, 2 * P, b"x" * P),
    ):
        assert staging.take(part, 0.0) is Verdict.WRONG
    assert staging.take(PartOf("u", 0, 1, b"x"), 0.0) is Verdict.THERE
    assert staging.take(PartOf("u", 0, 2, b"xy"), 0.0) is Verdict.WRONG
    assert staging.claim("u") == b"x"


def test_a_value_larger_than_the_room_is_refused_for_good() -> None:
    """It is told apart from a room that is only full now."""
    staging = Staging(4 * P)
    assert staging.take(PartOf("u", 0, 4 * P + 1, b"x" * P), 0.0) is Verdict.TOO_LARGE
    assert staging.take(PartOf("u", 0, 4 * P, b"x" * P), 0.0) is Verdict.THERE
    assert staging.take(PartOf("v", 0, 1, b"x"), 0.0) is Verdict.BUSY
    assert staging.take(PartOf("v", 0, 1, b"x"), IDLE_S + 1) is Verdict.THERE


def test_there_are_no_more_uploads_than_stated() -> None:
    """Small ones are bounded in number, as they are in bytes."""
    staging = Staging(4 * P)
    verdicts = [staging.take(PartOf(f"u{n}", 0, 1, b"x"), 0.0) for n in range(UPLOADS_MAX + 1)]
    assert verdicts == [Verdict.THERE] * UPLOADS_MAX + [Verdict.BUSY]
