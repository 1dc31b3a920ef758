"""Firing by a clock that is moved by hand: pauses, jumps, doubts, what stands still, what fails."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from agent99 import Mesh, Settings
from agent99.envelope import Header, Key, Topic, encode_message
from agent99.errors import StreamFullError
from agent99.journal import MemoryJournal, Record
from agent99.schedules import Schedule, Schedules, _book
from agent99.schedules._agenda import Due
from agent99.schedules._book import Book
from agent99.schedules._cron import _EPOCH, _MICROSECOND
from agent99.schedules._firing import Firing
from agent99.schedules._parts import parts_of
from agent99.schedules._schedule import KEPT_US, encode
from agent99.testing import ManualClock, MemoryEngine
from tests._wait import eventually
from tests.schedules._fired import Fired, fired, moment, wait_fired

S = 1_000_000
HOUR_S = 3_600.0


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands at a full hour."""
    return ManualClock(wall_us=1_700_000_000 * S - 1_700_000_000 % 3_600 * S)


@pytest.fixture
async def manual(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Mesh]:
    """Give a mesh in memory, by that clock."""
    settings = Settings(project=tmp_path, state_folder=tmp_path, log_bytes_max=40_000)
    async with Mesh(engine=MemoryEngine(clock=clock), clock=clock, settings=settings) as mesh:
        yield mesh


def jump(clock: ManualClock, seconds: float) -> None:
    """Let a time pass at once in which nobody runs: the machine is off, or sleeps."""
    clock._now_s += seconds


async def dues(mesh: Mesh, since_us: int) -> list[float]:
    """Return the moments that were fired, in hours."""
    return [(event.due_us - since_us) / S / HOUR_S for event in await fired(mesh)]


async def test_each_moment_at_its_time(manual: Mesh, clock: ManualClock) -> None:
    """By one clock an event is stored at its very moment, and not before."""
    since_us = clock.wall_us()
    async with Schedules(manual) as schedules:
        await schedules.every(60, "clock.tick")
        await clock.advance(59.999)
        assert [] == await fired(manual)
        await clock.advance(0.001)
        assert [since_us + 60 * S] == [event.stored_us for event in await fired(manual)]
        await clock.advance(120)
        events = await fired(manual)
    assert [since_us + n * 60 * S for n in (1, 2, 3)] == [event.stored_us for event in events]


@pytest.mark.parametrize(("missed", "expected"), [("once", [1, 2, 7, 8]), ("skip", [1, 7, 8])])
async def test_what_was_missed(
    manual: Mesh, clock: ManualClock, missed: str, expected: list[float]
) -> None:
    """After hours without a process one event makes up for all, or none; then the rule goes on."""
    since_us = clock.wall_us()
    schedules = Schedules(manual)
    await schedules.cron("0 * * * *", "clock.struck", missed=missed)  # type: ignore[arg-type]  # of pytest
    async with schedules:
        jump(clock, HOUR_S)
        await clock.advance(1)
    jump(clock, 5.5 * HOUR_S)
    async with Schedules(manual) as later:
        await clock.advance(1)
        assert (missed == "skip") == later.statistics().passed_by
        jump(clock, 0.5 * HOUR_S)
        await clock.advance(1)
        jump(clock, HOUR_S)
        await clock.advance(1)
        (one,) = await later.list()
    assert expected == await dues(manual, since_us)
    assert len(expected) == one.fired


async def test_a_machine_that_slept(manual: Mesh, clock: ManualClock) -> None:
    """When the wall clock jumps, what is due is fired within half a second."""
    async with Schedules(manual) as schedules:
        await schedules.every(HOUR_S, "clock.tick")
        await clock.advance(1)
        clock._wall_us += round(HOUR_S) * S
        await clock.advance(0.5)
        assert 1 == len(await fired(manual))


async def test_a_clock_that_is_set_back(manual: Mesh, clock: ManualClock) -> None:
    """When the wall clock is set back just then, an event waits until it is its time again."""
    schedules = Schedules(manual)
    made = await schedules.at(moment_of(clock, 10), "tea.ready")
    firing = schedules._firing
    found = await schedules._book.get(made)
    assert found is not None
    firing._agenda.note(*found)
    (due,) = firing._agenda.take(clock.wall_us() + 10 * S, 1)
    await firing._attempt(due)
    assert [] == await fired(manual)
    assert due.look_us == firing._agenda.look_us


async def test_what_is_over_is_remembered_for_a_week(manual: Mesh, clock: ManualClock) -> None:
    """Of a name that is over, setting it up again fires nothing for seven days; then it is gone."""
    when = moment_of(clock, -30 * 24 * HOUR_S)
    async with Schedules(manual) as schedules:
        await schedules.at(when, "tea.ready", id="tea")
        await clock.advance(2)
        jump(clock, KEPT_US / S - 4)
        await clock.advance(0.5)
        await schedules.at(when, "tea.ready", id="tea")
        await clock.advance(1)
        assert 1 == schedules.statistics().fired
        assert 1 == len(await schedules.list())
        await clock.advance(2)
        assert () == await schedules.list()


