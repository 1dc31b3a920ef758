"""Anomalies of a job that runs: asked for, and told as windows close and are corrected."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from agent99 import Mesh
from agent99.errors import BadRequestError, RemoteError, UsageError
from agent99.systems.analytics import (
    AnalyticsProcessor,
    Anomaly,
    Ewma,
    Sum,
    WindowRow,
    find_anomalies,
)
from agent99.systems.analytics._client import Analytics
from tests._wait import PATIENCE_S, eventually

from ._sales import MINUTE_US, START_US, finish, job, revenue, rows_when, sale, store

SOON = Ewma(warm_up=3)
USUAL = (100, 110, 100, 110)
"""Pence of the first minutes."""
ODD_END = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US, minutes=5)
"""Of the minute after them."""


CORRECTED = ((2, 0), (40, -38), (2, 38), (40, -38), (2, 38), (40, -38))
"""Pence of a minute, and what comes late to it: what is usual becomes odd, and the reverse."""


async def sell(mesh: Mesh, *pence: int, first_minute: int = 0) -> None:
    """Store a sale for each minute, and one behind the last minute, so that it closes."""
    sales = [sale(60 * (first_minute + at) + 1, pence=one) for at, one in enumerate(pence)]
    end = 60 * (first_minute + len(pence)) + 2
    for shard, more in ((0, sales), (1, [])):
        await store(mesh, [*more, sale(end, "south")], shard=shard)


async def test_what_there_is_and_what_comes(mesh: Mesh, url: str) -> None:
    """The list says what the rows do; who follows is told each once, and what is cleared."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    await sell(mesh, *USUAL, 900)
    rows = await rows_when(figures, lambda rows: len(rows) >= 5)
    found = await figures.anomalies("revenue", "pence", rule=SOON)
    assert find_anomalies(rows, "pence", SOON) == found
    assert [900] == [one.value for one in found]
    follow = partial(figures.follow_anomalies, "revenue", "pence", rule=SOON, key="north")
    async with asyncio.timeout(PATIENCE_S), aclosing(follow()) as told:
        assert found == [await anext(told)]
        await store(mesh, [sale(299, pence=-790)])
        cleared = await anext(told)
        assert (110, 2, True) == (cleared.value, cleared.revision, cleared.is_cleared)
        assert [] == await figures.anomalies("revenue", "pence", rule=SOON)
        await sell(mesh, 105, 5_000, first_minute=5)
        newer = await anext(told)
        assert (5_000, False, 1) == (newer.value, newer.is_cleared, newer.revision)
        assert [newer] == await figures.anomalies("revenue", "pence", rule=SOON, key=["north"])


