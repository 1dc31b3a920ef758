"""The buffer of an ingestion agent: what waits, in which order, and how much it is."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
)

from agent99.errors import UsageError
from agent99.systems.analytics._buffer import Buffer, BufferBounds, Parcel

BOUNDS = BufferBounds(
    batch_records_max=3, batch_bytes_max=10, buffer_records_max=12, buffer_bytes_max=40
)
LANES = st.sampled_from(["a", "b"])


class _Came(NamedTuple):
    """A record or a batch that waits."""

    number: int
    rows: int
    size: int
    due_s: float
    is_batch: bool = False


class BufferAgainstLists(RuleBasedStateMachine):
    """Whatever is done to a buffer, it holds what plain lists hold, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: Buffer[int] = Buffer(BOUNDS)
        self.now_s = 0.0
        self.number = 0
        self.waiting: dict[str, list[_Came]] = {"a": [], "b": []}
        """By lane, in the order in which they came."""
        self.under_way: list[Parcel[int]] = []

    @rule(lane=LANES, size=st.integers(1, 12), wait_s=st.floats(0, 5))
    def add(self, lane: str, size: int, wait_s: float) -> None:
        """A record comes, if there is room."""
        if self.buffer.fits(1, size):
            self.number += 1
            self.buffer.add(lane, self.number, size, self.now_s + wait_s)
            self.waiting[lane].append(_Came(self.number, 1, size, self.now_s + wait_s))

    @rule(lane=LANES, rows=st.integers(0, 5), size=st.integers(1, 12))
    def add_batch(self, lane: str, rows: int, size: int) -> None:
        """A batch comes, if there is room."""
        if self.buffer.fits(rows, size):
            self.number += 1
            self.buffer.add_batch(lane, self.number, rows, size)
            self._all_due(lane)
            self.waiting[lane].append(_Came(self.number, rows, size, 0.0, is_batch=True))

    @rule(lane=LANES)
    def take(self, lane: str) -> None:
        """What is due is taken; its records are the first that came, as many as may be in one."""
        parcel = self.buffer.next(lane, self.now_s)
        if parcel is None:
            assert all(came.due_s > self.now_s for came in self.waiting[lane])
        else:
            self._gone(parcel)
            self.under_way.append(parcel)

    @rule()
    def stored(self) -> None:
        """What was taken is stored."""
        if self.under_way:
            self.buffer.stored(self.under_way.pop(0))

    @rule()
    def drop(self) -> None:
        """The oldest gives way."""
        parcel = self.buffer.drop_oldest()
        if parcel is None:
            assert not any(self.waiting.values())
        else:
            self._gone(parcel)

    @rule(lane=LANES)
    def flush(self, lane: str) -> None:
        """What is flushed is due."""
        waiting = self.buffer.flush()
        assert sorted(waiting) == sorted(came.number for came in self._all())
        assert bool(self.waiting[lane]) == (self.buffer.due_s(lane) == 0.0)
        for name in self.waiting:
            self._all_due(name)

    @rule(passed_s=st.floats(0, 3))
    def wait(self, passed_s: float) -> None:
        """Time passes."""
        self.now_s += passed_s

    @invariant()
    def counts_are_sums(self) -> None:
        """Its counts are those of what waits, and of what is under way."""
        rows, size = sum(each.rows for each in self._all()), sum(each.size for each in self._all())
        assert rows + sum(each.rows for each in self.under_way) == self.buffer.records
        assert size + sum(each.bytes for each in self.under_way) == self.buffer.bytes
        assert self.buffer.records <= BOUNDS.buffer_records_max
        assert self.buffer.bytes <= BOUNDS.buffer_bytes_max

    def _all(self) -> list[_Came]:
        return [came for those in self.waiting.values() for came in those]

    def _all_due(self, lane: str) -> None:
        self.waiting[lane] = [came._replace(due_s=0.0) for came in self.waiting[lane]]

    def _gone(self, parcel: Parcel[int]) -> None:
        waiting = self.waiting[parcel.lane]
        gone = waiting[: len(parcel.items)]
        assert parcel.items == [came.number for came in gone]
        rows, size = sum(came.rows for came in gone), sum(came.size for came in gone)
        assert (rows, size) == (parcel.rows, parcel.bytes)
        if gone[0].is_batch:
            assert 1 == len(gone)
        else:
            assert not any(came.is_batch for came in gone)
            assert rows <= BOUNDS.batch_records_max
            assert size <= BOUNDS.batch_bytes_max or rows == 1
        del waiting[: len(gone)]


BufferAgainstLists.TestCase.settings = settings(max_examples=200, stateful_step_count=30)
TestBuffer = BufferAgainstLists.TestCase


def test_it_is_due_when_the_first_of_its_callers_cannot_wait_longer() -> None:
    """Of what is gathered the earliest due time counts, whoever came first."""
    buffer: Buffer[str] = Buffer(BOUNDS)
    buffer.add("a", "patient", 1, 30.0)
    buffer.add("a", "hasty", 1, 2.0)
    assert 2.0 == buffer.due_s("a")
    assert buffer.next("a", 1.9) is None
    parcel = buffer.next("a", 2.0)
    assert parcel is not None
    assert ["patient", "hasty"] == parcel.items
    assert buffer.due_s("a") is None


def test_a_batch_stands_behind_the_records_that_came_before() -> None:
    """What is stored in order is what came in order, though records would wait for others."""
    buffer: Buffer[str] = Buffer(BOUNDS)
    buffer.add("a", "record", 1, 30.0)
    buffer.add_batch("a", "batch", 2, 1)
    buffer.add("a", "later", 1, 0.0)
    parcels = [buffer.next("a", 1.0) for _ in range(3)]
    assert [["record"], ["batch"], ["later"]] == [each.items for each in parcels if each]


@pytest.mark.parametrize("name", BufferBounds.__struct_fields__)
def test_a_bound_is_at_least_one(name: str) -> None:
    """A bound that nothing fits is refused where it is written."""
    with pytest.raises(UsageError, match=f"{name} is 0; at least 1"):
        BufferBounds(**{name: 0})