# --- doubts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "kitchen"])
async def test_who_died_after_it_was_stored(mesh: Mesh, key: str | None) -> None:
    """An event that the log has already is not stored again, though the server has forgotten it."""
    schedules = Schedules(mesh)
    await schedules.at(moment(-61), "tea.ready", {"n": 1}, key=key, id="tea")
    (one,) = await schedules.list()
    await store_by_hand(mesh, one, event_id="another")
    await store_by_hand(mesh, one, event_id=one.event_id())
    async with schedules:
        await eventually(lambda: schedules.statistics().fired == 1)
        (over,) = await schedules.list()
    assert (None, 1) == (over.next_us, over.fired)
    assert 2 == len(await fired(mesh))


async def test_who_died_just_now(mesh: Mesh) -> None:
    """Within the time for which the server knows ids, it drops what a second process stores."""
    schedules = Schedules(mesh)
    await schedules.at(moment(0), "tea.ready", {"n": 1}, id="tea")
    (one,) = await schedules.list()
    parts = parts_of(mesh)
    assert one.next_us is not None
    await Firing(parts, schedules._book)._append(one, one.next_us)
    async with schedules:
        await eventually(lambda: schedules.statistics().fired == 1)
    assert 1 == len(await fired(mesh))


async def store_by_hand(mesh: Mesh, one: Schedule, event_id: str) -> Fired:
    """Store an event under an id that the server knows by another name."""
    header = Header(
        type="event",
        from_uuid="somebody",
        to_uuid=one.topic,
        event_uuid=event_id,
        timestamp=mesh.link.clock.wall_us(),
    )
    key = Key(one.key or one.event_id())
    message = encode_message(header, bytes(one.event))
    message_id = mesh.link.ids.uuid()
    await mesh.link.durable.log.append(Topic(one.topic), key, message, message_id=message_id)
    return (await wait_fired(mesh, 1))[-1]


async def test_who_stood_still_fires_nothing_of_before(mesh: Mesh) -> None:
    """What was heard before a pause is read anew: a moment that others fired is not fired again."""
    schedules = Schedules(mesh)
    await schedules.every(1, "clock.tick", start=moment(0), id="tick")
    found = await schedules._book.get("tick")
    assert found is not None
    stale = Due(found[0].look_us, "tick", found[1])
    async with schedules:
        await wait_fired(mesh, 1)
        await eventually(lambda: schedules.statistics().fired == 1)
    before = await fired(mesh)
    firing = Firing(parts_of(mesh), schedules._book)
    firing._agenda.note(*found)
    await firing._attempt(stale)
    assert before == await fired(mesh)
    assert (0, 1, 0) == (firing.tally.fired, firing.tally.yielded, firing.tally.failed)


class SlowBook(Book):
    """Reads a schedule, and before it can be fired a minute passes, in which it is cancelled."""

    clock: ManualClock

    async def get(self, schedule_id: str) -> tuple[Schedule, int] | None:
        """Read a schedule, and stand still."""
        found = await super().get(schedule_id)
        if found is not None:
            jump(self.clock, 60)
            await self.remove(schedule_id, revision=found[1])
        return found


async def test_who_stands_still_in_the_middle(manual: Mesh, clock: ManualClock) -> None:
    """A process that stood still after it has read reads again before it stores anything."""
    schedules = Schedules(manual)
    await schedules.at(moment_of(clock, 0), "tea.ready")
    book = SlowBook(manual.link.journal, manual.name, replicas=1)
    book.clock = clock
    schedules._book, schedules._firing = book, Firing(parts_of(manual), book)
    async with schedules:
        await clock.advance(1)
    assert [] == await fired(manual)


class SlowJournal(MemoryJournal):
    """Takes an hour to read, in which the schedule may be cancelled."""

    clock: ManualClock
    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def read(
        self,
        stream: str,
        subject: str = ">",
        *,
        from_sequence: int = 1,
        from_us: int | None = None,
    ) -> AsyncIterator[Record]:
        """Read, and take long."""
        async for record in super().read(stream, subject, from_us=from_us):
            yield record
        jump(self.clock, HOUR_S)
        if self.meanwhile is not None:
            await self.meanwhile()


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_search_that_takes_long(
    tmp_path: Path, clock: ManualClock, is_cancelled: bool
) -> None:
    """However long the log is searched, the event comes then, unless it was cancelled meanwhile."""
    engine = MemoryEngine(clock=clock)
    engine.journal = journal = SlowJournal(clock=clock)
    journal.clock = clock
    settings = Settings(project=tmp_path, state_folder=tmp_path)
    async with Mesh(engine=engine, clock=clock, settings=settings) as mesh:
        schedules = Schedules(mesh)
        made = await schedules.at(moment_of(clock, -61), "tea.ready")
        await mesh.append("some.thing", {})  # else there is no log to be searched
        if is_cancelled:
            journal.meanwhile = lambda: schedules.cancel(made)
        async with schedules:
            await clock.advance(1)
        journal.meanwhile = None
        assert is_cancelled == (len(await fired(mesh)) == 1)


