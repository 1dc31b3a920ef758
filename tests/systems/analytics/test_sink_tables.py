"""A table keeps the rows of one pipeline, whoever else writes to it, and whatever comes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent99.errors import StoreError, UsageError
from agent99.store import StoreOptions, Transaction, open_store
from agent99.systems.analytics import Column, ParquetSink, Refused, SqlSink, Sum
from tests._wait import PATIENCE_S, eventually

from ._sales import revenue
from ._sinking import TARGET, event, latest, make_table, row, table_of

LOCK = 99
_HOLDS_UP = (
    f"CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" PERFORM pg_advisory_xact_lock({LOCK}); RETURN NEW; END $$"
)
_TRIGGER = "CREATE TRIGGER waits BEFORE INSERT ON revenue FOR EACH ROW EXECUTE FUNCTION wait()"
_LINKS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
_WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.mark.parametrize("other", [{"pipeline": "total"}, {"job": "others"}, {"mesh": "test"}])
async def test_a_table_is_of_one_pipeline(url: str, other: dict[str, str]) -> None:
    """A table with the rows of a pipeline takes none of another: their windows have one name."""
    sink = SqlSink(url, "revenue")
    async with sink.open(TARGET) as writer:
        await writer.write([row()], event())
    with pytest.raises(StoreError, match="is not of .* applied as 'the rows of tests/shops"):
        async with sink.open(msgspec.structs.replace(TARGET, **other)):
            pass
    async with sink.open(TARGET) as writer:
        assert [] == await writer.write([row(1)], event(2))
    assert latest([row(), row(1)]) == await table_of(url)


@pytest.mark.parametrize("is_late", [False, True], ids=["in order", "the old one late"])
async def test_a_later_version_takes_back_what_an_earlier_one_told(url: str, is_late: bool) -> None:
    """The row of the earlier version goes too, whichever of their sinks is first."""
    sink, later = SqlSink(url, "revenue"), msgspec.structs.replace(TARGET, version=2)
    async with sink.open(TARGET) as old, sink.open(later) as new:
        if not is_late:
            await old.write([row(), row(1)], event())
        await new.write([row(revision=2, is_retracted=True)], event(2))
        if is_late:
            await old.write([row(), row(1)], event())
    assert latest([row(1)]) == await table_of(url)


async def test_what_was_taken_back_meanwhile_stays_so(postgres_url: str) -> None:
    """Who was taken over from, and ends late, brings back no row that was taken back meanwhile."""
    await make_table(postgres_url, "")
    is_held, may_go = threading.Event(), threading.Event()

    def hold(transaction: Transaction) -> None:
        transaction.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        is_held.set()
        assert may_go.wait(PATIENCE_S)

    def hold_up(transaction: Transaction) -> None:
        transaction.execute(_HOLDS_UP)
        transaction.execute(_TRIGGER)

    sink = SqlSink(postgres_url, "revenue")
    async with (
        open_store(postgres_url, schema="reader") as reader,
        sink.open(TARGET) as old,
        sink.open(TARGET) as new,
    ):
        await reader.transaction(hold_up)
        holding = asyncio.ensure_future(reader.transaction(hold))
        await eventually(is_held.is_set)
        late = asyncio.ensure_future(old.write([row(revision=1)], event(1)))
        async with asyncio.timeout(PATIENCE_S):
            while not await reader.read(lambda one: one.execute(_WAITS).scalar()):
                await asyncio.sleep(0)
        await new.write([row(revision=2, is_retracted=True)], event(2))
        may_go.set()
        await holding
        assert [] == await late
    assert {} == await table_of(postgres_url)


@pytest.mark.parametrize("kind", ["table", "files"])
async def test_what_no_column_holds_is_refused_alone(kind: str, tmp_path: Path) -> None:
    """A window, or a count, of more than 64 bits refuses its row alone, as a figure does."""
    table = SqlSink(f"sqlite:///{tmp_path}/x.db", "revenue")
    sink = table if kind == "table" else ParquetSink(tmp_path)
    rows = [row(minute) for minute in range(6)]
    wrongs: list[dict[str, Any]] = [
        *({name: 2**63} for name in ("start_us", "end_us", "number", "revision")),
        {"rows": -(2**63) - 1},
    ]
    for at, wrong in enumerate(wrongs):
        rows[at] = msgspec.structs.replace(rows[at], **wrong)
    async with sink.open(TARGET) as writer:
        refused = await writer.write(rows, event())
    assert list(range(5)) == [one.row for one in refused]
    assert all("64 bits" in one.reason for one in refused)


async def test_texts_come_as_they_are(url: str) -> None:
    """Quotes, marks of parameters, very long texts and none at all are written as they are."""
    shops = (
        "o'clock",
        '"',
        ":c_shop",
        "%s",
        "%",
        "\\",
        "x" * 1_000_000,
        "\U0001f600",
        "NULL",
        None,
    )
    rows = [row(at, shop) for at, shop in enumerate(shops)]
    target = msgspec.structs.replace(TARGET, key=(Column("shop", None),))
    # Its key is no key of PostgreSQL's: a key has 1,024 bytes at most.
    rows[6] = msgspec.structs.replace(
        row(6, "y"), values={"sales": 1, "pence": 1, "said": shops[6]}
    )
    target = msgspec.structs.replace(target, values=(*TARGET.values, Column("said", None)))
    async with SqlSink(url, "revenue").open(target) as writer:
        assert [] == await writer.write(rows, event())
    async with open_store(url, schema="reader") as reader:
        found = await reader.read(
            lambda one: one.execute("SELECT shop, said FROM revenue ORDER BY start_us")
        )
    said = [(one, None) for one in shops]
    said[6] = ("y", shops[6])
    assert said == [tuple(one) for one in found]


async def test_a_nul_is_a_matter_of_its_row(postgres_url: str) -> None:
    """A text that PostgreSQL cannot hold refuses its row alone."""
    async with SqlSink(postgres_url, "revenue").open(TARGET) as writer:
        refused = await writer.write([row(0), row(1, "a\0b"), row(2)], event())
    assert [1] == [one.row for one in refused]
    assert isinstance(refused[0], Refused)
    assert latest([row(0), row(2)]) == await table_of(postgres_url)


@pytest.mark.parametrize(
    ("url", "table", "column"),
    [
        ("sqlite:///x", "sqlite_revenue", "pence"),
        ("postgresql://host/db", "revenue", "xmin"),
        ("postgresql://host/db", "revenue", "TableOid"),
    ],
)
def test_names_that_databases_keep_are_refused(url: str, table: str, column: str) -> None:
    """A name that the database keeps for itself is refused at once, not when rows come."""
    with pytest.raises(UsageError, match=f"{table if column == 'pence' else column}"):
        revenue(sinks=(SqlSink(url, table),), aggregates={column: Sum("pence")})


async def test_words_of_sql_are_names(url: str) -> None:
    """A table, and columns, may be called as words of SQL are."""
    words = ("select", "table", "order", "group", "null", "user", "end", "excluded", "ROWID")
    values = tuple(Column(name, int) for name in words)
    target = msgspec.structs.replace(TARGET, values=values)
    one = msgspec.structs.replace(row(), values=dict.fromkeys(words, 7))
    async with SqlSink(url, "order").open(target) as writer:
        assert [] == await writer.write([one], event())
        assert [] == await writer.write([row(is_retracted=True, revision=2)], event(2))
    async with open_store(url, schema="reader") as reader:
        assert not await reader.read(lambda it: it.execute('SELECT * FROM "order"').all())


async def test_a_sink_has_one_connection(postgres_url: str) -> None:
    """However many events it writes: it is given one after the other, and needs no more."""
    few = StoreOptions(readers_max=1, writers_max=1)
    async with open_store(postgres_url, schema="reader", options=few) as reader:
        before = await reader.read(lambda one: one.execute(_LINKS).scalar())
        async with SqlSink(postgres_url, "revenue").open(TARGET) as writer:
            for at in range(20):
                assert [] == await writer.write([row(at)], event(at))
            links = await reader.read(lambda one: one.execute(_LINKS).scalar())
    assert (2, 3) == (before, links)
