"""The inbox: nothing stays behind, and a deadline that another thing overtakes is harmless."""

from __future__ import annotations

import asyncio
from asyncio import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent99.errors import ClosedError, DeadlineExceededError, PermissionDeniedError
from agent99.ids import SeededIds
from agent99.testing import ManualClock
from agent99.wire import ConnectionState, Message
from agent99.wire._events import Events
from agent99.wire._inbox import Inbox


class _World:
    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.clock = ManualClock()
        self.events = Events(loop, ConnectionState.CONNECTED)
        self.inbox = Inbox(
            b"_INBOX.a.b.", clock=self.clock, ids=SeededIds(1), loop=loop, events=self.events
        )

    def answer(self, token: bytes) -> None:
        self.inbox.receive(Message(self.inbox.prefix + token, b"", b"answer"))


async def test_cancelled_are_swept() -> None:
    """Cancelled requests leave long before their deadline, those that wait stay."""
    world = _World()
    kept = [world.inbox.expect(b"a", 60.0)[1] for _ in range(100)]
    for _ in range(100_000):
        world.inbox.expect(b"a", 60.0)[1].cancel()
    assert 1_100 > len(world.inbox) >= len(kept)
    assert not any(future.done() for future in kept)
    world.inbox.end_all()


async def test_forget() -> None:
    """A request that could not be sent leaves nothing behind."""
    world = _World()
    token, future = world.inbox.expect(b"a", 60.0)
    world.inbox.forget(token)
    world.inbox.forget(token)
    assert 0 == len(world.inbox)
    future.cancel()


async def test_denied_without_case() -> None:
    """A complaint about a subject ends its requests, whatever its case."""
    world = _World()
    one, two = (world.inbox.expect(subject, 60.0)[1] for subject in (b"a.B", b"c"))
    assert world.inbox.deny(b"A.b")
    assert not world.inbox.deny(b"x")
    assert not world.inbox.deny_reply(b"elsewhere")
    with pytest.raises(PermissionDeniedError, match=r"publish to 'a.B'"):
        await one
    assert not two.done()
    world.inbox.end_all()
    with pytest.raises(ClosedError):
        await two


_steps = st.lists(
    st.tuples(st.just("expect"), st.integers(min_value=0, max_value=30))
    | st.tuples(st.sampled_from(["answer", "cancel", "advance"]), st.integers(0, 30)),
    max_size=40,
)


@settings(deadline=None)
@given(_steps)
def test_any_order(steps: list[tuple[str, int]]) -> None:
    """Each request ends exactly once, as the first thing that happened to it says."""
    asyncio.run(_run(steps))


async def _run(steps: list[tuple[str, int]]) -> None:
    model = _Model()
    for step, number in steps:
        if step == "expect":
            model.expect(number / 100)
        elif step == "advance":
            await model.advance(number / 100 + 0.02)
        elif model.asked:
            getattr(model, step)(*model.asked[number % len(model.asked)][:2])
    model.check()


class _Model:
    """An inbox, and what each of its requests must come to."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Future[Message], float]] = []
        self._world = _World()
        self._expected: dict[bytes, str] = {}
        self._late = 0

    def expect(self, timeout_s: float) -> None:
        deadline = self._world.clock.monotonic_s() + timeout_s
        self.asked.append((*self._world.inbox.expect(b"a", deadline), deadline))

    async def advance(self, seconds: float) -> None:
        await self._world.clock.advance(seconds)
        for token, _, deadline in self.asked:
            if deadline + 0.01 <= self._world.clock.monotonic_s():
                self._expected.setdefault(token, "expired")

    def answer(self, token: bytes, future: Future[Message]) -> None:
        self._late += token in self._expected or future.done()
        # Within a slot's length of its deadline a request may have expired or not.
        self._expected.setdefault(token, "expired" if future.done() else "answered")
        self._world.answer(token)

    def cancel(self, token: bytes, future: Future[Message]) -> None:
        if future.cancel():
            self._expected[token] = "cancelled"

    def check(self) -> None:
        now_s = self._world.clock.monotonic_s()
        for token, future, deadline in self.asked:
            outcome = _outcome(future)
            assert self._expected.get(token, outcome) == outcome
            assert outcome != "expired" or deadline <= now_s
        assert self._late == self._world.events.dropped["late_answer"]
        self._world.inbox.end_all()
        assert 0 == len(self._world.inbox)
        for _, future, _ in self.asked:
            assert _outcome(future) is not None


def _outcome(future: Future[Message]) -> str | None:
    if not future.done():
        return None
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    if error is None:
        return "answered"
    return "expired" if isinstance(error, DeadlineExceededError) else type(error).__name__
