"""Anomalies of a job that runs: asked for, and told as windows close and are corrected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from agent99 import Mesh
from agent99.errors import BadRequestError, RemoteError, UsageError
from agent99.systems.analytics import AnalyticsProcessor, Ewma, find_anomalies
from agent99.systems.analytics._client import Analytics
from tests._wait import PATIENCE_S

from ._sales import START_US, job, rows_when, sale, store

SOON = Ewma(warm_up=3)
USUAL = (100, 110, 100, 110)
"""Pence of the first minutes."""
ODD_END = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=START_US, minutes=5)
"""Of the minute after them."""


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


async def _first(form: Callable[..., Any], *names: str, **chosen: object) -> object:
    """Ask in either form, until there is an answer."""
    asked = form(*names, **chosen)
    if asyncio.iscoroutine(asked):
        return await asked
    async with asyncio.timeout(PATIENCE_S), aclosing(asked) as told:
        return await anext(told)
