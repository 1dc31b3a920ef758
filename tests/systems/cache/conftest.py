"""Caches in memory, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from functools import lru_cache
from pathlib import Path

import pytest

from agent99.dispatch import new_event_loop
from agent99.systems.cache import _book
from agent99.systems.cache._table import decode_table

from ._world import World


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of `agent99 run`."""
    return {"agent99": new_event_loop}


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """Give a mesh in memory in which nobody is yet."""
    # All of its processes are one here, and read the same table: once is enough, since it is pure.
    monkeypatch.setattr(_book, "decode_table", lru_cache(64)(decode_table))
    async with AsyncExitStack() as stack:
        world = World(stack, tmp_path)
        yield world
        await world.close()
