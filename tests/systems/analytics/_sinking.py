"""What the tests of sinks have in common: a sink that can be away, and what a table holds."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent99.errors import Failure
from agent99.groups import Event
from agent99.store import open_store
from agent99.systems.analytics import (
    Analytics,
    Column,
    Refused,
    SinkWriter,
    Target,
    WindowRow,
)
from agent99.systems.analytics._questions import SinkStats
from agent99.work import Curve
from tests._wait import eventually

from ._sales import START_US

QUICK = Curve(attempts_max=1_000, delay_s=0.02, delay_s_max=0.1, timeout_s=10.0)
KEY = (Column("shop", str),)
VALUES = (Column("sales", int), Column("pence", int))
TARGET = Target(mesh="tests", job="shops", version=1, pipeline="revenue", key=KEY, values=VALUES)
Latest = dict[tuple[int, int, Any, int], tuple[int, int]]
"""By start, end, shop and number of a window: its revision, and its pence."""


@dataclass(eq=False)
class ListSink:
    """Keeps rows in a list, and can be away."""

    name: str = "list"
    curve: Curve = QUICK
    is_away: bool = False
    """Whether it can take nothing."""
    refuses: Callable[[WindowRow], bool] = lambda _: False
    rows: list[WindowRow] = field(default_factory=list[WindowRow])
    calls: int = 0

    def check(self, _key: Sequence[Column], _values: Sequence[Column], /) -> None:
        """Take all columns."""

    @asynccontextmanager
    async def open(self, _target: Target, /) -> AsyncGenerator[SinkWriter, None]:
        """Give itself."""
        yield self

    async def write(self, rows: Sequence[WindowRow], _event: Event, /) -> Sequence[Refused]:
        """Keep rows."""
        self.calls += 1
        if self.is_away:
            raise Failure("it is away", retryable=True)
        self.rows += [row for row in rows if not self.refuses(row)]
        return [Refused(at, "too dear") for at, row in enumerate(rows) if self.refuses(row)]


def row(
    minute: int = 0,
    shop: Any = "north",
    *,
    revision: int = 1,
    pence: Any = 100,
    is_retracted: bool = False,
) -> WindowRow:
    """Return a row of `revenue`."""
    start_us = START_US + minute * 60_000_000
    return WindowRow(
        pipeline="revenue",
        start_us=start_us,
        end_us=start_us + 60_000_000,
        key=(shop,),
        values={} if is_retracted else {"sales": 1, "pence": pence},
        rows=0 if is_retracted else 1,
        state="closed",
        revision=revision,
        is_retracted=is_retracted,
    )


def event(sequence: int = 1) -> Event:
    """Return an event in which rows may have come."""
    return Event(
        id=f"event-{sequence}",
        source="tests",
        type="windows.shops.revenue",
        subject="shops.revenue",
        time_us=START_US,
        data=msgspec.Raw(b"{}"),
        sequence=sequence,
        partition=0,
        stored_us=START_US + sequence,
    )


def latest(rows: Sequence[WindowRow]) -> Latest:
    """Return what a reader must see of rows: of each window the highest revision, if it is one."""
    best: dict[tuple[int, int, Any, int], WindowRow] = {}
    for one in rows:
        window = (one.start_us, one.end_us, one.key[0], one.number)
        if window not in best or one.revision > best[window].revision:
            best[window] = one
    return {
        window: (one.revision, one.values["pence"])
        for window, one in best.items()
        if not one.is_retracted
    }


async def table_of(url: str, table: str = "revenue") -> Latest:
    """Return what a reader of the table sees; each window has one row."""
    async with open_store(url, schema="reader") as store:
        found = await store.read(lambda transaction: transaction.execute(f"SELECT * FROM {table}"))
    seen = {
        (one.start_us, one.end_us, one.shop, one.number): (one.revision, one.pence) for one in found
    }
    assert len(seen) == len(found)
    return seen


async def make_table(url: str, rule: str) -> None:
    """Make the table before the sink does, with a rule of its own."""
    statement = (
        "CREATE TABLE revenue (version BIGINT NOT NULL, end_us BIGINT NOT NULL,"
        " start_us BIGINT NOT NULL, key_json TEXT NOT NULL, number BIGINT NOT NULL, shop TEXT,"
        f" sales BIGINT, pence BIGINT {rule}, records BIGINT NOT NULL, revision BIGINT NOT NULL,"
        " PRIMARY KEY (version, end_us, start_us, key_json, number))"
    )
    async with open_store(url, schema="reader") as store:
        await store.transaction(lambda transaction: transaction.execute(statement))


async def sink_when(
    figures: Analytics, is_enough: Callable[[SinkStats], object], name: str
) -> SinkStats:
    """Return how far a sink is, once it is as far as is waited for."""

    async def state() -> SinkStats | None:
        (found,) = (one for one in (await figures.stats()).sinks if one.sink == name)
        return found if is_enough(found) else None

    found: SinkStats = await eventually(state)
    return found
