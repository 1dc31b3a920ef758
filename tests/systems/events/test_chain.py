"""Whatever is done to a chain, the first entry that is not what it was is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent99.systems.events._entry import (
    FIELDS,
    AuditEntry,
    Head,
    entry_of,
    fact_of,
    link,
    row_of,
    seal,
)
from agent99.systems.events._verify import Breach, End, Verifier
from tests.systems.events._records import batches, record

_LENGTH = 12


def _chain(length: int = _LENGTH) -> list[AuditEntry]:
    head, entries = Head(), list[AuditEntry]()
    for number in range(1, length + 1):
        (batch,) = batches([record(number, key=f"k{number % 3}")])
        entry = link(head, fact_of(batch.records[0], batch.partition))
        entries.append(entry)
        head = Head(entry.number, entry.hash)
    return entries


def _end(entries: list[AuditEntry], head: Head | None = None, last: int = _LENGTH) -> End:
    """Return what else tells of the end of a chain; of the partition without any, nothing came."""
    positions = {63: (5, 5)} | {entry.partition: (0, entry.sequence) for entry in entries}
    whole = Head(entries[-1].number, entries[-1].hash)
    return End(head=head or whole, first=1, last=last, positions=positions)


def _breach(
    entries: list[AuditEntry],
    head: Head | None = None,
    anchors: dict[int, bytes] | None = None,
) -> Breach | None:
    """Look at entries that should be the whole chain."""
    whole = _chain()
    verifier = Verifier(anchors)
    verifier.look(map(row_of, entries))
    return verifier.end(_end(whole, head, len(entries))).breach


def test_a_chain_as_it_was_written_is_sound() -> None:
    """Nothing is wrong with it, and the proof says how far it goes and how many anchors agree."""
    entries = _chain()
    verifier = Verifier({3: entries[2].hash, 12: entries[11].hash})
    assert verifier.look(map(row_of, entries[:5]))
    assert verifier.look(map(row_of, entries[5:]))
    proof = verifier.end(_end(entries))
    assert proof.is_sound
    assert (12, entries[-1].hash.hex(), 2) == (proof.entries, proof.head, proof.anchors)


def test_nothing_at_all_is_sound() -> None:
    """Of an audit log that has just been made there is nothing to say."""
    assert Verifier().end(End(head=Head(), first=1, last=0, positions={})).is_sound


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "event_id": lambda was: was + "x",
    "type": lambda was: was.replace("placed", "paid"),
    "actor": lambda was: "somebody else",
    "entity": lambda was: "",
    "correlation": lambda was: was[::-1] + "0",
    "occurred_us": lambda was: was + 1,
    "stored_us": lambda was: was - 1,
    "partition": lambda was: (was + 1) % 64,
    "sequence": lambda was: was + 1,
    "is_repeat": lambda was: not was,
    "event": lambda was: bytes([was[0] ^ 1]) + was[1:],
    "hash": lambda was: was[:-1] + bytes([was[-1] ^ 1]),
    "previous": lambda was: bytes([was[0] ^ 128]) + was[1:],
}


def test_every_field_is_under_the_hash() -> None:
    """Whoever adds a field to an entry must say how a change of it shows."""
    assert {*_CHANGES, "number"} == set(AuditEntry.__struct_fields__) == set(FIELDS)


@given(number=st.integers(1, _LENGTH))
def test_an_entry_is_made_of_its_row(number: int) -> None:
    """And a row of its entry; a table has 0 and 1 where an entry has truth values."""
    entry = _chain()[number - 1]
    row = row_of(entry)
    assert entry == entry_of(row)
    assert entry == entry_of((*row[:10], int(entry.is_repeat), *row[11:]))


@pytest.mark.parametrize("field", _CHANGES)
@given(number=st.integers(1, _LENGTH))
def test_a_changed_field_is_named(field: str, number: int) -> None:
    """One byte in any field of any entry: it is that entry."""
    entries = _chain()
    was = entries[number - 1]
    changed = {field: _CHANGES[field](getattr(was, field))}
    entries[number - 1] = msgspec.structs.replace(was, **changed)
    breach = _breach(entries)
    assert breach is not None
    assert (number, "hash") == (breach.number, breach.rule)


@given(number=st.integers(1, _LENGTH))
def test_a_change_with_its_hash_made_anew_shows_at_the_next(number: int) -> None:
    """The next entry does not follow it; after the last, the end is another one."""
    entries = _chain()
    changed = msgspec.structs.replace(entries[number - 1], actor="somebody else")
    entries[number - 1] = msgspec.structs.replace(changed, hash=seal(changed))
    breach = _breach(entries)
    assert breach is not None
    assert (number + 1, "head" if number == _LENGTH else "link") == (breach.number, breach.rule)


@given(number=st.integers(1, _LENGTH - 1))
def test_a_missing_entry_is_named(number: int) -> None:
    """Anywhere but at the end it is a gap."""
    entries = _chain()
    del entries[number - 1]
    breach = _breach(entries)
    assert breach is not None
    assert (number, "gap") == (breach.number, breach.rule)


@given(number=st.integers(1, _LENGTH))
def test_an_inserted_entry_is_named(number: int) -> None:
    """It has the number of another one, and a hash of its own: all that follows would have to."""
    entries = _chain()
    before = Head(number - 1, entries[number - 1].previous)
    (batch,) = batches([record(99)])
    entries.insert(number - 1, link(before, fact_of(batch.records[0], batch.partition)))
    breach = _breach(entries)
    assert breach is not None
    assert (number + 1, "gap") == (breach.number, breach.rule)


@given(st.sets(st.integers(1, _LENGTH), min_size=2, max_size=2).map(sorted))
def test_swapped_entries_are_named(pair: list[int]) -> None:
    """Two that changed places: the first of the places."""
    entries = _chain()
    one, other = (entries[number - 1] for number in pair)
    entries[pair[0] - 1] = msgspec.structs.replace(other, number=one.number)
    entries[pair[1] - 1] = msgspec.structs.replace(one, number=other.number)
    breach = _breach(entries)
    assert breach is not None
    assert (pair[0], "hash") == (breach.number, breach.rule)


@given(left=st.integers(0, _LENGTH - 1))
def test_a_cut_tail_shows_by_the_end_and_by_the_positions(left: int) -> None:
    """Also where the end was written anew: the group had come further than the chain."""
    entries = _chain()[:left]
    breach = _breach(entries)
    assert breach is not None
    assert (left + 1, "head") == (breach.number, breach.rule)
    end = Head(left, entries[-1].hash) if entries else Head()
    breach = _breach(entries, end)
    assert breach is not None
    assert (left + 1, "tail") == (breach.number, breach.rule)


@given(number=st.integers(1, _LENGTH))
def test_a_chain_made_anew_shows_by_its_anchors(number: int) -> None:
    """Who rewrites all from an entry on, the end too, cannot rewrite what was anchored."""
    whole = _chain()
    entries = whole[: number - 1]
    head = Head(number - 1, whole[number - 1].previous)
    for was in whole[number - 1 :]:
        fact = fact_of(record(was.sequence, key=was.entity, event_id="another"), was.partition)
        entries.append(link(head, fact))
        head = Head(entries[-1].number, entries[-1].hash)
    assert _breach(entries, head) is None
    anchored = max(number, 10)
    breach = _breach(entries, head, {anchored: whole[anchored - 1].hash})
    assert breach is not None
    assert (anchored, "anchor") == (breach.number, breach.rule)
    breach = _breach(whole, None, {99: whole[0].hash})
    assert breach is not None
    assert (99, "anchor") == (breach.number, breach.rule)


def _forged(entries: list[AuditEntry], sequence: int) -> AuditEntry:
    """Return an entry that follows these as it should."""
    head = Head(entries[-1].number, entries[-1].hash)
    return link(head, fact_of(record(sequence, key=entries[-1].entity), entries[-1].partition))


def test_an_added_entry_is_named() -> None:
    """With a good hash, and the end moved on: of a place that the chain is past, or not yet at."""
    entries = _chain()
    for sequence, expected in ((entries[-1].sequence, (13, "place")), (99, (14, "tail"))):
        forged = _forged(entries, sequence)
        breach = _breach([*entries, forged], Head(13, forged.hash))
        assert breach is not None
        assert expected == (breach.number, breach.rule)


def test_entries_outside_of_the_chain_are_named() -> None:
    """Behind its end, or before its first, where nobody looks."""
    entries = _chain()
    for first, last, number in ((1, 13, 13), (0, 12, 0), (-3, 12, -3)):
        verifier = Verifier()
        verifier.look(map(row_of, entries))
        end = msgspec.structs.replace(_end(entries), first=first, last=last)
        breach = verifier.end(end).breach
        assert breach is not None
        assert (number, "head") == (breach.number, breach.rule)


def test_without_positions_no_chain_is_whole() -> None:
    """Who deletes these, or asks for those of another mesh, is not told that all is well."""
    verifier = Verifier()
    entries = _chain()
    verifier.look(map(row_of, entries))
    breach = verifier.end(msgspec.structs.replace(_end(entries), positions={})).breach
    assert breach is not None
    assert (13, "tail") == (breach.number, breach.rule)


@pytest.mark.parametrize(
    "changed",
    [
        {"event": "text"},
        {"type": "\udcff"},
        {"actor": b"by-k2"},
        {"hash": "text"},
        {"number": 2.0},
        {"is_repeat": 2},
        {"entity": None},
    ],
)
def test_what_is_no_value_of_its_kind_is_a_changed_field(changed: dict[str, Any]) -> None:
    """SQLite lets anything stand anywhere."""
    entries = _chain()
    entries[1] = msgspec.structs.replace(entries[1], **changed)
    breach = _breach(entries)
    assert breach is not None
    assert (2, "hash") == (breach.number, breach.rule)


def test_bytes_that_json_would_make_the_same_text_of_are_a_changed_field() -> None:
    """Of bytes it makes Base64."""
    (batch,) = batches([record(1, topic="b3JkZXI")])
    entry = link(Head(), msgspec.structs.replace(fact_of(batch.records[0], 1), actor="b3JkZXI="))
    assert Verifier().look([row_of(entry)])
    verifier = Verifier()
    assert not verifier.look([row_of(msgspec.structs.replace(entry, actor=b"order"))])
    assert verifier.breach is not None
    assert (1, "hash") == (verifier.breach.number, verifier.breach.rule)


@pytest.mark.parametrize(
    ("changed", "expected"), [({"sequence": "9"}, (2, "hash")), ({"partition": "9"}, (3, "tail"))]
)
def test_a_place_that_is_none_is_named(changed: dict[str, Any], expected: tuple[int, str]) -> None:
    """Also where its hash was made anew: nothing that stands in an entry stops who looks at it."""
    first = _chain()[0]
    fact = fact_of(record(2, key=first.entity), first.partition)
    forged = link(Head(1, first.hash), msgspec.structs.replace(fact, **changed))
    verifier = Verifier()
    verifier.look(map(row_of, (first, forged)))
    breach = verifier.end(_end([first], Head(2, forged.hash), 2)).breach
    assert breach is not None
    assert expected == (breach.number, breach.rule)


def test_what_a_fact_says() -> None:
    """All comes from the message and its subject; a key that is the event's id is none."""
    (batch,) = batches([record(7, topic="order.paid", key="Ünïcode")])
    fact = fact_of(batch.records[0], batch.partition)
    assert ("e7", "order.paid", "by-Ünïcode", "Ünïcode") == (
        fact.event_id,
        fact.type,
        fact.actor,
        fact.entity,
    )
    assert (f"{7:032x}", 6_999_995, 7_000_000) == (
        fact.correlation,
        fact.occurred_us,
        fact.stored_us,
    )
    alone = record(8, key="e8")
    assert "" == fact_of(alone, 0).entity


def test_what_nobody_can_read_is_a_fact_too() -> None:
    """It keeps its bytes, and gets an id of its own."""
    good = record(7)
    broken = msgspec.structs.replace(good, payload=b"\xffno message")
    fact = fact_of(broken, 5)
    assert fact.event_id.startswith("unreadable-")
    assert ("order.placed", b"\xffno message") == (fact.type, fact.event)
    strange = fact_of(msgspec.structs.replace(broken, subject="x"), 5)
    assert ("", 5, 7) == (strange.type, strange.partition, strange.sequence)
