"""Hooks: who hears what, and that nobody is harmed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.errors import UsageError
from agent99.observe import (
    Hooks,
    Load,
    MessageDropped,
    Record,
    RequestFinished,
    TraceContext,
)
from agent99.observe._hooks import _SLOTS
from tests.observe._records import finished, one_of_each

SPAN = TraceContext("1" * 32, "2" * 16)


def _tell(hooks: Hooks, record: Record) -> bool:
    """Do what a call site does; returns whether anybody listened."""
    tell: Any = getattr(hooks, _SLOTS[type(record)])
    if tell is not None:
        tell(record)
    return tell is not None


@pytest.mark.parametrize("record", one_of_each(), ids=lambda record: type(record).__name__)
def test_record_is_told_to_its_listeners_alone(record: Record) -> None:
    """Each kind of record has listeners of its own, and None where there are none."""
    hooks = Hooks()
    heard: list[Any] = []
    assert not _tell(hooks, record)
    forget = hooks.listen(type(record), heard.append)
    told = [one for one in one_of_each() if _tell(hooks, one)]
    assert [type(record)] == [type(one) for one in told] == [type(one) for one in heard]
    forget()
    assert not _tell(hooks, record)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=40))
def test_listeners_come_and_go_like_a_list(steps: list[tuple[bool, int]]) -> None:
    """Whoever came and did not go hears each record once, in the order of coming."""
    hooks = Hooks()
    heard: list[int] = []
    here: list[int] = []
    ends: dict[int, Any] = {}
    for comes, name in steps:
        if comes and name not in here:
            ends[name] = hooks.listen(RequestFinished, lambda _, name=name: heard.append(name))
            here.append(name)
        elif not comes and name in ends:
            ends[name]()
            ends[name]()  # once more: it changes nothing
            here = [one for one in here if one != name]
        heard.clear()
        assert bool(here) == _tell(hooks, finished())
        assert here == heard


@pytest.mark.parametrize("error", [ValueError("mine"), asyncio.CancelledError()])
def test_listener_that_raises_harms_nobody(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """What a listener raises is logged; the call site and the other listeners see nothing of it."""
    hooks = Hooks()
    heard: list[RequestFinished] = []

    def fail(_: RequestFinished) -> None:
        raise error

    hooks.listen(RequestFinished, fail)
    hooks.listen(RequestFinished, heard.append)
    with caplog.at_level(logging.ERROR, "agent99.observe"):
        for _ in range(100):
            assert _tell(hooks, finished())
    assert 100 == len(heard)
    # The 1st, 2nd, 4th, … 64th.
    assert 7 == len(caplog.records)
    assert caplog.records[0].exc_info is not None


def test_interrupt_goes_through() -> None:
    """A listener's KeyboardInterrupt ends the process, as it should."""
    hooks = Hooks()

    def interrupt(_: RequestFinished) -> None:
        raise KeyboardInterrupt

    hooks.listen(RequestFinished, interrupt)
    with pytest.raises(KeyboardInterrupt):
        _tell(hooks, finished())


def test_what_is_no_record_is_refused() -> None:
    """Listening to something that is never told is a mistake, said at once."""
    wrong: Any = str
    with pytest.raises(UsageError, match="MessageDropped"):
        Hooks().listen(wrong, print)


def test_repr_says_what_is_heard() -> None:
    """Hooks show which records have how many listeners."""
    hooks = Hooks()
    assert "Hooks()" == repr(hooks)
    hooks.listen(MessageDropped, print)
    hooks.listen(MessageDropped, print)
    assert "Hooks(dropped=2)" == repr(hooks)


def test_loads_are_asked_of_everybody(caplog: pytest.LogCaptureFixture) -> None:
    """Each instance tells its load when asked; one that fails is left out and logged."""
    hooks = Hooks()
    first, second = Load("stock", "1", 3, 1), Load("bank", "2", 0, 0)

    def fail() -> Load:
        raise RuntimeError("gone")

    forget = hooks.add_load(lambda: first)
    hooks.add_load(fail)
    hooks.add_load(lambda: second)
    assert [first, second] == hooks.loads()
    assert 1 == len(caplog.records)
    forget()
    forget()
    assert [second] == hooks.loads()


class _Tracing:
    """A tracing library."""

    def __init__(self, error: Exception | None = None) -> None:
        self.entered: list[TraceContext] = []
        self._error = error

    def current(self) -> TraceContext | None:
        if self._error is not None:
            raise self._error
        return SPAN

    def enter(self, span: TraceContext) -> None:
        if self._error is not None:
            raise self._error
        self.entered.append(span)


def test_one_tracing_library_is_in_use() -> None:
    """A tracing library is asked and told while it is in use, and a second one is refused."""
    hooks = Hooks()
    tracing = _Tracing()
    end = hooks.use_tracing(tracing)
    assert hooks.current is not None
    assert hooks.enter is not None
    assert SPAN == hooks.current()
    hooks.enter(SPAN)
    assert [SPAN] == tracing.entered
    with pytest.raises(UsageError, match="in use"):
        hooks.use_tracing(_Tracing())
    end()
    assert (None, None) == (hooks.current, hooks.enter)
    hooks.use_tracing(_Tracing())
    end()  # of the one before: it changes nothing
    assert hooks.current is not None


def test_tracing_library_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A tracing library that fails knows no span, and the log says so."""
    hooks = Hooks()
    hooks.use_tracing(_Tracing(RuntimeError("broken")))
    assert hooks.current is not None
    assert hooks.enter is not None
    assert hooks.current() is None
    hooks.enter(SPAN)
    assert 2 == len(caplog.records)
