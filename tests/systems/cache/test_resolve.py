"""What a change makes of what is there, against a model that knows a value and its end alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.systems.cache._item import Item
from agent99.systems.cache._resolve import (
    JSON,
    NOT_A_NUMBER,
    NOT_TEXT,
    NUMBER_MAX,
    NUMBER_MIN,
    OVERFLOW,
    TEXT,
    TOO_LARGE,
    Resolved,
    resolve,
)
from agent99.systems.cache._words import Change, Outcome, Status, Verb

KEY = "s:k"
BYTES_MAX = 24
NOW_US = 1_700_000_000_000_000

numbers = st.one_of(
    st.integers(-3, 3), st.sampled_from([NUMBER_MIN, NUMBER_MAX, NUMBER_MAX - 1]), st.integers()
)
values = st.one_of(
    st.binary(max_size=BYTES_MAX + 4),
    st.integers(NUMBER_MIN, NUMBER_MAX).map(lambda number: str(number).encode()),
    st.sampled_from([b"+1", b"01", b" 1", b"1_0", b"-0", b"1.0", b"", b"\xd9\xa3", b"9" * 21]),
)
items = st.builds(
    Item,
    st.just(KEY),
    st.integers(1, 2**50),
    values,
    st.sampled_from([0, TEXT, JSON]),
    st.sampled_from([0, NOW_US + 1, NOW_US + 5_000]),
    st.sampled_from([0, NOW_US - 1, NOW_US + 3]),
    st.integers(0, 9),
    st.sampled_from([(), ("red",), ("red", "new")]),
)
changes = st.builds(
    Change,
    st.sampled_from(list(Verb)),
    st.just(KEY),
    values,
    st.sampled_from([0, TEXT, JSON]),
    st.sampled_from([0, 1_000, 10**12]),
    number=numbers,
    fresh_us=st.sampled_from([0, 500, 10**13]),
    cost_us=st.integers(0, 9),
    tags=st.sampled_from([(), ("blue",)]),
    keeps_ttl=st.booleans(),
    wants_old=st.booleans(),
)


class Slot(NamedTuple):
    """All that the model keeps of a key."""

    value: bytes
    kind: int
    expires_us: int
    tags: tuple[str, ...]


def parsed(text: bytes) -> int | None:
    """Return a whole number of 64 bits as people write one, or None."""
    digits = text[1:] if text[:1] == b"-" else text
    is_number = digits.isdigit() and (digits == b"0" or digits[:1] != b"0") and text != b"-0"
    is_number = is_number and len(text) <= 20 and -(2**63) <= int(text) < 2**63
    return int(text) if is_number else None


def modelled(  # noqa: C901, PLR0911, PLR0912 - a table of what each verb does
    change: Change, there: Item | None
) -> tuple[Slot | None, str]:
    """Return what is there after a change, and how it ends: done, not, or a code."""
    before = None if there is None else Slot(there.value, there.kind, there.expires_us, there.tags)
    ends_us = NOW_US + change.ttl_us if change.ttl_us else 0
    if change.keeps_ttl and before is not None:
        ends_us = before.expires_us
    version = 0 if there is None else there.version
    after: Slot | None = Slot(change.value, change.kind, ends_us, change.tags)
    too_large = len(change.value) > BYTES_MAX
    match Verb(change.verb):
        case Verb.DELETE:
            holds = before is not None and change.number in (0, version)
            return (None, "done") if holds else (before, "not")
        case Verb.TOUCH:
            return (
                (before, "not") if before is None else (before._replace(expires_us=ends_us), "done")
            )
        case Verb.INCR:
            number = 0 if before is None else parsed(before.value)
            if number is None:
                return before, NOT_A_NUMBER
            total = number + change.number
            if not -(2**63) <= total < 2**63:
                return before, OVERFLOW
            text = str(total).encode()
            new = Slot(text, JSON, ends_us, change.tags)
            return (new if before is None else before._replace(value=text)), "done"
        case Verb.APPEND:
            if before is not None and before.kind != change.kind:
                return before, NOT_TEXT
            whole = change.value if before is None else before.value + change.value
            if len(whole) > BYTES_MAX:
                return before, TOO_LARGE
            return (after if before is None else before._replace(value=whole)), "done"
        case Verb.SET:
            holds = True
        case Verb.ADD:
            holds = before is None
        case Verb.REPLACE:
            holds = before is not None
        case Verb.CAS:
            holds = before is not None and version == change.number
    if too_large:
        return before, TOO_LARGE
    return (after, "done") if holds else (before, "not")


def run(change: Change, there: Item | None, version: int = 2**60) -> Resolved:
    """Make a change now."""
    return resolve(change, there, version=version, now_us=NOW_US, bytes_max=BYTES_MAX)


def slot_of(item: Item | None) -> Slot | None:
    """Return what a model knows of an item."""
    if item is None or item.is_deleted:
        return None
    return Slot(item.value, item.kind, item.expires_us, item.tags)


@settings(max_examples=200)
@given(changes, st.none() | items)
def test_it_does_what_the_model_does(change: Change, there: Item | None) -> None:
    """Every verb makes the state, and the end, that a naive model makes."""
    slot, end = modelled(change, there)
    item, outcome = run(change, there)
    assert (
        Status.DONE if end == "done" else Status.NOT_DONE if end == "not" else Status.REFUSED
    ) == (outcome.status)
    assert ("" if end in ("done", "not") else end) == outcome.code
    assert (end == "done") == (item is not None), "only what is done makes a state"
    assert slot == slot_of(there if item is None else item)


@settings(max_examples=100)
@given(changes, st.none() | items)
def test_it_gives_the_version_it_was_given(change: Change, there: Item | None) -> None:
    """What is made has the new version, tombstones too; the answer names that of what is there."""
    item, outcome = run(change, there)
    if item is not None:
        assert (2**60, KEY) == (item.version, item.key)
    deleted = item is not None and item.is_deleted
    there_now = there if item is None else item
    assert (0 if there_now is None or deleted else there_now.version) == outcome.version


@settings(max_examples=100)
@given(changes, st.none() | items)
def test_it_tells_the_old_value_where_that_is_wanted(change: Change, there: Item | None) -> None:
    """Who sets, deletes or touches may have what was there before, and nobody else gets it."""
    outcome = run(change, there).outcome
    can = change.verb not in (Verb.INCR, Verb.APPEND) and outcome.status != Status.REFUSED
    wanted = there if change.wants_old and can else None
    assert (None if wanted is None else wanted.value) == outcome.value


@pytest.mark.parametrize(
    ("text", "added", "want"),
    [
        (None, 5, Outcome(Status.DONE, 9, 5)),
        (b"41", 1, Outcome(Status.DONE, 9, 42)),
        (b"-1", 1, Outcome(Status.DONE, 9, 0)),
        (b"9223372036854775806", 1, Outcome(Status.DONE, 9, NUMBER_MAX)),
        (b"9223372036854775807", 1, Outcome(Status.REFUSED, 4, code=OVERFLOW)),
        (b"-9223372036854775808", -1, Outcome(Status.REFUSED, 4, code=OVERFLOW)),
        (b"0", 2**70, Outcome(Status.REFUSED, 4, code=OVERFLOW)),
        (b"9223372036854775808", -1, Outcome(Status.REFUSED, 4, code=NOT_A_NUMBER)),
        (b"+1", 1, Outcome(Status.REFUSED, 4, code=NOT_A_NUMBER)),
        (b"1_000", 1, Outcome(Status.REFUSED, 4, code=NOT_A_NUMBER)),
        (b" 1", 1, Outcome(Status.REFUSED, 4, code=NOT_A_NUMBER)),
        (b"1.0", 1, Outcome(Status.REFUSED, 4, code=NOT_A_NUMBER)),
        (b"", 1, Outcome(Status.REFUSED, 4, code=NOT_A_NUMBER)),
        ("٣".encode(), 1, Outcome(Status.REFUSED, 4, code=NOT_A_NUMBER)),
    ],
    ids=str,
)
def test_incr(text: bytes | None, added: int, want: Outcome) -> None:
    """Whole numbers of 64 bits, written as people write them, are added to; all else is refused."""
    there = None if text is None else Item(KEY, 4, text, JSON)
    change = Change(Verb.INCR, KEY, number=added)
    assert want == run(change, there, version=9).outcome


@pytest.mark.parametrize("kind", [0, TEXT])
def test_append_keeps_the_kind(kind: int) -> None:
    """Text grows by text and bytes by bytes; the answer has the length, the end stays as it was."""
    there = Item(KEY, 4, b"ab", kind, expires_us=NOW_US + 7, tags=("red",))
    item, outcome = run(Change(Verb.APPEND, KEY, b"cd", kind, ttl_us=99), there, version=9)
    assert Item(KEY, 9, b"abcd", kind, expires_us=NOW_US + 7, tags=("red",)) == item
    assert Outcome(Status.DONE, 9, 4) == outcome
    _, refused = run(Change(Verb.APPEND, KEY, b"cd", 1 - kind), there)
    assert (Status.REFUSED, NOT_TEXT) == (refused.status, refused.code)


def test_touch_keeps_all_but_the_end() -> None:
    """A touched key has another end, and its value, kind, tags and cost as before."""
    there = Item(KEY, 4, b"ab", TEXT, NOW_US + 7, NOW_US + 5, 3, ("red",))
    item, _ = run(Change(Verb.TOUCH, KEY, ttl_us=50), there, version=9)
    assert Item(KEY, 9, b"ab", TEXT, NOW_US + 50, 0, 3, ("red",)) == item


def test_kept_time() -> None:
    """With `keeps_ttl` a set key ends, and is stale, when it was to before."""
    there = Item(KEY, 4, b"ab", TEXT, NOW_US + 7, NOW_US + 5)
    change = Change(Verb.SET, KEY, b"x", ttl_us=10**9, keeps_ttl=True)
    item: Any = run(change, there).item
    assert (b"x", NOW_US + 7, NOW_US + 5) == (item.value, item.expires_us, item.fresh_us)
