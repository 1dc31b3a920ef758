"""The tables of analytics: what processors add, what the closers make of it, who closes.

A *reader* is a version of a job on a mesh, as its group calls it: whatever it has stands under that
name, so that versions, jobs and meshes share a database side by side.
"""

from __future__ import annotations

from typing import Final

from agent99.store import Migration, Transaction

SCHEMA: Final = "analytics"

_PLAIN: Final = (
    # Which version of a job is asked for, and what each version was when it first ran.
    """
    CREATE TABLE analytics_job (
        mesh TEXT NOT NULL, job TEXT NOT NULL, version BIGINT NOT NULL,
        PRIMARY KEY (mesh, job))
    """,
    """
    CREATE TABLE analytics_version (
        reader TEXT PRIMARY KEY, mesh TEXT NOT NULL, job TEXT NOT NULL, version BIGINT NOT NULL,
        definition TEXT NOT NULL, code TEXT NOT NULL, created_us BIGINT NOT NULL)
    """,
    # How far the records of a shard have come.
    """
    CREATE TABLE analytics_mark (
        reader TEXT NOT NULL, source TEXT NOT NULL, shard INTEGER NOT NULL, max_us BIGINT,
        seen_us BIGINT NOT NULL, is_final INTEGER NOT NULL,
        PRIMARY KEY (reader, source, shard))
    """,
    """
    CREATE TABLE analytics_count (
        reader TEXT NOT NULL, pipeline TEXT NOT NULL, part INTEGER NOT NULL,
        records BIGINT NOT NULL, on_time BIGINT NOT NULL, late BIGINT NOT NULL,
        dropped BIGINT NOT NULL, skipped BIGINT NOT NULL, refused BIGINT NOT NULL,
        PRIMARY KEY (reader, pipeline, part))
    """,
    # How many records each key of a pipeline of windows by count has had.
    """
    CREATE TABLE analytics_ordinal (
        reader TEXT NOT NULL, pipeline TEXT NOT NULL, part INTEGER NOT NULL, key TEXT NOT NULL,
        records BIGINT NOT NULL, PRIMARY KEY (reader, pipeline, part, key))
    """,
    # `beats` grows while the owner lives, `epoch` with each owner, `turn` with changes of rows.
    """
    CREATE TABLE analytics_closer (
        reader TEXT NOT NULL, pipeline TEXT NOT NULL, owner TEXT NOT NULL, epoch BIGINT NOT NULL,
        beats BIGINT NOT NULL, turn BIGINT NOT NULL, watermark_us BIGINT, horizon_us BIGINT,
        forgotten_us BIGINT, cursors TEXT NOT NULL, PRIMARY KEY (reader, pipeline))
    """,
    """
    CREATE TABLE analytics_row (
        reader TEXT NOT NULL, pipeline TEXT NOT NULL, end_us BIGINT NOT NULL,
        start_us BIGINT NOT NULL, key TEXT NOT NULL, number BIGINT NOT NULL, figures TEXT NOT NULL,
        records BIGINT NOT NULL, revision BIGINT NOT NULL, is_retracted INTEGER NOT NULL,
        turn BIGINT NOT NULL, PRIMARY KEY (reader, pipeline, end_us, start_us, key, number))
    """,
    "CREATE INDEX analytics_row_key ON analytics_row (reader, pipeline, key, end_us)",
    "CREATE INDEX analytics_row_turn ON analytics_row (reader, pipeline, turn)",
)


def _deltas(transaction: Transaction) -> None:
    binary = "BYTEA" if transaction.dialect == "postgresql" else "BLOB"
    transaction.execute(
        f"""
        CREATE TABLE analytics_delta (
            reader TEXT NOT NULL, pipeline TEXT NOT NULL, part INTEGER NOT NULL,
            sequence BIGINT NOT NULL, chunk BIGINT NOT NULL, states {binary} NOT NULL,
            PRIMARY KEY (reader, pipeline, part, sequence, chunk))
        """
    )
    transaction.execute(
        "CREATE INDEX analytics_delta_chunk ON analytics_delta (reader, pipeline, chunk)"
    )


_COUNTED: Final = (
    # How many windows have a row: to count them takes the longer, the more there are.
    "ALTER TABLE analytics_closer ADD COLUMN row_count BIGINT NOT NULL DEFAULT 0",
    """
    UPDATE analytics_closer SET row_count = (
        SELECT count(*) FROM analytics_row WHERE analytics_row.reader = analytics_closer.reader
        AND analytics_row.pipeline = analytics_closer.pipeline AND is_retracted = 0)
    """,
)

_REPEATED: Final = "ALTER TABLE analytics_count ADD COLUMN repeated BIGINT NOT NULL DEFAULT 0"

_SINKS: Final = """
    CREATE TABLE analytics_sink (
        reader TEXT NOT NULL, pipeline TEXT NOT NULL, sink TEXT NOT NULL,
        delivered BIGINT NOT NULL, refused BIGINT NOT NULL, sequence BIGINT NOT NULL,
        error TEXT NOT NULL, PRIMARY KEY (reader, pipeline, sink))
    """

_REFUSED_RECORDS: Final = (
    "ALTER TABLE analytics_count ADD COLUMN refused_records BIGINT NOT NULL DEFAULT 0"
)
_TOLD: Final = (
    # `told_turn`: the last turn whose rows were told, when its version was last switched away from.
    # `told_cursors`: what the version before had merged at the switch; NULL: nothing of what that
    # one has told is still to be said by this one.
    "ALTER TABLE analytics_closer ADD COLUMN told_turn BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE analytics_closer ADD COLUMN told_cursors TEXT",
    # Windows that the version before has told, and this one is not to tell again.
    """
    CREATE TABLE analytics_told (
        reader TEXT NOT NULL, pipeline TEXT NOT NULL, end_us BIGINT NOT NULL,
        start_us BIGINT NOT NULL, key TEXT NOT NULL, number BIGINT NOT NULL,
        records BIGINT NOT NULL, is_retracted INTEGER NOT NULL,
        PRIMARY KEY (reader, pipeline, end_us, start_us, key, number))
    """,
)

MIGRATIONS: Final = (
    Migration(1, "deltas, marks and rows", (*_PLAIN, _deltas)),
    Migration(2, "the count of rows", _COUNTED),
    Migration(3, "a count of repetitions", (_REPEATED,)),
    Migration(4, "what sinks have taken", (_SINKS,)),
    Migration(5, "a count of records that were refused", (_REFUSED_RECORDS,)),
    Migration(6, "what a version has told that another one follows", _TOLD),
)
"""What is here once is never edited: a change is a new migration."""
