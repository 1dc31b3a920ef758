"""Journals of sagas that ended long ago are deleted, as fast as they are written."""

from __future__ import annotations

import msgspec
import pytest

from agent99 import Mesh
from agent99.errors import DeadlineExceededError
from agent99.journal import MemoryJournal, StreamConfig
from agent99.saga import _sweep
from agent99.saga._records import Finished, Record, Started, decode_record, encode_record
from agent99.saga._sweep import KEPT_S, SWEEP_S, Sweep
from agent99.testing import ManualClock
from tests._wait import eventually
from tests.saga._journals import done, intent, result, started
from tests.saga._trips import Trips, World, keeper_of

STREAM = "SAGAS"


class _Journal(MemoryJournal):
    """Counts what is deleted, and is away from one deletion on."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock=clock)
        self.deleted = 0
        self.breaks_at = 1_000_000

    async def delete(self, stream: str, sequence: int) -> None:
        if self.deleted == self.breaks_at:
            raise DeadlineExceededError("the server is away")
        self.deleted += 1
        await super().delete(stream, sequence)


async def _journal(clock: ManualClock) -> _Journal:
    """Return journals of 1 open and 20 ended sagas, side by side, and after eight days a new one.

    Those that ended have 4 records each.
    """
    journal = _Journal(clock)
    await journal.ensure_stream(StreamConfig(name=STREAM, subjects=("saga.>",)))

    async def write(subject: str, record: Record) -> None:
        await journal.append(f"saga.{subject}", encode_record(record))

    await write("open", started())
    for record in (started(), intent("a"), result("a"), done()):
        for number in range(20):
            await write(f"ended{number}", record)
    await clock.advance(KEPT_S + 86_400.0)
    for each in (started(), done()):
        await write("young", each)
    return journal


def _sweeping(journal: _Journal, clock: ManualClock, *, is_first: bool = True) -> Sweep:
    return Sweep(journal, STREAM, "saga.*", clock, is_first=lambda: is_first)


async def _left(journal: _Journal) -> dict[str, list[type]]:
    """Return what is left, by saga."""
    left: dict[str, list[type]] = {}
    async for each in journal.read(STREAM):
        left.setdefault(each.subject, []).append(type(decode_record(each.payload)))
    return left


async def test_all_that_is_old_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sweep deletes everything, some at a time, and leaves what is open or young."""
    monkeypatch.setattr(_sweep, "BATCH", 7)
    monkeypatch.setattr(_sweep, "PAUSE_S", 0.0)
    clock = ManualClock()
    journal = await _journal(clock)
    assert 80 == await _sweeping(journal, clock).sweep()
    assert {"saga.open": [Started], "saga.young": [Started, Finished]} == await _left(journal)


async def test_it_rests_between_two_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has time for others: after a batch nothing is deleted until a pause is over."""
    monkeypatch.setattr(_sweep, "BATCH", 11)
    clock = ManualClock()
    journal = await _journal(clock)
    sweep = _sweeping(journal, clock)
    sweep.start()
    await clock.advance(SWEEP_S)
    for deleted in (10, 21, 32):  # the open saga's record was looked at, too
        await eventually(lambda deleted=deleted: journal.deleted == deleted)  # type: ignore[misc]  # bound at once
        await clock.advance(_sweep.PAUSE_S / 2)
        assert deleted == journal.deleted
        await clock.advance(_sweep.PAUSE_S / 2)
    await sweep.stop()


@pytest.mark.parametrize("breaks_at", [1, 30, 61, 79])
async def test_a_sweep_that_breaks_off(breaks_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it ends, a saga's end is the last that is left of it, and the next one goes on."""
    monkeypatch.setattr(_sweep, "BATCH", 7)
    monkeypatch.setattr(_sweep, "PAUSE_S", 0.0)
    clock = ManualClock()
    journal = await _journal(clock)
    journal.breaks_at = breaks_at
    sweep = _sweeping(journal, clock)
    with pytest.raises(DeadlineExceededError):
        await sweep.sweep()
    left = await _left(journal)
    assert {Finished} == {kinds[-1] for subject, kinds in left.items() if "ended" in subject}
    journal.breaks_at = 1_000_000
    assert 80 - breaks_at == await sweep.sweep()


async def test_one_instance_sweeps() -> None:
    """All others of its agent leave it to the first one, and look again whether they are it."""
    clock = ManualClock()
    journal = await _journal(clock)
    sweep = _sweeping(journal, clock, is_first=False)
    sweep.start()
    await clock.advance(3 * SWEEP_S)
    assert 0 == journal.deleted
    await sweep.stop()


async def test_what_cannot_be_read_is_kept() -> None:
    """A journal whose last record is of a later version has not ended, as far as is known here."""
    clock = ManualClock()
    journal = await _journal(clock)
    later = msgspec.json.encode({"kind": "later", "at_us": 1})
    await journal.append("saga.later", later)
    await clock.advance(KEPT_S + 86_400.0)
    await _sweeping(journal, clock).sweep()
    assert {"saga.open", "saga.later"} == {each.subject async for each in journal.read(STREAM)}


async def test_one_of_two_instances_is_the_first(mesh: Mesh, client: Mesh) -> None:
    """Each knows by the registry whether it is, and the other one is when the first has gone."""
    agents = Trips(World()), Trips(World())
    await mesh.host(agents[0])
    await client.host(agents[1])
    keepers = [keeper_of(each) for each in agents]
    await eventually(lambda: [False, True] == sorted(each.is_first() for each in keepers))
    first = [each.is_first() for each in keepers].index(True)
    await (mesh, client)[first].stop(agents[first])
    await eventually(keepers[1 - first].is_first)
