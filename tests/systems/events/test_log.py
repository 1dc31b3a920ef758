"""The audit log in a database: each event once, one chain, and nothing can be taken back."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from agent99.errors import ConstraintError, InvalidNameError, LeaseLostError, UsageError
from agent99.store import Transaction
from agent99.systems.events import AuditLog, Query, _log
from agent99.systems.events._entry import AuditEntry, Head
from tests.systems.events._records import READER, batches, other_key, record


async def _all(log: AuditLog) -> list[AuditEntry]:
    return [entry async for page in log.pages() for entry in page]


async def test_events_become_entries_in_their_order(log: AuditLog) -> None:
    """Numbered without a gap, each tied to the one before; the proof is sound."""
    assert Head() == await log.head()
    for batch in batches([record(1), record(2), record(3, key=other_key("k")), record(4)]):
        head = await log.add(batch)
    entries = await _all(log)
    assert [1, 2, 3, 4] == [entry.number for entry in entries]
    assert all(after.previous == before.hash for before, after in pairwise(entries))
    assert Head(4, entries[-1].hash) == head == await log.head()
    assert (await log.verify(READER)).is_sound


async def test_a_batch_that_comes_again_adds_nothing(log: AuditLog) -> None:
    """Whole, in part, or behind what is there: its position says what is in the chain already."""
    (batch,) = batches([record(1), record(2)])
    (longer,) = batches([record(2), record(3)], epoch=2)
    head = await log.add(batch)
    assert head == await log.add(batch)
    await log.add(longer)
    assert ["e1", "e2", "e3"] == [entry.event_id for entry in await _all(log)]
    with pytest.raises(LeaseLostError):
        await log.add(batch)
    assert (await log.verify(READER)).is_sound


async def test_an_event_that_the_log_holds_twice_is_there_once(log: AuditLog) -> None:
    """That it came again is in the chain, without its bytes; who asks is told of it once."""
    first = record(1, event_id="same")
    again, later = (msgspec.structs.replace(first, sequence=number) for number in (2, 3))
    for batch in [*batches([first, again]), *batches([later])]:
        await log.add(batch)
    entries = await _all(log)
    assert [False, True, True] == [entry.is_repeat for entry in entries]
    assert [first.payload, b"", b""] == [entry.event for entry in entries]
    assert [1] == [entry.number for entry in await log.find(Query(entity="k"))]
    assert (await log.verify(READER)).is_sound


async def test_another_event_under_a_used_id_is_not_hidden(log: AuditLog) -> None:
    """Its id says so; what it says can be found like anything else."""
    for batch in batches([record(1, event_id="same"), record(9, event_id="same")]):
        await log.add(batch)
    first, other = await log.find(Query(entity="k"))
    assert ("same", True) == (first.event_id, other.event_id.startswith("reused-"))
    assert other.event == record(9, event_id="same").payload
    assert (await log.verify(READER)).is_sound


async def test_many_writers_share_one_chain(log: AuditLog, url: str) -> None:
    """However they race: no fork, no gap, every event once."""

    async def write(log: AuditLog, key: str, numbers: range) -> None:
        for number in numbers:
            for batch in batches([record(number, key=key)]):
                await log.add(batch)

    async with AuditLog.opened(url) as other:
        await asyncio.gather(
            write(log, "k", range(1, 31, 2)),
            write(other, other_key("k"), range(2, 31, 2)),
        )
    entries = await _all(log)
    assert list(range(1, 31)) == [entry.number for entry in entries]
    assert 30 == len({entry.event_id for entry in entries})
    assert all(after.previous == before.hash for before, after in pairwise(entries))


async def test_entries_cannot_be_changed_or_deleted(log: AuditLog) -> None:
    """By anybody who does not first take away what refuses it."""
    (batch,) = batches([record(1)])
    await log.add(batch)
    refused = ["UPDATE audit_entries SET actor = 'me'", "DELETE FROM audit_entries"]
    if log.store.dialect == "postgresql":
        refused.append("TRUNCATE audit_entries")
    for statement in refused:
        with pytest.raises(ConstraintError):
            await log.store.transaction(lambda t, statement=statement: t.execute(statement))
    assert (await log.verify(READER)).is_sound


async def test_what_no_database_can_hold_as_text_holds_up_nothing(log: AuditLog) -> None:
    """A zero byte in a key, or in an id: the entry is there, and the message as it was."""
    strange = [record(1, key="a\0b"), record(2, event_id="e\0")]
    for batch in batches(strange):
        await log.add(batch)
    entries = await _all(log)
    assert ["a\ufffdb", "k"] == [entry.entity for entry in entries]
    assert ("e1", True) == (entries[0].event_id, entries[1].event_id.startswith("unreadable-"))
    assert [one.payload for one in strange] == [entry.event for entry in entries]
    assert (await log.verify(READER)).is_sound


async def test_what_is_asked_for_is_found(log: AuditLog) -> None:
    """By type, actor, entity, trace and time; the oldest first, a page at a time."""
    other = other_key("k")
    records = [
        record(1, topic="order.placed"),
        record(2, topic="order.line.added"),
        record(3, topic="order.placed", key=other),
        record(4, topic="ord_r.placed"),
    ]
    for batch in batches(records):
        await log.add(batch)

    async def found(**query: object) -> list[int]:
        return [entry.number for entry in await log.find(Query(**query))]  # type: ignore[arg-type] # any of them

    assert [1, 2, 3, 4] == await found()
    assert [1, 3] == await found(type="order.placed")
    assert [1, 3] == await found(type="order.*") == await found(type="Order.*")
    assert [1, 2, 3] == await found(type="order.>")
    assert [4] == await found(type="ord_r.*")
    assert [2] == await found(type="*.line.*")
    assert [3] == await found(actor=f"by-{other}")
    assert [1, 2, 4] == await found(entity="k")
    assert [2] == await found(correlation=f"{2:032x}")
    assert [2, 3] == await found(since_us=2_000_000, until_us=4_000_000)
    assert [2] == await found(after=1, limit=1)
    assert [] == await found(entity="nobody")


def test_a_question_that_makes_no_sense_is_refused() -> None:
    """Before the database is asked."""
    for limit in (0, 10_001):
        with pytest.raises(UsageError, match="limit"):
            Query(limit=limit)
    with pytest.raises(InvalidNameError):
        Query(type="order..placed")
    for wrong in ({"after": -1}, {"after": 2**63}, {"type": "*.b.>"}, {"entity": "a\0"}):
        with pytest.raises(UsageError):
            Query(**wrong)  # type: ignore[arg-type] # any of them


_COPY = """
INSERT INTO audit_entries SELECT {number}, 'forged', type, actor, entity, correlation, occurred_us,
stored_us, partition_number, sequence, is_repeat, event, {previous}, hash
FROM audit_entries WHERE number = 6
"""
_TAMPER = {
    "a byte": ("UPDATE audit_entries SET event = :event WHERE number = 3", (3, "hash")),
    "a row is gone": ("DELETE FROM audit_entries WHERE number = 3", (3, "gap")),
    "the tail is cut": ("DELETE FROM audit_entries WHERE number >= 5", (5, "head")),
    "the end is another": ("UPDATE audit_head SET number = 5", (6, "head")),
    "the end is gone": ("DELETE FROM audit_head", (1, "head")),
    "one is behind the end": (_COPY.format(number=7, previous="hash"), (7, "head")),
    "one is before the first": (_COPY.format(number=0, previous="event"), (0, "head")),
    "the positions are gone": ("DELETE FROM agent99_position", (7, "tail")),
}


@pytest.mark.parametrize("how", _TAMPER)
async def test_what_is_done_to_the_table_is_named(
    log: AuditLog, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the entries are looked at in many pages."""
    monkeypatch.setattr(_log, "PAGE_ROWS", 2)
    for batch in batches(record(number) for number in range(1, 7)):
        await log.add(batch)
    assert (await log.verify(READER)).is_sound
    statement, expected = _TAMPER[how]
    await log.store.transaction(lambda t: _without_triggers(t, statement))
    breach = (await log.verify(READER)).breach
    assert breach is not None
    assert expected == (breach.number, breach.rule)


