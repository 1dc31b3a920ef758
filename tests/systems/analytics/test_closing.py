"""One closes the windows of a pipeline: in nobody's way, followed by another, asked by anybody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from agent99.store import Store, Transaction, open_store
from agent99.systems.analytics._closed_rows import Closing, compact
from agent99.systems.analytics._horizons import own_horizon, share_horizons
from agent99.systems.analytics._jobs import reader_of_job, register
from agent99.systems.analytics._lease import Claim, beat, take
from agent99.systems.analytics._tables import MIGRATIONS, SCHEMA

from ._sales import job, revenue

READER = reader_of_job("m", "shops", 1)
_WAITING = "SELECT count(*) AS waiting FROM pg_locks WHERE NOT granted"


class Held:
    """A transaction that has done something, and does not end before it may."""

    def __init__(self, store: Store, work: Callable[[Transaction], Any]) -> None:
        self._is_done, self._may_end = threading.Event(), threading.Event()
        self._work = work
        self._ending = asyncio.ensure_future(store.transaction(self._hold))

    def __repr__(self) -> str:
        return f"Held({self._work!r})"

    def _hold(self, transaction: Transaction) -> None:
        self._work(transaction)
        self._is_done.set()
        assert self._may_end.wait(20)

    async def done(self) -> None:
        """Return when it has done what it was to do."""
        assert await asyncio.to_thread(self._is_done.wait, 20)

    async def end(self) -> None:
        """Let it end."""
        self._may_end.set()
        await self._ending


@asynccontextmanager
async def stores(url: str, count: int) -> AsyncGenerator[list[Store]]:
    """Open a database several times, as several processors do; the job is known there."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_store(url, migrations=MIGRATIONS, schema=SCHEMA))
            for _ in range(count)
        ]
        note = partial(register, mesh="m", job=job(revenue()), now_us=0)
        await opened[0].transaction(note)
        yield opened


async def some_wait(store: Store, count: int) -> None:
    """Return when so many wait for a lock."""
    async with asyncio.timeout(20):
        while await store.read(lambda t: t.execute(_WAITING).one().waiting) < count:
            await asyncio.sleep(0)


async def test_a_closer_that_was_followed_takes_no_deltas_away(postgres_url: str) -> None:
    """While deltas are made one nobody takes the closer's place: it might miss what is moved."""
    shops = job(revenue())
    async with stores(postgres_url, 3) as (one, two, three):
        claim = Claim("revenue", "", 0, 0)
        first = partial(take, reader=READER, owner="one", claim=claim)
        assert 1 == await one.transaction(first)
        closing = Closing(shops, shops.pipelines["revenue"], READER, 1)
        into = (1, 7, b"")
        moving = Held(one, partial(compact, closing=closing, into=into, parts=[(3, 1, 7)]))
        await moving.done()
        claim = Claim("revenue", "one", 1, 1)
        second = partial(take, reader=READER, owner="two", claim=claim)
        taking = asyncio.ensure_future(two.transaction(second))
        await some_wait(three, 1)
        await moving.end()
        assert await taking is None


async def test_who_folds_keeps_no_closer_from_its_lease(postgres_url: str) -> None:
    """A closer shows that it lives, or is followed, however long others hold the horizon."""
    async with stores(postgres_url, 2) as (one, two):
        folding = Held(one, partial(share_horizons, reader=READER, pipelines=["revenue"]))
        await folding.done()
        claim = Claim("revenue", "", 0, 0)
        async with asyncio.timeout(20):
            epoch = await two.transaction(partial(take, reader=READER, owner="two", claim=claim))
            assert epoch is not None
            mine = {"revenue": epoch}
            (after,) = await two.transaction(partial(beat, reader=READER, owner="two", mine=mine))
        assert after == Claim("revenue", "two", 1, 2)
        await folding.end()


async def test_a_horizon_moves_between_those_who_fold(postgres_url: str) -> None:
    """Who folds from now on waits behind the closer that waits: it has its turn, however many."""
    async with stores(postgres_url, 4) as (one, two, three, four):
        share = partial(share_horizons, reader=READER, pipelines=["revenue"])
        folding = Held(one, share)
        await folding.done()
        moving = Held(two, partial(own_horizon, reader=READER, pipeline="revenue"))
        await some_wait(four, 1)
        next_one = asyncio.ensure_future(three.transaction(share))
        await some_wait(four, 2)
        await folding.end()
        await moving.done()
        assert not next_one.done()
        await moving.end()
        await next_one
