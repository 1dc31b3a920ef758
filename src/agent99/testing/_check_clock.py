"""The contract of clocks, for any implementation and without a test framework."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from agent99.clock import Clock

AnyClock = TypeVar("AnyClock", bound=Clock)

_UNIT_S = 0.02
"""Long against a loop's resolution, short against patience."""
_RESOLUTION_S = 0.002
"""Event loops round their timers to a millisecond, and some round down."""
_WALL_US_MIN = 1_500_000_000_000_000
"""2017, in microseconds: a wall clock in other units is far from it."""


async def check_clock(
    make: Callable[[], AnyClock],
    *,
    advance: Callable[[AnyClock, float], Awaitable[None]] | None = None,
) -> None:
    """Hold an implementation of `Clock` to its contract.

    Args:
        make: Returns a fresh clock.
        advance: Lets that many seconds pass on a clock that stands still; by default the event
            loop's own time passes.

    Raises:
        AssertionError: a rule is broken; the message says which.
    """
    pass_time = advance or _let_pass
    for rule in (
        _time_goes_forward,
        _timers_fire_once_in_time_and_in_order,
        _cancelled_timers_stay_silent,
        _sleepers_wake_in_order,
        _sleep_of_nothing_gives_a_turn,
        _sleep_can_be_cancelled,
    ):
        await rule(make(), pass_time)


async def _let_pass(_clock: Clock, delay_s: float) -> None:
    loop = asyncio.get_running_loop()
    passed = asyncio.Event()
    loop.call_later(delay_s, passed.set)
    await passed.wait()
    await _turns()


async def _turns() -> None:
    """Let tasks that are ready run, and those that they wake."""
    loop = asyncio.get_running_loop()
    for _ in range(5):
        turn: asyncio.Future[None] = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def _time_goes_forward(
    clock: AnyClock, advance: Callable[[AnyClock, float], Awaitable[None]]
) -> None:
    started_s, started_us = clock.monotonic_s(), clock.wall_us()
    assert isinstance(started_us, int), "wall_us is a whole number of microseconds"
    assert started_us > _WALL_US_MIN, f"wall_us counts from 1970: {started_us}"
    seen_s = started_s
    for _ in range(3):
        await advance(clock, _UNIT_S)
        now_s = clock.monotonic_s()
        assert now_s >= seen_s, f"monotonic_s went back from {seen_s} to {now_s}"
        seen_s = now_s
    passed_s = seen_s - started_s
    assert passed_s >= 3 * _UNIT_S - _RESOLUTION_S, f"only {passed_s} s passed"
    passed_us = clock.wall_us() - started_us
    assert abs(passed_us / 1e6 - passed_s) < 1.0, f"{passed_us} µs are not {passed_s} s"


async def _timers_fire_once_in_time_and_in_order(
    clock: AnyClock, advance: Callable[[AnyClock, float], Awaitable[None]]
) -> None:
    fired: list[int] = []
    late_s: list[float] = []
    started_s = clock.monotonic_s()

    def note(units: int) -> None:
        fired.append(units)
        late_s.append(clock.monotonic_s() - started_s - units * _UNIT_S)

    def note_and_set() -> None:
        note(1)
        clock.call_later(_UNIT_S / 2, lambda: fired.append(10))

    for units in (3, 2):
        clock.call_later(units * _UNIT_S, partial(note, units))
    clock.call_later(_UNIT_S, note_and_set)
    clock.call_later(0, lambda: note(0))
    clock.call_later(-1, lambda: note(0))
    assert not fired, "call_later called back before it returned"
    await advance(clock, 5 * _UNIT_S)
    assert fired == [0, 0, 1, 10, 2, 3], f"timers fired in the order {fired}"
    assert min(late_s) >= -_RESOLUTION_S, f"a timer fired {-min(late_s)} s early"
    await advance(clock, 2 * _UNIT_S)
    assert len(fired) == 6, f"timers fired again: {fired}"


async def _cancelled_timers_stay_silent(
    clock: AnyClock, advance: Callable[[AnyClock, float], Awaitable[None]]
) -> None:
    fired: list[str] = []
    kept = clock.call_later(_UNIT_S, lambda: fired.append("kept"))
    cancelled = clock.call_later(_UNIT_S, lambda: fired.append("cancelled"))
    victim = clock.call_later(3 * _UNIT_S, lambda: fired.append("victim"))
    clock.call_later(2 * _UNIT_S, victim.cancel)
    cancelled.cancel()
    cancelled.cancel()
    await advance(clock, 4 * _UNIT_S)
    assert fired == ["kept"], f"cancelled timers fired: {fired}"
    kept.cancel()


async def _sleepers_wake_in_order(
    clock: AnyClock, advance: Callable[[AnyClock, float], Awaitable[None]]
) -> None:
    woken: list[int] = []
    early_s: list[float] = []

    async def sleep(units: int) -> None:
        started_s = clock.monotonic_s()
        await clock.sleep(units * _UNIT_S)
        early_s.append(units * _UNIT_S - (clock.monotonic_s() - started_s))
        woken.append(units)

    async with asyncio.TaskGroup() as group:
        for units in (3, 1, 2):
            group.create_task(sleep(units))
        await _turns()
        assert not woken, "sleep returned before any time passed"
        await advance(clock, 4 * _UNIT_S)
    assert woken == [1, 2, 3], f"sleepers woke in the order {woken}"
    assert max(early_s) <= _RESOLUTION_S, f"a sleeper woke {max(early_s)} s early"


async def _sleep_of_nothing_gives_a_turn(
    clock: AnyClock, _advance: Callable[[AnyClock, float], Awaitable[None]]
) -> None:
    others: list[str] = []

    async def other() -> None:
        others.append("ran")

    task = asyncio.create_task(other())
    await clock.sleep(0)
    assert others, "sleep(0) gave no other task a turn"
    await clock.sleep(-1)
    await task


async def _sleep_can_be_cancelled(
    clock: AnyClock, advance: Callable[[AnyClock, float], Awaitable[None]]
) -> None:
    task = asyncio.ensure_future(clock.sleep(2 * _UNIT_S))
    await _turns()
    task.cancel()
    await _turns()
    assert task.cancelled(), "a cancelled sleep went on"
    await advance(clock, 3 * _UNIT_S)