_KINDS = {
    "no text": ("UPDATE audit_entries SET actor = CAST(x'ff' AS TEXT) WHERE number = 4", 4, "hash"),
    "bytes": ("UPDATE audit_entries SET actor = CAST(actor AS BLOB) WHERE number = 4", 4, "hash"),
    "a text": ("UPDATE audit_entries SET event = CAST(event AS TEXT) WHERE number = 4", 4, "hash"),
    "a place": ("UPDATE audit_entries SET sequence = 'x' WHERE number = 4", 4, "hash"),
    "a number": (_COPY.format(number="'x'", previous="hash"), 7, "head"),
    "the end": ("UPDATE audit_head SET number = 'x'", 1, "head"),
}


@pytest.mark.parametrize("what", _KINDS)
async def test_what_is_of_another_kind_is_named(what: str, tmp_path: Path) -> None:
    """SQLite lets it stand anywhere; to say that the database is broken would not say where."""
    statement, *expected = _KINDS[what]
    async with AuditLog.opened(f"sqlite:///{tmp_path}/audit.db") as log:
        for batch in batches(record(number) for number in range(1, 7)):
            await log.add(batch)
        await log.store.transaction(lambda t: _without_triggers(t, statement))
        breach = (await log.verify(READER)).breach
    assert breach is not None
    assert expected == [breach.number, breach.rule]


