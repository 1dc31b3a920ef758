"""A blocked event loop is reported while it is blocked, and told when it is back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent99 import Agent, Mesh, Settings, operation
from agent99.agent._watchdog import Watchdog
from agent99.clock import SystemClock
from agent99.observe import Hooks, LoopBlocked
from agent99.testing import MemoryEngine
from tests._wait import eventually, wait_until

NAME = "agent99-watchdog"


class JumpingClock(SystemClock):
    """A clock that can jump: what happens then is what happens after so long a block."""

    def __init__(self) -> None:
        self.jumped_s = 0.0
        self.looks = 0
        """How often a thread other than the loop's has asked for the time."""
        self._loop_thread = threading.get_ident()

    def monotonic_s(self) -> float:
        """Return the time, and count who asks."""
        self.looks += threading.get_ident() != self._loop_thread
        return SystemClock.monotonic_s() + self.jumped_s


class Starter(Agent):
    """Holds up its loop before it serves."""

    capabilities = ("starter",)

    def __init__(self, clock: JumpingClock) -> None:
        self._clock = clock

    async def start(self) -> None:
        """Let the loop be away."""
        self._clock.jumped_s += 5
        _wait(self._clock)

    @operation
    async def nothing(self) -> None:
        """Do nothing."""


class Holder(Agent):
    """Holds up its loop."""

    capabilities = ("holder",)

    def __init__(self, clock: JumpingClock) -> None:
        self._clock = clock

    @operation
    async def hold(self, seconds: float) -> None:
        """Let the loop be away for so long, and return after the watchdog has looked thrice."""
        self._clock.jumped_s += seconds
        _wait(self._clock)


def _wait(clock: JumpingClock) -> None:
    looks = clock.looks + 3
    wait_until(lambda: clock.looks >= looks)


@pytest.fixture
async def clock() -> JumpingClock:
    """Give the mesh's clock."""
    return JumpingClock()


@pytest.fixture
async def mesh(tmp_path: Path, clock: JumpingClock) -> AsyncIterator[Mesh]:
    """Give a mesh that hosts nobody yet."""
    settings = Settings(project=tmp_path, state_folder=tmp_path, mesh="t")
    async with Mesh(settings=settings, engine=MemoryEngine(clock=clock), clock=clock) as made:
        yield made


def watchdogs() -> int:
    """Return how many of its threads there are."""
    return sum(thread.name == NAME for thread in threading.enumerate())


async def test_who_blocks_the_loop_is_named_while_it_does(
    mesh: Mesh, clock: JumpingClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning with the handler and the stack, one with the total; listeners hear of it once."""
    heard: list[LoopBlocked] = []
    mesh.hooks.listen(LoopBlocked, heard.append)
    await mesh.host(Holder(clock))
    with caplog.at_level(logging.WARNING, "agent99.agent"):
        asking = asyncio.ensure_future(mesh.request("holder", "hold", {"seconds": 5.0}))
        await eventually(lambda: heard)
    (record,) = heard
    assert 5 <= record.lag_s < 7
    assert record.where.startswith("Holder.hold (")
    assert f"{__file__}:" in record.where
    during, after = (one.getMessage() for one in caplog.records)
    assert during.startswith("the event loop has been blocked for ")
    assert f" in {record.where}, and still is:\n" in during
    assert "in _wait\n" in during
    assert f"the event loop was blocked for {record.lag_s:.1f} s in {record.where}" == after
    await asyncio.wait((asking,))


async def test_a_start_that_blocks_is_named(mesh: Mesh, clock: JumpingClock) -> None:
    """What an agent does before it serves is looked at as well."""
    heard: list[LoopBlocked] = []
    mesh.hooks.listen(LoopBlocked, heard.append)
    await mesh.host(Starter(clock))
    await eventually(lambda: heard)
    assert heard[0].where.startswith("Starter.start (")


async def test_a_short_block_is_no_news(
    mesh: Mesh, clock: JumpingClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Handlers that compute for less than a second are not reported."""
    heard: list[LoopBlocked] = []
    mesh.hooks.listen(LoopBlocked, heard.append)
    await mesh.host(Holder(clock))
    (dog,) = (mesh._hosting._watchdog,)
    assert dog is not None
    clock.jumped_s += 0.9
    due_s = dog._due_s
    await eventually(lambda: dog._due_s > due_s + 0.6)  # the beat after the one that was late
    assert ([], []) == (heard, caplog.records)


async def test_a_process_that_stood_still_blames_nobody(mesh: Mesh, clock: JumpingClock) -> None:
    """A process that was stopped, or its machine, was away with its loop idle."""
    heard: list[LoopBlocked] = []
    mesh.hooks.listen(LoopBlocked, heard.append)
    await mesh.host(Holder(clock))
    clock.jumped_s += 60
    await eventually(lambda: heard)
    assert heard[0].lag_s >= 59
    assert "" == heard[0].where


async def test_a_block_that_was_not_seen_blames_nobody(clock: JumpingClock) -> None:
    """What was found of an earlier block is not said of this one, which ended before a look."""
    hooks = Hooks()
    heard: list[LoopBlocked] = []
    hooks.listen(LoopBlocked, heard.append)
    dog = Watchdog(clock, hooks)
    dog._set_timer()
    dog._found = dog._due_s - 1, "somebody"
    clock.jumped_s += 5
    dog._beat()
    dog.close()
    assert [""] == [record.where for record in heard]


async def test_the_thread_is_there_while_somebody_is_hosted(
    mesh: Mesh, clock: JumpingClock
) -> None:
    """One for each mesh that hosts, whatever it hosts; none where nobody is, none afterwards."""
    before = watchdogs()
    with pytest.raises(Exception, match="nobody"):
        await mesh.request("holder", "hold", {"seconds": 1})
    assert before == watchdogs()
    await mesh.host(Holder(clock), Holder(clock))
    assert before + 1 == watchdogs()
    await mesh.aclose()
    await eventually(lambda: watchdogs() <= before)
