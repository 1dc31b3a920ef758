"""The clock: the real one by its contract, deadlines against a naive model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent99.clock import (
    Deadlines,
    DeadlineSlots,
    DeadlineTicket,
    SystemClock,
    TimeLimit,
    wait_done,
    wait_ended,
)
from agent99.testing import ManualClock, check_clock

RESOLUTION_S = 0.01
_EPSILON_S = 1e-9

# Whole milliseconds, so that slots are shared, borders are met and some deadlines have passed.
_delays = st.integers(-30, 400).map(lambda ms: ms / 1000)


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing but turns."""
    try:
        while True:
            coroutine.send(None)
    except StopIteration:
        return


class Entry(NamedTuple):
    """What the naive model knows of one deadline."""

    deadline_s: float
    added_s: float


class DeadlinesModel(RuleBasedStateMachine):
    """Add, remove and let time pass, also from inside a callback."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.deadlines = Deadlines(self.clock, resolution_s=RESOLUTION_S)
        self.waiting: dict[int, Entry] = {}
        self.tickets: dict[int, DeadlineTicket] = {}
        self.wrong: list[str] = []
        self.count = 0

    def add(self, delay_s: float, then: Callable[[], None]) -> None:
        """Add one deadline to the model and to the real thing."""
        self.count = number = self.count + 1
        now_s = self.clock.monotonic_s()
        self.waiting[number] = Entry(max(0.0, now_s + delay_s), now_s)

        def expire() -> None:
            entry = self.waiting.pop(number, None)
            now_s = self.clock.monotonic_s()
            if entry is None:
                self.wrong.append(f"{number} fired twice, or after it was removed")
            elif now_s < entry.deadline_s - _EPSILON_S:
                self.wrong.append(f"{number} fired {entry.deadline_s - now_s} s early")
            then()

        self.tickets[number] = self.deadlines.add(self.waiting[number].deadline_s, expire)

    def remove(self, number: int) -> None:
        """Remove one deadline, whether it is waiting or not."""
        self.waiting.pop(number, None)
        self.deadlines.remove(self.tickets[number])

    @rule(delay_s=_delays)
    def add_one(self, delay_s: float) -> None:
        """Add a deadline."""
        self.add(delay_s, lambda: None)

    @rule(delay_s=_delays, inner_s=_delays)
    def add_one_that_adds(self, delay_s: float, inner_s: float) -> None:
        """Add a deadline whose callback adds another."""
        self.add(delay_s, lambda: self.add(inner_s, lambda: None))

    @rule(delay_s=_delays, data=st.integers(0, 1_000_000), inner_s=_delays)
    def add_one_that_removes(self, delay_s: float, data: int, inner_s: float) -> None:
        """Add a deadline whose callback removes another and adds one."""

        def then() -> None:
            self.add(inner_s, lambda: None)
            self.remove(1 + data % self.count)

        self.add(delay_s, then)

    @rule(data=st.integers(0, 1_000_000))
    def remove_one(self, data: int) -> None:
        """Remove a deadline, perhaps again, perhaps too late."""
        if self.count:
            self.remove(1 + data % self.count)

    @rule(delay_s=st.integers(0, 300).map(lambda ms: ms / 1000))
    def advance(self, delay_s: float) -> None:
        """Let time pass."""
        drive(self.clock.advance(delay_s))
        now_s = self.clock.monotonic_s()
        for number, entry in self.waiting.items():
            due_s = max(entry.deadline_s, entry.added_s) + RESOLUTION_S
            assert due_s > now_s - _EPSILON_S, f"{number} is {now_s - due_s} s late"

    @rule()
    def close(self) -> None:
        """Forget everything."""
        self.deadlines.close()
        self.waiting.clear()

    @rule(delay_s=_delays)
    def add_one_that_closes(self, delay_s: float) -> None:
        """Add a deadline whose callback forgets everything."""
        self.add(delay_s, self.close)

    @invariant()
    def agrees(self) -> None:
        """What waits in the model waits in the real thing, and nothing went wrong."""
        assert self.wrong == []
        assert len(self.waiting) == len(self.deadlines)


TestDeadlines = DeadlinesModel.TestCase
TestDeadlines.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


async def test_system_clock_keeps_the_contract() -> None:
    """The real clock passes the public contract of clocks."""
    await check_clock(SystemClock)


async def test_callback_that_adds_a_later_deadline_delays_nobody() -> None:
    """A deadline added while others expire does not push the next one back."""
    clock, fired = ManualClock(), []
    deadlines = Deadlines(clock, resolution_s=RESOLUTION_S)

    def first() -> None:
        fired.append("first")
        deadlines.add(1.0, lambda: fired.append("late"))

    deadlines.add(0.1, first)
    deadlines.add(0.2, lambda: fired.append("second"))
    await clock.advance(0.3)
    assert ["first", "second"] == fired


async def test_close_inside_a_callback_forgets_what_is_due_too() -> None:
    """After `close` nothing expires, even what was due at the same moment."""
    clock, fired = ManualClock(), []
    deadlines = Deadlines(clock, resolution_s=RESOLUTION_S)
    deadlines.add(0.1, deadlines.close)
    deadlines.add(0.1, lambda: fired.append("same slot"))
    deadlines.add(0.15, lambda: fired.append("next slot"))
    clock_ahead = clock.advance(0.5)
    await clock_ahead
    assert ([], 0) == (fired, len(deadlines))


async def test_late_release_leaves_a_newer_slot_alone() -> None:
    """A slot that expired cannot take a newer one of the same moment with it."""
    clock, fired = ManualClock(), []
    deadlines = Deadlines(clock, resolution_s=RESOLUTION_S)
    tickets: list[DeadlineTicket] = []

    def again() -> None:
        deadlines.add(0.1, lambda: fired.append("again"))
        deadlines.remove(tickets[0])

    deadlines.add(0.1, again)
    tickets.append(deadlines.add(0.1, lambda: fired.append("removed")))
    await clock.advance(0.5)
    assert ["again"] == fired


async def test_slot_used_last_is_forgotten_when_it_expires() -> None:
    """A deadline that has passed already is not put into a slot that has just expired."""
    clock, fired = ManualClock(), []
    deadlines = Deadlines(clock, resolution_s=RESOLUTION_S)
    times = (0.1, 0.115, 0.125)

    def first() -> None:
        deadlines.add(times[1], lambda: fired.append("into the next slot"))

    def third() -> None:
        deadlines.add(times[1], lambda: fired.append("into the slot that expired"))

    deadlines.add(times[0], first)
    deadlines.add(times[1], lambda: fired.append("second"))
    deadlines.add(times[2], third)
    clock._now_s = 0.5  # a busy loop: the timer comes late, and all three are due at once
    await clock.advance(0.1)
    assert ["second", "into the next slot", "into the slot that expired"] == fired


async def test_slots_hand_over_key_and_value() -> None:
    """What expires is the entry that was put into the slot."""
    clock, fired = ManualClock(), []
    slots: DeadlineSlots[str, int] = DeadlineSlots(clock, lambda *entry: fired.append(entry))
    slots.slot(0.1)["a"] = 1
    slots.slot(0.1)["b"] = 2
    slots.slot(0.3)["c"] = 3
    assert "DeadlineSlots(pending=3)" == repr(slots)
    await clock.advance(0.2)
    assert ([("a", 1), ("b", 2)], 1) == (fired, len(slots))
    slots.close()
    await clock.advance(1.0)
    assert 2 == len(fired)


async def test_emptied_slot_costs_no_late_timer() -> None:
    """A deadline is kept after its slot was emptied, released and used again."""
    clock, fired = ManualClock(), []
    deadlines = Deadlines(clock, resolution_s=RESOLUTION_S)
    deadlines.remove(deadlines.add(0.1, lambda: fired.append("removed")))
    deadlines.add(0.5, lambda: fired.append("other"))
    deadlines.add(0.1, lambda: fired.append("kept"))
    await clock.advance(0.2)
    assert ["kept"] == fired


async def test_deadline_beyond_the_longest_timer_is_kept() -> None:
    """A deadline days away expires on its day, although timers are bounded."""
    clock, fired = ManualClock(), []
    deadlines = Deadlines(clock, resolution_s=RESOLUTION_S)
    deadlines.add(200_000.0, lambda: fired.append(clock.monotonic_s()))
    await clock.advance(199_999.0)
    assert [] == fired
    await clock.advance(2.0)
    assert 200_000.0 <= fired[0] <= 200_000.0 + 2 * RESOLUTION_S


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (SystemClock(), "SystemClock()"),
        (Deadlines(SystemClock()), "Deadlines(pending=0)"),
    ],
)
def test_repr_says_what_it_is(thing: object, expected: str) -> None:
    """Every class says what it is."""
    assert expected == repr(thing)


async def test_wait_for_a_future_ends_with_it_or_with_the_time() -> None:
    """It tells which; the future goes on when the time is up, and nothing is left behind."""
    clock = ManualClock()
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(wait_done(clock, future, 5.0))
    await clock.advance(5.0)
    assert (False, False) == (await waiting, future.done())
    waiting = asyncio.ensure_future(wait_done(clock, future, 5.0))
    await clock.advance(1.0)
    future.set_result(None)
    assert await waiting
    await clock.advance(0)
    assert 1 == len(asyncio.all_tasks())


async def test_a_block_ends_when_its_time_is_up() -> None:
    """What it waits for is cancelled, and it raises `TimeoutError`; its task goes on."""
    clock = ManualClock()
    deadlines = Deadlines(clock)

    async def run() -> str:
        limit = TimeLimit(deadlines, clock, 5.0)
        with pytest.raises(TimeoutError), limit:
            await asyncio.Event().wait()
        assert "TimeLimit(5.0 s, is_up=True)" == repr(limit)
        current = asyncio.current_task()
        assert current is not None
        return f"goes on, cancelling={current.cancelling()}"

    task = asyncio.create_task(run())
    await clock.advance(4.9)
    assert not task.done()
    await clock.advance(0.2)
    assert "goes on, cancelling=0" == await task


async def test_a_block_that_ends_in_time_leaves_nothing_behind() -> None:
    """Its result and its errors come through, a `TimeoutError` of its own among them."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    with TimeLimit(deadlines, clock, 5.0):
        assert 1 == len(deadlines)
    for error in (ValueError("x"), TimeoutError("its own"), asyncio.CancelledError()):
        with pytest.raises(type(error)) as raised, TimeLimit(deadlines, clock, 5.0):
            raise error
        assert error is raised.value
    assert 0 == len(deadlines)


async def test_who_is_cancelled_as_well_is_cancelled() -> None:
    """When somebody else cancels the task at the same moment, that is what it learns."""
    clock = ManualClock()
    deadlines = Deadlines(clock)

    async def run() -> None:
        with TimeLimit(deadlines, clock, 5.0):
            await asyncio.Event().wait()

    noted: list[bool] = []
    note = noted.append
    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    deadlines.add(5.0, lambda: note(task.cancel()))  # in the same turn of the loop
    await clock.advance(5.1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [True] == noted


async def test_a_wait_ends_with_its_future_or_with_the_time() -> None:
    """It tells which; the future goes on when the time is up, and nothing is left behind."""
    clock = ManualClock()
    deadlines = Deadlines(clock)
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wait_ended(deadlines, future, 5.0))
    await clock.advance(5.1)
    assert (False, False) == (await waiting, future.done())
    waiting = asyncio.create_task(wait_ended(deadlines, future, 10.0))
    await clock.advance(1.0)
    future.set_result(None)
    assert await waiting
    assert await wait_ended(deadlines, future, 10.0)
    assert 0 == len(deadlines)