async def test_a_row_cannot_be_replaced(tmp_path: Path) -> None:
    """Which on SQLite takes it away without a word to the trigger for that."""
    async with AuditLog.opened(f"sqlite:///{tmp_path}/audit.db") as log:
        for batch in batches([record(1)]):
            await log.add(batch)
        replace = _COPY.format(number=1, previous="previous").replace("INSERT", "INSERT OR REPLACE")
        with pytest.raises(ConstraintError):
            await log.store.transaction(lambda t: t.execute(replace.replace("= 6", "= 1")))


async def test_large_events_are_read_a_few_at_a_time(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are bounded by bytes, too."""
    monkeypatch.setattr(_log, "_ROWS_AT_FIRST", 2)
    monkeypatch.setattr(_log, "PAGE_BYTES", 3 * len(record(1).payload) + 5)
    for batch in batches(record(number) for number in range(1, 9)):
        await log.add(batch)
    assert [2, 2, 2, 2] == [len(page) async for page in log.pages()]
    assert (await log.verify(READER)).is_sound


async def test_a_tail_that_is_cut_with_its_end_shows_by_the_positions(log: AuditLog) -> None:
    """The group had written further: its position is in the same database, and elsewhere too."""
    for batch in batches(record(number) for number in range(1, 7)):
        await log.add(batch)
    (fourth,) = [entry for entry in await _all(log) if entry.number == 4]

    def cut(transaction: Transaction) -> None:
        _without_triggers(transaction, "DELETE FROM audit_entries WHERE number > 4")
        transaction.execute("UPDATE audit_head SET number = 4, hash = :hash", {"hash": fourth.hash})

    await log.store.transaction(cut)
    breach = (await log.verify(READER)).breach
    assert breach is not None
    assert (5, "tail") == (breach.number, breach.rule)


def _without_triggers(transaction: Transaction, statement: str) -> None:
    on = " ON audit_entries" if transaction.dialect == "postgresql" else ""
    for event in ("update", "delete"):
        transaction.execute(f"DROP TRIGGER audit_no_{event}{on}")
    transaction.execute(statement, {"event": b"forged"} if ":event" in statement else None)