async def test_who_asks_chooses_and_is_refused(mesh: Mesh, url: str) -> None:
    """By key and time, which changes nothing of what is said; mistakes say what is wrong."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    await sell(mesh, *USUAL, 900)
    await rows_when(figures, lambda rows: len(rows) >= 5)
    ask = partial(figures.anomalies, "revenue", "pence", rule=SOON)
    (found,) = await ask()
    assert [found] == await ask(key="north", since=ODD_END - timedelta(microseconds=1))
    assert [] == await ask(since=ODD_END)
    assert [] == await ask(until=ODD_END - timedelta(minutes=1))
    assert [] == await ask(key="south")
    follow: Callable[..., Any] = partial(figures.follow_anomalies, rule=SOON)
    for form in (figures.anomalies, follow):
        with pytest.raises(UsageError, match="no figure 'pense'; it has sales, pence"):
            await _first(form, "revenue", "pense")
        with pytest.raises(BadRequestError, match="the key of 'revenue' has 1 values"):
            await _first(form, "revenue", "pence", key=("north", "south"))
        with pytest.raises(RemoteError, match="no pipeline 'revenu'"):
            await _first(form, "revenu", "pence")
        with pytest.raises(UsageError, match="has no time zone"):
            await _first(form, "revenue", "pence", since=datetime(2026, 1, 1))  # noqa: DTZ001 - what is refused


async def test_the_last_word_is_that_of_the_list(mesh: Mesh, url: str) -> None:
    """While late records correct windows, also those whose anomalies were told already."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures, chance = Analytics(mesh, "shops"), random.Random(7)
    words: dict[tuple[Any, ...], Anomaly] = {}

    async def listen() -> None:
        told = figures.follow_anomalies("revenue", "pence", rule=SOON, poll_s=0.1)
        async with aclosing(told) as anomalies:
            async for one in anomalies:
                before = words.get((one.key, one.start_us))
                assert before is None or (before.revision, before.is_cleared) != (
                    *(one.revision, one.is_cleared),
                )
                words[one.key, one.start_us] = one

    listening = asyncio.ensure_future(listen())
    try:
        for minute, (pence, late) in zip(range(4, 28, 4), CORRECTED, strict=True):
            sales = [
                sale(60 * (minute - back) + 30, shop, pence if back == 2 else chance.randint(1, 3))
                for back in (4, 3, 2, 1)
                for shop in ("north", "south")
            ]
            for shard, more in ((0, sales), (1, [])):
                await store(mesh, [*more, sale(60 * minute - 1, pence=0)], shard=shard)
            await rows_when(figures, partial(has_closed, minute - 1))
            await eventually(lambda wanted=pence == 40: listening.done() or words or not wanted)
            await store(mesh, [sale(60 * minute - 61, pence=late)])
        await finish(mesh)
        rows = await rows_when(figures, lambda rows: len(rows) == 2 * 24)
        expected = {(one.key, one.start_us, one.revision) for one in by_list(rows)}
        await eventually(lambda: listening.done() or expected == standing(words.values()))
    finally:
        listening.cancel()
        await asyncio.wait([listening])
    assert listening.cancelled()
    assert expected
    assert any(one.is_cleared for one in words.values())


def has_closed(minute: int, rows: list[WindowRow]) -> bool:
    """Tell whether a minute of the north is over."""
    return any(row.end_us == START_US + minute * MINUTE_US for row in rows)


def by_list(rows: list[WindowRow]) -> list[Anomaly]:
    """Return the anomalies of rows at hand."""
    return find_anomalies(rows, "pence", SOON)


def standing(told: Iterable[Anomaly]) -> set[tuple[Any, int, int]]:
    """Return which windows are anomalies, of the last words on each."""
    return {(one.key, one.start_us, one.revision) for one in told if not one.is_cleared}


async def test_who_follows_follows_the_switch(mesh: Mesh, url: str) -> None:
    """What is no anomaly by the new version is cleared."""
    await mesh.host(AnalyticsProcessor(job(), url))
    figures = Analytics(mesh, "shops")
    await sell(mesh, *USUAL, 900)
    await rows_when(figures, lambda rows: len(rows) >= 5)
    capped = revenue(
        columns={"capped": lambda pence: min(pence, 110)}, aggregates={"pence": Sum("capped")}
    )
    await mesh.host(AnalyticsProcessor(job(capped, version=2), url))
    await rows_when(Analytics(mesh, "shops", version=2), lambda rows: len(rows) >= 5)
    told = figures.follow_anomalies("revenue", "pence", rule=SOON, poll_s=0.1)
    async with asyncio.timeout(PATIENCE_S), aclosing(told) as anomalies:
        first = await anext(anomalies)
        await figures.switch(2)
        cleared = await anext(anomalies)
        assert (900, True) == (first.value, cleared.is_cleared)
        assert first.start_us == cleared.start_us


async def _first(form: Callable[..., Any], *names: str, **chosen: object) -> object:
    """Ask in either form, until there is an answer."""
    asked = form(*names, **chosen)
    if asyncio.iscoroutine(asked):
        return await asked
    async with asyncio.timeout(PATIENCE_S), aclosing(asked) as told:
        return await anext(told)