# --- what fails -----------------------------------------------------------------------------------


async def test_without_crons_library(
    manual: Mesh,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A process that cannot read cron says so, stores nothing of it, and fires all else."""
    schedules = Schedules(manual)
    await schedules.cron("0 * * * *", "clock.struck")
    await schedules.at(moment_of(clock, HOUR_S + 1), "tea.ready")
    monkeypatch.setitem(sys.modules, "cronsim", None)
    jump(clock, HOUR_S)
    async with schedules:
        await clock.advance(2)
        assert ["tea.ready"] == [event.topic for event in await fired(manual)]
        assert "cron needs cronsim" in caplog.text
        monkeypatch.undo()
        await clock.advance(10)
    assert ["tea.ready", "clock.struck"] == [event.topic for event in await fired(manual)]


async def test_a_log_that_is_full(manual: Mesh, clock: ManualClock) -> None:
    """What cannot be stored is tried again, less and less often, until it can."""
    schedules = Schedules(manual)
    await manual.append("some.thing", {"text": "x" * 39_000})
    await schedules.at(moment_of(clock, 0), "tea.ready", {"text": "y" * 1_000})
    async with schedules:
        await clock.advance(60)
        assert 4 <= schedules.statistics().failed <= 12
        stream = manual.link.durable.streams.log
        await manual.link.journal.delete(stream, 1)
        await clock.advance(10)
        assert 1 == schedules.statistics().fired
    assert ["tea.ready"] == [event.topic for event in await fired(manual)]


async def test_what_cannot_be_fired(
    manual: Mesh, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A schedule that somebody else wrote, and wrongly, is told of, and the others go on."""
    schedules = Schedules(manual)
    await schedules.at(moment_of(clock, 0), "good.one")
    (one,) = await schedules.list()
    bucket = await manual.link.journal.bucket(schedules._book._config)
    spoilt = msgspec.structs.replace(one, id="spoilt", topic="no topic")
    await bucket.put("spoilt", encode(spoilt))
    async with schedules:
        await clock.advance(2)
    assert ["good.one"] == [event.topic for event in await fired(manual)]
    assert "schedule spoilt could not be fired: 'no topic' is no topic" in caplog.text


async def test_a_bug(
    manual: Mesh,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A schedule at which this code breaks is told of, and tried again; the others go on."""
    schedules = Schedules(manual)
    for topic in ("bad.one", "good.one"):
        await schedules.at(moment_of(clock, 0), topic)

    def broken(schedule: Schedule) -> str:
        if schedule.topic == "bad.one":
            raise ZeroDivisionError("a bug")
        return schedule.id

    monkeypatch.setattr(Schedule, "event_id", broken)
    async with schedules:
        await clock.advance(2)
        assert ["good.one"] == [event.topic for event in await fired(manual)]
        assert "a bug" in caplog.text
        monkeypatch.undo()
        await clock.advance(10)
    assert ["good.one", "bad.one"] == [event.topic for event in await fired(manual)]


async def test_what_follows_breaks(
    manual: Mesh,
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When following breaks by a bug, the process says so and fires nothing more."""
    async with Schedules(manual) as schedules:
        monkeypatch.setattr(schedules._firing._agenda, "apply", None)
        await schedules.at(moment_of(clock, 0), "tea.ready")
        await clock.advance(1)
    assert [] == await fired(manual)
    assert "broke, and fires nothing more" in caplog.text


async def test_a_bucket_that_is_deleted(mesh: Mesh) -> None:
    """When somebody deletes the bucket, schedules that are made afterwards are fired."""
    async with Schedules(mesh) as schedules:
        await schedules.at(moment(3600), "never.more")
        await mesh.link.journal.delete_stream(f"KV_{schedules._book._config.name}")
        await schedules.at(moment(0), "tea.ready")
        events = await wait_fired(mesh, 1)
    assert ["tea.ready"] == [event.topic for event in events]


async def test_a_bucket_that_is_full(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no room for one more schedule, those that are there are fired all the same."""
    monkeypatch.setattr(_book, "BYTES_MAX", 10_000)
    schedules, start = Schedules(mesh), moment(0.5)

    async def one_more(number: int) -> None:
        await schedules.every(1, "clock.tick", {"text": "x" * (number % 7)}, start=start)

    async def one_byte(number: int) -> None:
        await schedules._book._on(lambda bucket: bucket.create(f"z{number}", b"x"))

    count = await fill_up(one_more)
    await fill_up(one_byte)  # not a byte is left
    async with schedules:
        await eventually(lambda: schedules.statistics().fired >= 2 * count > 10)
    assert 0 == schedules.statistics().failed


async def fill_up(add: Callable[[int], Awaitable[None]]) -> int:
    """Add one after the other until there is no room; returns how many there was room for."""
    for number in range(1_000):
        try:
            await add(number)
        except StreamFullError:
            return number
    raise AssertionError("there is always room")


def moment_of(clock: ManualClock, in_s: float) -> object:
    """Return the time in so many seconds, by a clock."""
    return _EPOCH + (clock.wall_us() + round(in_s * S)) * _MICROSECOND
