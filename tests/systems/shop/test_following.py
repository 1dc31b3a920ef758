"""Waiting for what follows the orders, whatever order processing says, or does not say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent99 import Agent, Failure, Mesh, Settings, operation
from agent99.clock import SystemClock
from agent99.systems.shop import _following
from agent99.systems.shop._following import follow_up
from agent99.systems.shop._model import Backlog
from agent99.testing import MemoryEngine


class OrderProcessing(Agent):
    """Says what is left, one answer after the other; the last of them again and again."""

    capabilities = ("order_processing",)

    def __init__(self, *answers: Backlog | None) -> None:
        self.answers = list(answers)

    @operation
    async def backlog(self) -> Backlog:
        """Say it, or fail."""
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise Failure("the store is away", code="STORE_UNAVAILABLE", retryable=True)
        return answer


class Words:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.done = 0

    def warn(self, sentence: str) -> None:
        """Keep it."""
        self.told.append(sentence)

    tell = warn

    @contextmanager
    def bar(self, what: str, total: int) -> Iterator[Words]:
        """Give itself."""
        del what, total
        yield self

    def advance(self, count: int = 1) -> None:
        """Count it."""
        self.done += count

    def show(self, figures: object) -> None:
        """Show nothing."""


@pytest.fixture
async def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    """Give a mesh in memory, and little patience."""
    monkeypatch.setattr(_following, "LOOK_S", 0.01)
    monkeypatch.setattr(_following, "TELL_S", 0.1)
    monkeypatch.setattr(_following, "STANDSTILL_S", 0.3)
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")
    async with Mesh(settings=settings, engine=MemoryEngine()) as opened:
        yield opened


async def test_it_ends_when_all_is_done(mesh: Mesh) -> None:
    """Shipments, messages and events; an answer that does not come, first or later, is none."""
    steps = [None, Backlog(2, 2, 9), None, Backlog(1, 0, 3), Backlog(0, 0, 1), Backlog(0, 0, 0)]
    agent, words = OrderProcessing(*steps), Words()
    await mesh.host(agent)
    await follow_up(mesh, SystemClock(), words)
    assert ([Backlog(0, 0, 0)], 13, []) == (agent.answers, words.done, words.told)


@pytest.mark.parametrize(
    ("answer", "said"),
    [(Backlog(2, 1, 0), "that are left: 3"), (None, "does not say how many")],
)
async def test_it_says_for_what_it_waits_and_gives_up(
    mesh: Mesh, answer: Backlog | None, said: str
) -> None:
    """Once each, when nothing moves."""
    words = Words()
    await mesh.host(OrderProcessing(answer))
    await follow_up(mesh, SystemClock(), words)
    waiting, given_up = words.told
    assert said in waiting
    assert "takes 30 s" in waiting
    assert given_up.startswith("nothing moves any more: ")
