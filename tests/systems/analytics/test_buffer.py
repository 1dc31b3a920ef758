"""The buffer of an ingestion agent: what waits, in which order, and how much it is."""

from __future__ import annotations

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


class BufferAgainstLists(RuleBasedStateMachine):
    """Whatever is done to a buffer, it holds what plain lists hold, in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: Buffer[int] = Buffer(BOUNDS)
        self.now_s = 0.0
        self.number = 0
        self.singles: dict[str, list[tuple[int, int, float]]] = {"a": [], "b": []}
        """By lane: number, bytes and due time, in the order in which they came."""
        self.batches: dict[str, list[tuple[int, int, int]]] = {"a": [], "b": []}
        """By lane: number, rows and bytes."""
        self.under_way: list[Parcel[int]] = []

    @rule(lane=LANES, size=st.integers(1, 12), wait_s=st.floats(0, 5))
    def add(self, lane: str, size: int, wait_s: float) -> None:
        """A record comes, if there is room."""
        if self.buffer.fits(1, size):
            self.number += 1
            self.buffer.add(lane, self.number, size, self.now_s + wait_s)
            self.singles[lane].append((self.number, size, self.now_s + wait_s))

    @rule(lane=LANES, rows=st.integers(0, 5), size=st.integers(1, 12))
    def add_batch(self, lane: str, rows: int, size: int) -> None:
        """A batch comes, if there is room."""
        if self.buffer.fits(rows, size):
            self.number += 1
            self.buffer.add_batch(lane, self.number, rows, size)
            self.batches[lane].append((self.number, rows, size))

    @rule(lane=LANES)
    def take(self, lane: str) -> None:
        """What is due is taken; its records are the first that came, as many as may be in one."""
        parcel = self.buffer.next(lane, self.now_s)
        if parcel is None:
            assert not self.batches[lane]
            assert all(due_s > self.now_s for _, _, due_s in self.singles[lane])
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
            assert not any((*self.singles.values(), *self.batches.values()))
        else:
            self._gone(parcel)

    @rule(lane=LANES)
    def flush(self, lane: str) -> None:
        """What is flushed is due."""
        waiting = self.buffer.flush()
        assert sorted(waiting) == sorted(self._numbers())
        has_some = bool(self.singles[lane] or self.batches[lane])
        assert has_some == (self.buffer.due_s(lane) == 0.0)
        self.singles = {
            name: [(number, size, 0.0) for number, size, _ in those]
            for name, those in self.singles.items()
        }

    @rule(passed_s=st.floats(0, 3))
    def wait(self, passed_s: float) -> None:
        """Time passes."""
        self.now_s += passed_s

    @invariant()
    def counts_are_sums(self) -> None:
        """Its counts are those of what waits, and of what is under way."""
        singles = [each for those in self.singles.values() for each in those]
        batches = [each for those in self.batches.values() for each in those]
        rows = len(singles) + sum(rows for _, rows, _ in batches)
        size = sum(size for _, size, _ in singles) + sum(size for _, _, size in batches)
        assert rows + sum(each.rows for each in self.under_way) == self.buffer.records
        assert size + sum(each.bytes for each in self.under_way) == self.buffer.bytes
        assert self.buffer.records <= BOUNDS.buffer_records_max
        assert self.buffer.bytes <= BOUNDS.buffer_bytes_max

    def _numbers(self) -> list[int]:
        singles = [number for those in self.singles.values() for number, _, _ in those]
        return singles + [number for those in self.batches.values() for number, _, _ in those]

    def _gone(self, parcel: Parcel[int]) -> None:
        singles, batches = self.singles[parcel.lane], self.batches[parcel.lane]
        if batches and parcel.items == [batches[0][0]]:
            _, rows, size = batches.pop(0)
        else:
            count = len(parcel.items)
            assert parcel.items == [number for number, _, _ in singles[:count]]
            rows, size = count, sum(size for _, size, _ in singles[:count])
            assert rows <= BOUNDS.batch_records_max
            assert size <= BOUNDS.batch_bytes_max or rows == 1
            del singles[:count]
        assert (rows, size) == (parcel.rows, parcel.bytes)


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


def test_what_is_due_does_not_stand_behind_batches_that_come_later() -> None:
    """Records whose time has come are taken before a batch that comes after that."""
    buffer: Buffer[str] = Buffer(BOUNDS)
    buffer.add("a", "record", 1, 1.0)
    buffer.add_batch("a", "batch 1", 2, 1)
    first = buffer.next("a", 1.5)
    buffer.add_batch("a", "batch 2", 2, 1)
    second = buffer.next("a", 1.5)
    assert first is not None
    assert second is not None
    assert (["batch 1"], ["record"]) == (first.items, second.items)


@pytest.mark.parametrize("name", BufferBounds.__struct_fields__)
def test_a_bound_is_at_least_one(name: str) -> None:
    """A bound that nothing fits is refused where it is written."""
    with pytest.raises(UsageError, match=f"{name} is 0; at least 1"):
        BufferBounds(**{name: 0})
