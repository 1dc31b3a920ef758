"""What a sink does wrong is told, holds up itself alone, and is never taken for rows written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99 import Mesh
from agent99.errors import UsageError
from agent99.groups import Event
from agent99.store import open_store
from agent99.systems.analytics import (
    Analytics,
    AnalyticsProcessor,
    FunctionSink,
    Refused,
    Sink,
    SinkWriter,
    Target,
    WindowRow,
)
from tests._wait import eventually

from ._sales import finish, job, revenue, sale, store
from ._sinking import QUICK, ListSink, sink_when

HASTY = msgspec.structs.replace(QUICK, timeout_s=0.05)


@pytest.fixture
def database(tmp_path: Path) -> str:
    """Give the address of the processors' database."""
    return f"sqlite:///{tmp_path}/system.db"


async def _deliver(mesh: Mesh, database: str, sink: Sink) -> Analytics:
    """Have a window close whose row goes to a sink; returns who can be asked."""
    await mesh.host(AnalyticsProcessor(job(revenue(sinks=(sink,))), database))
    await store(mesh, [sale(10)])
    await finish(mesh)
    return Analytics(mesh, "shops")


def test_jobs_refuse_sinks_of_one_group() -> None:
    """Two sinks of a job whose groups would have one name are refused: one would never open."""
    first = revenue(sinks=(ListSink("b-c"),))
    second = replace(first, name="revenue-b", sinks=(ListSink("c"),))
    with pytest.raises(UsageError, match="'shops-v1-revenue-b-c'"):
        job(first, second)


async def test_a_function_need_not_be_a_coroutine_function(mesh: Mesh, database: str) -> None:
    """One that returns at once has done its work by then: it is not called again."""
    calls: list[int] = []

    def take(rows: Sequence[WindowRow], _event: Event) -> None:
        calls.append(len(rows))

    figures = await _deliver(mesh, database, FunctionSink("plain", take, curve=QUICK))
    stats = await sink_when(figures, lambda one: one.delivered == 1, "plain")
    assert ([1], "") == (calls, stats.error)


async def test_a_sink_that_hangs_is_told(mesh: Mesh, database: str) -> None:
    """What takes longer than it may is told as such, and tried again."""
    is_free = asyncio.Event()
    taken: list[WindowRow] = []

    async def hang(rows: Sequence[WindowRow], _event: Event) -> None:
        await is_free.wait()
        taken.extend(rows)

    figures = await _deliver(mesh, database, FunctionSink("hung", hang, curve=HASTY))
    stats = await sink_when(figures, lambda one: one.error, "hung")
    assert "TimeoutError: not within 0.05 s" == stats.error
    is_free.set()
    stats = await sink_when(figures, lambda one: one.delivered, "hung")
    assert (1, "") == (stats.delivered, stats.error)
    assert 1 == len(taken)


@dataclass(eq=False)
class SaysNothing(ListSink):
    """Forgets to return what it refuses: nothing."""

    async def write(self, rows: Sequence[WindowRow], event: Event, /) -> Any:
        """Keep rows."""
        await super().write(rows, event)


async def test_a_sink_that_returns_nothing_refuses_nothing(mesh: Mesh, database: str) -> None:
    """One that has written rows, and says nothing of any, has taken them."""
    sink = SaysNothing()
    figures = await _deliver(mesh, database, sink)
    stats = await sink_when(figures, lambda one: one.delivered or one.error, "list")
    assert (1, 1, "") == (sink.calls, stats.delivered, stats.error)


@dataclass(eq=False)
class OpensBadly(ListSink):
    """Does not open, the first two times."""

    cancels: bool = False
    opened: int = 0

    @asynccontextmanager
    async def open(self, _target: Target, /) -> AsyncGenerator[SinkWriter, None]:
        """Hang, or cancel its task, or give itself."""
        self.opened += 1
        if self.opened <= 2:
            if self.cancels:
                raise asyncio.CancelledError
            await asyncio.Event().wait()
        yield self


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_sink_that_does_not_open_is_told(
    mesh: Mesh, database: str, monkeypatch: pytest.MonkeyPatch, cancels: bool
) -> None:
    """One that hangs when it is opened, or cancels its own task, is told, and opened again."""
    monkeypatch.setattr("agent99.systems.analytics._sinks.AGAIN_S", 0.05)
    sink = OpensBadly(curve=HASTY, cancels=cancels)
    figures = await _deliver(mesh, database, sink)
    stats = await sink_when(figures, lambda one: one.error, "list")
    assert ("cancelled" if cancels else "not within 0.05 s") in stats.error
    stats = await sink_when(figures, lambda one: one.delivered, "list")
    assert (3, "") == (sink.opened, stats.error)


async def test_rows_that_are_none_are_not_refused(mesh: Mesh, database: str) -> None:
    """A sink that refuses what it was not given is wrong; one that says it twice says it once."""
    answers = [
        [Refused(1, "which there is not")],
        [Refused(-1, "the last one")],
        [Refused(0, "bad"), Refused(0, "bad")],
    ]

    async def refuse(_rows: Sequence[WindowRow], _event: Event) -> Sequence[Refused]:
        return answers.pop(0)

    figures = await _deliver(mesh, database, FunctionSink("odd", refuse, curve=QUICK))
    stats = await sink_when(figures, lambda one: one.refused, "odd")
    assert (0, 1, 0) == (stats.delivered, stats.refused, stats.refused_events)
    buried = [one async for one in mesh.link.durable.quarantine.records()]
    assert ["bad"] == [one.message for one in buried]


async def test_rows_are_not_written_again_to_be_counted(
    mesh: Mesh, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """While what was taken cannot be noted, the sink is not given it again."""
    calls: list[int] = []
    is_taken, may_end = asyncio.Event(), asyncio.Event()

    async def take(_rows: Sequence[WindowRow], event: Event) -> None:
        calls.append(event.attempt)
        is_taken.set()
        await may_end.wait()

    async with open_store(database, schema="reader") as reader:
        figures = await _deliver(mesh, database, FunctionSink("taken", take, curve=QUICK))
        await is_taken.wait()
        away, back = "analytics_sink RENAME TO away", "away RENAME TO analytics_sink"
        await reader.transaction(lambda one: one.execute(f"ALTER TABLE {away}"))
        may_end.set()
        await eventually(lambda: caplog.text.count("no such table: analytics_sink") >= 2)
        await reader.transaction(lambda one: one.execute(f"ALTER TABLE {back}"))
    stats = await sink_when(figures, lambda one: one.delivered, "taken")
    assert (1, 0, "") == (stats.delivered, stats.refused_events, stats.error)
    assert [1] == calls


async def test_a_version_that_was_dropped_has_no_sinks(mesh: Mesh, database: str) -> None:
    """What was counted of the sinks of a version goes with it."""
    old = AnalyticsProcessor(job(revenue(sinks=(ListSink(),))), database)
    for agent in (old, AnalyticsProcessor(job(revenue(), version=2), database)):
        await mesh.host(agent)
    await store(mesh, [sale(10)])
    await finish(mesh)
    figures = Analytics(mesh, "shops", version=1)
    await sink_when(figures, lambda one: one.delivered, "list")
    await figures.switch(2)
    await mesh.stop(old)
    await figures.drop(1)
    async with open_store(database, schema="reader") as reader:
        assert not await reader.read(lambda one: one.execute("SELECT * FROM analytics_sink").all())
