"""Many callers in several processes on a real server: one load for all, and exact sums."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent99 import Mesh
from agent99.dispatch import new_event_loop
from agent99.ids import SystemIds
from agent99.systems.cache import CacheNodeAgent
from agent99.systems.cache._table import Table
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S
from tests.systems.cache._callers import LOAD_S, NAMESPACE
from tests.systems.cache._timed import Stand

PROCESSES = 3
NODE_BYTES = 1 << 26


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run on the loop of `agent99 run`."""
    return {"agent99": new_event_loop}


@pytest.fixture
async def mesh_name(nats_server: NatsServer) -> AsyncIterator[str]:
    """Give the name of a mesh on a real server, with two nodes that have what they are to have.

    An owner that hands a key over takes the turn to compute it with it: then it is loaded again.
    """
    name = f"t{SystemIds().token().decode()[:12]}"
    async with AsyncExitStack() as stack:
        for _ in range(2):
            mesh = await stack.enter_async_context(Mesh(nats_server.url, mesh=name))
            await mesh.host(CacheNodeAgent(memory_bytes=NODE_BYTES))
        cache = await mesh.cache(NAMESPACE)
        await cache.get("none")
        async with asyncio.timeout(PATIENCE_S):
            while not is_settled(cache.table):
                await asyncio.sleep(0)
        yield name


def is_settled(table: Table) -> bool:
    """Tell whether two nodes are in the table, and every partition is where it is to be."""
    there = all((part.owner, *part.replicas) == part.goal for part in table.parts)
    return there and len(table.nodes) == 2


@pytest.mark.slow
async def test_ten_thousand_callers_of_a_cold_key(
    nats_server: NatsServer, mesh_name: str, tmp_path: Path
) -> None:
    """Of 10,200 callers in three processes one loads a cold key, and all have its value."""
    noted = tmp_path / "loads"
    found = await _in_processes(nats_server.url, mesh_name, "cold", noted, 3_400)
    loads = noted.read_text().splitlines()
    assert 1 == len(loads)
    assert [[loads[0].split()[0]]] * PROCESSES == found


@pytest.mark.slow
async def test_no_stampede_in_processes(
    nats_server: NatsServer, mesh_name: str, tmp_path: Path
) -> None:
    """While a thousand callers in three processes read a key that expires, one loads at a time."""
    noted = tmp_path / "loads"
    found = await _in_processes(nats_server.url, mesh_name, "expiring", noted, 300)
    assert sum(sum(each) for each in found) > 1_000
    loads = sorted(tuple(map(int, line.split()[:2])) for line in noted.read_text().splitlines())
    assert 3 <= len(loads) <= 4.0 / (1.0 + LOAD_S) + 2
    for (_, ended_ns), (began_ns, _) in pairwise(loads):
        assert ended_ns < began_ns


@pytest.mark.slow
async def test_eight_writers(nats_server: NatsServer, mesh_name: str, tmp_path: Path) -> None:
    """Of 8 writers that add 1 ten thousand times each, in processes of their own, none is lost."""
    await _in_processes(nats_server.url, mesh_name, "counting", tmp_path / "-", 1, processes=8)
    async with Mesh(nats_server.url, mesh=mesh_name) as mesh:
        cache = await mesh.cache(NAMESPACE)
        assert 80_000 == await cache.get("number")


@pytest.mark.slow
async def test_eight_writers_while_a_node_joins(tmp_path: Path) -> None:
    """The sum of what 8 writers add is exact, also where the key's owner changes meanwhile."""
    async with AsyncExitStack() as stack:
        stand = Stand(stack, tmp_path)
        await stand.add_node()
        caches = [await stand.cache() for _ in range(8)]
        keys = ["one", "two", "three"]

        async def write(cache: Any) -> None:
            for _ in range(30):
                await asyncio.gather(*(cache.incr(key) for key in keys))
                await stand.clock.sleep(0.05)

        writing = [stand.begin(write(cache)) for cache in caches]
        await stand.add_node()
        for task in writing:
            await stand.run(task)
        assert [240] * 3 == [await stand.run(caches[0].get(key)) for key in keys]
        await stand.close()


async def _in_processes(
    url: str, mesh: str, what: str, file: Path, count: int, *, processes: int = PROCESSES
) -> list[Any]:
    """Have processes work at the same time; returns what they say."""
    command = (sys.executable, "-m", "tests.systems.cache._callers", url, mesh, what, str(file))
    running: list[Process] = []
    try:
        async with asyncio.timeout(120):
            for _ in range(processes):
                process = await asyncio.create_subprocess_exec(
                    *command, str(count), stdin=PIPE, stdout=PIPE
                )
                running.append(process)
            for process in running:
                assert b"ready\n" == await _line(process)
            for process in running:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            found = [json.loads(await _line(process)) for process in running]
            for process in running:
                assert 0 == await process.wait()
            return found
    finally:
        for process in running:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()
