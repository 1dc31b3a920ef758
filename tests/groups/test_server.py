"""A group on a server that is killed and comes back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent99 import Agent99Error, Mesh, Settings
from agent99.groups import Group
from agent99.ids import SystemIds
from tests._nats_cluster import NatsCluster
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.groups.test_group import QUICK, Seen, fill, held


@pytest.mark.slow
async def test_a_server_of_three_that_is_killed(tmp_path: Path, seed: int) -> None:
    """On a cluster, a group goes on when one server of three is killed: nothing is lost."""
    luck, seen = random.Random(seed), Seen()
    cluster = NatsCluster(tmp_path / "cluster")
    try:
        where: dict[str, Any] = {"project": tmp_path, "state_folder": tmp_path}
        settings = Settings(**where, url=cluster.url, mesh="three", replicas=3)
        await _wait_ready(settings)
        async with Mesh(settings=settings) as one, Mesh(settings=settings) as two:
            groups = [Group(each, "billing", ["order.*"], seen.handle) for each in (one, two)]
            async with groups[0], groups[1]:
                await eventually(lambda: held(*groups) == [32, 32])
                await fill(one, 20, range(5))
                cluster.servers[luck.choice(sorted(cluster.servers))].kill()
                await fill(one, 20, range(5, 10))
                await eventually(lambda: seen.count >= 200)
                await eventually(lambda: held(*groups) == [32, 32])
    finally:
        cluster.close()
    assert {f"k{key}": set(range(10)) for key in range(20)} == {
        key: set(numbers) for key, numbers in seen.by_key.items()
    }


async def _wait_ready(settings: Settings) -> None:
    """Wait until the cluster has elected who may make streams."""
    async with asyncio.timeout(60):
        while True:
            try:
                async with Mesh(settings=settings) as mesh:
                    await mesh.append("is.ready", {"number": -1})
            except Agent99Error:
                continue
            return


@pytest.mark.may_block("the server is killed and started here")
async def test_a_server_that_is_killed(start_nats_server: Callable[..., NatsServer]) -> None:
    """Across a kill -9 of the server the same members go on; nobody takes another one for dead."""
    server = start_nats_server()
    seen = Seen()
    name = f"t{SystemIds().token().decode()[:12]}"
    async with Mesh(server.url, mesh=name) as one, Mesh(server.url, mesh=name) as two:
        groups = [Group(mesh, "billing", [">"], seen.handle, options=QUICK) for mesh in (one, two)]
        async with groups[0], groups[1]:
            await eventually(lambda: held(*groups) == [32, 32])
            await fill(one, 20, range(5))
            await eventually(lambda: seen.count == 100)
            server.restart()
            await fill(one, 20, range(5, 10))
            await eventually(lambda: seen.count >= 200)
            assert [32, 32] == held(*groups)
            assert [0, 0] == [group.statistics().fenced for group in groups]
    seen.check(20, 10)
