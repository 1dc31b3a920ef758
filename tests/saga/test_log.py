"""What one instance believes of a saga's journal is what the journal has."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agent99.clock import Deadlines, SystemClock
from agent99.errors import DeadlineExceededError
from agent99.ids import SystemIds
from agent99.journal import MemoryJournal, StreamConfig
from agent99.saga._halt import Halt
from agent99.saga._log import LostError, Place, SagaLog
from agent99.saga._records import Cancel, Noted, Started, StepId, Taken, encode_record
from agent99.saga._run import Run
from tests._wait import eventually


class _Slow(MemoryJournal):
    """Stores at once, and gives the receipt when it is told to."""

    def __init__(self) -> None:
        super().__init__(clock=SystemClock())
        self.stored = asyncio.Event()
        self.receipt = asyncio.Event()
        self.receipt.set()
        self.message_ids: list[str] = []
        self.reads_in_vain = 0
        self.on_read: Callable[[], None] | None = None

    async def append(self, *args: Any, **options: Any) -> Any:
        self.message_ids.append(options["message_id"])
        stored = await super().append(*args, **options)
        self.stored.set()
        await self.receipt.wait()
        return stored

    def read(self, *args: Any, **options: Any) -> Any:
        if self.reads_in_vain:
            self.reads_in_vain -= 1
            raise DeadlineExceededError("the server is away")
        if self.on_read is not None:
            self.on_read()
        return super().read(*args, **options)


async def _begun(journal: MemoryJournal) -> SagaLog:
    await journal.ensure_stream(StreamConfig(name="S", subjects=("saga.>",)))
    place = Place("S", "saga.x", "x")
    log = SagaLog(journal, place, "me", clock=SystemClock(), ids=SystemIds())
    started = Started(
        operation="o",
        version=1,
        owner="me",
        fingerprint="",
        request=msgspec.Raw(b"{}"),
        event_id="e",
        at_us=1,
    )
    assert await log.begin(started)
    return log


def _noted(name: str) -> Noted:
    return Noted(step=StepId(name), at_us=2)


async def test_cancelled_write_is_known() -> None:
    """A writer that is cancelled after its record was stored leaves it known, its id unused."""
    journal = _Slow()
    log = await _begun(journal)
    journal.stored.clear()
    journal.receipt.clear()
    writing = asyncio.create_task(log.write(_noted("a")))
    await journal.stored.wait()
    writing.cancel()
    asyncio.get_running_loop().call_soon(journal.receipt.set)
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert log.history.knows(StepId("a"))
    await log.write(_noted("b"))
    assert len(journal.message_ids) == len(set(journal.message_ids)) == 3


async def test_lost_end_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Where the journal lost its last record, the writer lets go, says so, and tries no more."""
    journal = _Slow()
    log = await _begun(journal)
    await log.write(_noted("a"))
    await journal.delete("S", log.history.sequence)
    with pytest.raises(LostError):
        async with asyncio.timeout(1):
            await log.write(_noted("b"))
    assert len(journal.message_ids) == 3
    assert "has lost its end" in caplog.text


async def test_look_outlives_an_outage() -> None:
    """A look that meets a server that is away looks again, and is no error of the function's."""
    journal = _Slow()
    log = await _begun(journal)
    clock = SystemClock()
    run = Run(log, clock, SystemIds(), Deadlines(clock))
    await journal.append("saga.x", encode_record(Cancel(at_us=2)), message_id="other's")
    journal.reads_in_vain = 2
    run.look()
    with pytest.raises(Halt) as halted:
        await run.check_wanted()
    assert halted.value.reason == "turned"
    assert journal.reads_in_vain == 0
    assert not run.pauses.is_to_look


async def test_who_stops_while_it_looks_begins_nothing() -> None:
    """A run that is told to leave while it reads its journal leaves, and waits for nothing more."""
    journal = _Slow()
    log = await _begun(journal)
    clock = SystemClock()
    run = Run(log, clock, SystemIds(), Deadlines(clock))
    journal.on_read = run.leave
    run.look()
    with pytest.raises(Halt) as halted:
        await run.check_wanted()
    assert halted.value.reason == "left"


async def test_who_stops_does_not_wait_for_a_server_that_is_away() -> None:
    """A look that is tried again and again ends when its instance stops; the next one looks."""
    journal = _Slow()
    log = await _begun(journal)
    clock = SystemClock()
    run = Run(log, clock, SystemIds(), Deadlines(clock))
    journal.reads_in_vain = 1_000_000
    run.look()
    looking = asyncio.create_task(run.check_wanted())
    await eventually(lambda: journal.reads_in_vain < 1_000_000)
    run.leave()
    with pytest.raises(Halt) as halted:
        async with asyncio.timeout(1):
            await looking
    assert halted.value.reason == "left"
    assert journal.reads_in_vain > 999_990


async def test_who_waited_while_it_was_lost_writes_nothing() -> None:
    """Steps side by side write one after the other: what one learns, the next one knows."""
    journal = _Slow()
    log = await _begun(journal)
    taken = encode_record(Taken(owner="another", at_us=2))
    await journal.append("saga.x", taken, message_id="another's")
    writing = (log.write(_noted(name)) for name in ("a", "b", "c"))
    lost = await asyncio.gather(*writing, return_exceptions=True)
    assert [LostError] * 3 == [type(each) for each in lost]
    assert 2 == len([each async for each in journal.read("S")])
