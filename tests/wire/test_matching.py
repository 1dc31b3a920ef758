"""Who is interested in a subject: against a naive model."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.ids import SeededIds
from agent99.wire._matching import InterestTable, subject_matches

_literals = st.lists(st.sampled_from([b"a", b"b", b"c1"]), min_size=1, max_size=4).map(b".".join)
_patterns = st.builds(
    lambda tokens, tail: b".".join([*tokens, *tail]),
    st.lists(st.sampled_from([b"a", b"b", b"*"]), min_size=1, max_size=3),
    st.sampled_from([[], [b">"]]),
) | st.just(b">")


def _naive(pattern: bytes, subject: bytes) -> bool:
    text = re.escape(pattern).replace(rb"\*", rb"[^.]+")
    text = re.sub(rb">$", rb".+", text)
    return re.fullmatch(text, subject) is not None


@settings(deadline=None)
@given(_patterns, _literals)
def test_matches(pattern: bytes, subject: bytes) -> None:
    """A pattern fits the subjects that a regular expression of the same meaning fits."""
    assert _naive(pattern, subject) == subject_matches(pattern, subject)


@settings(deadline=None)
@given(
    st.lists(st.tuples(_patterns | _literals, st.sampled_from([b"", b"q", b"r"])), max_size=8),
    st.sets(st.integers(min_value=0, max_value=7)),
    _literals,
)
def test_table(rows: list[tuple[bytes, bytes]], gone: set[int], subject: bytes) -> None:
    """Everybody without a group is found, and one of each group, and nobody who left."""
    table: InterestTable[int] = InterestTable(SeededIds(1).fraction)
    for number, (pattern, queue) in enumerate(rows):
        table.add(pattern, queue, number)
    for number in gone:
        table.remove(rows[number][0] if number < len(rows) else b"a", number)
    left = [
        (queue, number)
        for number, (pattern, queue) in enumerate(rows)
        if number not in gone and _naive(pattern, subject)
    ]
    found = table.find(subject)
    assert sorted(number for queue, number in left if not queue) == sorted(
        number for number in found if not rows[number][1]
    )
    assert {queue for queue, _ in left if queue} == {rows[number][1] for number in found} - {b""}
    assert len(found) == len(set(found))
    assert set(found) <= {number for _, number in left}


def test_table_is_empty_again() -> None:
    """Nothing is left of interests that were taken out."""
    table: InterestTable[int] = InterestTable(SeededIds(1).fraction)
    table.add(b"a", b"", 1)
    table.add(b"a.*", b"", 2)
    table.remove(b"a", 1)
    table.remove(b"a.*", 2)
    assert "InterestTable(literal=0, wild=0)" == repr(table)
