"""The audit log in a file: typed, whole or not there, and enough to prove the chain anew."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import msgspec
import polars as pl
import pytest
from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped] # it has no types

from agent99.errors import StoreError, UsageError
from agent99.systems.events import AuditLog, _export, whole_file, write_lines, write_parquet
from agent99.systems.events._entry import GENESIS
from tests.systems.events._records import batches, other_key, record

_TIME = pl.Datetime("us", "UTC")
_COLUMNS = {
    "number": pl.Int64,
    "event_id": pl.String,
    "type": pl.String,
    "actor": pl.String,
    "entity": pl.String,
    "correlation": pl.String,
    "occurred_at": _TIME,
    "stored_at": _TIME,
    "partition": pl.Int64,
    "sequence": pl.Int64,
    "is_repeat": pl.Boolean,
    "event": pl.Binary,
    "previous": pl.Binary,
    "hash": pl.Binary,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def _fill(log: AuditLog) -> None:
    """Add events of two partitions, one that came twice, and one that nobody can read."""
    first = record(1, key="Ünïcode")
    broken = msgspec.structs.replace(record(9), payload=b"\xffno message")
    again = msgspec.structs.replace(first, sequence=4)
    records = [first, record(2), record(3, key=other_key("k")), again, broken]
    for batch in batches(records):
        await log.add(batch)


async def _written(log: AuditLog) -> BytesIO:
    file = BytesIO()
    await write_parquet(log, file)
    file.seek(0)
    return file


async def test_a_parquet_file_has_every_entry_typed(log: AuditLog) -> None:
    """What polars reads is what the entries say, byte for byte; times are of UTC."""
    await _fill(log)
    frame = pl.read_parquet(await _written(log))
    assert _COLUMNS == dict(frame.schema)
    entries = [entry async for page in log.pages() for entry in page]
    assert 5 == len(entries) == len(frame)
    for entry, row in zip(entries, frame.iter_rows(named=True), strict=True):
        expected = msgspec.structs.asdict(entry)
        for name in ("occurred", "stored"):
            expected[f"{name}_at"] = _EPOCH + timedelta(microseconds=expected.pop(f"{name}_us"))
        assert expected == row


async def test_the_chain_can_be_made_anew_of_a_parquet_file(log: AuditLog) -> None:
    """By the recipe of the documents, without agent99: each hash covers the one before."""
    await _fill(log)
    times = [pl.col("occurred_at", "stored_at").cast(pl.Int64)]
    frame = pl.read_parquet(await _written(log)).with_columns(times)
    before = GENESIS
    for *fields, event, previous, digest in frame.iter_rows():
        assert before == previous
        before = sha256(previous + msgspec.json.encode(fields) + event).digest()
        assert before == digest
    assert (await log.head()).hash == before


async def test_memory_holds_one_group_of_rows(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bounded by their count, and by their bytes."""
    for batch in batches(record(number) for number in range(1, 9)):
        await log.add(batch)
    monkeypatch.setattr("agent99.systems.events._log._ROWS_AT_FIRST", 2)
    monkeypatch.setattr("agent99.systems.events._log.PAGE_ROWS", 2)
    for name, bound in (("GROUP_ROWS", 4), ("GROUP_BYTES", 4 * len(record(1).payload))):
        with monkeypatch.context() as patch:
            patch.setattr(_export, name, bound)
            metadata = ParquetFile(await _written(log)).metadata
        assert [4, 4] == [metadata.row_group(index).num_rows for index in range(2)]


async def test_nothing_at_all_is_a_file_with_columns(log: AuditLog) -> None:
    """Of an audit log that has just been made."""
    assert _COLUMNS == dict(pl.read_parquet(await _written(log)).schema)


async def test_lines_are_documents(log: AuditLog) -> None:
    """One a line, repeats too; it is told how many."""
    await _fill(log)
    file = BytesIO()
    assert 5 == await write_lines(log, file)
    lines = [msgspec.json.decode(line) for line in file.getvalue().splitlines()]
    assert [False, False, False, True, False] == [line["is_repeat"] for line in lines]
    assert ["Ünïcode", None] == [lines[0]["entity"], lines[4]["event"]]


@pytest.mark.parametrize("change", ["sequence = 'x'", "event = 5"])
async def test_what_is_no_entry_is_not_written(change: str, tmp_path: Path) -> None:
    """A column has values of one kind; SQLite lets anything stand there, once its guard is gone."""
    async with AuditLog.opened(f"sqlite:///{tmp_path}/audit.db") as log:
        await _fill(log)
        for statement in (
            "DROP TRIGGER audit_no_update",
            f"UPDATE audit_entries SET {change} WHERE number = 2",
        ):
            await log.store.transaction(lambda t, statement=statement: t.execute(statement))
        with pytest.raises(StoreError, match="audit verify"):
            await _written(log)


async def test_parquet_needs_a_library(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence says how to get it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow.*'parquet'"):
        await _written(log)


def test_a_file_is_there_when_it_is_whole(tmp_path: Path) -> None:
    """It takes the place of what was there, which stays where the writing fails."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"before")

    def fail() -> None:
        with whole_file(path) as file:
            file.write(b"half")
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert b"before" == path.read_bytes()
    with whole_file(path) as file:
        file.write(b"after")
        assert b"before" == path.read_bytes()
    assert b"after" == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A folder, a device, a pipe."""
    with pytest.raises(UsageError, match="is no file"), whole_file(tmp_path):
        pass
