"""The registry on a real server: crashes of processes and of the server itself."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent99.journal import JetStreamJournal
from agent99.registry import Registry, RegistryOptions, Table
from tests._wait import PATIENCE_S
from tests.conftest import StartNatsServer
from tests.registry._describe import describe
from tests.registry._mesh import RealMesh, until

_CHILD = Path(__file__).parent / "_child.py"


@asynccontextmanager
async def _child(
    mesh: RealMesh, instance: str, *more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process that has announced one agent."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(_CHILD),
        mesh.url,
        mesh.name,
        instance,
        *more,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert b"ready\n" == await process.stdout.readline()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_others_see_what_is_announced(real_mesh: RealMesh) -> None:
    """What one process announces, changes and withdraws, another sees."""
    here, there = await real_mesh.join(), await real_mesh.join()
    mine = await here.announce(describe("i1", "orders", "shop"))
    assert (mine,) == here.table.discover("shop")
    assert (mine,) == await there.wait_for("shop", timeout_s=5)
    paused = await here.announce(describe("i1", "orders", "shop", state="paused"))
    await there.wait_until(lambda table: table.get("i1") == paused, timeout_s=PATIENCE_S)
    assert () == there.table.discover("shop")
    await here.withdraw("i1")
    assert here.table.get("i1") is None
    await there.wait_until(lambda table: table.get("i1") is None, timeout_s=PATIENCE_S)


async def test_a_killed_process_is_removed(real_mesh: RealMesh) -> None:
    """After kill -9 its agents are gone from every table within a lease and some slack."""
    here, watcher = await real_mesh.join(), await real_mesh.join()
    await here.announce(describe("i1"))
    async with _child(real_mesh, "i2") as process:
        await watcher.wait_for("child", timeout_s=5)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        killed_s = time.monotonic()
        for registry in (here, watcher):
            await registry.wait_until(lambda table: table.get("i2") is None, timeout_s=PATIENCE_S)
    assert time.monotonic() - killed_s < 6  # lease 1 s, notice 0.25 s, at most one grace of 1 s
    assert watcher.table.get("i1") is not None


@pytest.mark.slow
async def test_a_killed_keeper_is_removed(real_mesh: RealMesh) -> None:
    """When it is the keeper who is killed, another takes over and removes its agents."""
    async with _child(real_mesh, "i2", "keeper") as process:
        here = await real_mesh.join()
        await here.announce(describe("i1"))
        assert here.table.get("i2") is not None
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await here.wait_until(lambda table: table.get("i2") is None, timeout_s=8)
    assert here.statistics().is_keeper
    assert 1 == here.statistics().removed


async def test_a_clean_stop_withdraws_at_once(real_mesh: RealMesh) -> None:
    """Closing removes the agents, the lease and the keeper's place without waiting for any time."""
    long = RegistryOptions(lease_s=60, lease_refresh_s=0.3, keeper_s=60, keeper_refresh_s=0.3)
    here, there = await real_mesh.join(long), await real_mesh.join(long)
    await here.announce(describe("i1"))
    await there.wait_until(lambda table: len(table) == 1, timeout_s=PATIENCE_S)
    await _until_keeper(there, here)
    await here.aclose()
    await here.aclose()
    await there.wait_until(lambda table: len(table) == 0, timeout_s=PATIENCE_S)
    await _until_keeper(there)


@pytest.mark.slow
async def test_after_a_crash_of_the_server_all_is_back(start_nats_server: StartNatsServer) -> None:
    """Killed and started again, within 5 s the server holds every agent, and nobody was removed."""
    server = start_nats_server()
    mesh = RealMesh(server.url)
    unhurried = RegistryOptions(lease_s=3, lease_refresh_s=0.5, rejoin_jitter_s=0.5)
    registries = [await mesh.join(unhurried) for _ in range(3)]
    instances = {f"i{n}" for n in range(9)}
    for n, instance in enumerate(sorted(instances)):
        await registries[n % 3].announce(describe(instance))
    for registry in registries:
        await registry.wait_until(lambda table: len(table) == 9, timeout_s=PATIENCE_S)
    lease_and_more_s = 3.5
    server.kill()
    await mesh.clock.sleep(lease_and_more_s)  # all leases run out, and nobody can refresh his
    server.start()
    back_s = time.monotonic()
    await mesh.leased(*registries, timeout_s=5)
    newcomer = await mesh.join(unhurried)
    await newcomer.wait_until(lambda table: _ids(table) == instances, timeout_s=PATIENCE_S)
    assert time.monotonic() - back_s < 5
    for registry in registries:
        await registry.wait_until(lambda table: _ids(table) == instances, timeout_s=PATIENCE_S)
    await mesh.clock.sleep(lease_and_more_s)  # long enough for a hasty keeper to err
    assert instances == _ids(newcomer.table)
    assert 0 == sum(registry.statistics().removed for registry in registries)
    await mesh.aclose()
    server.close()


@pytest.mark.parametrize(
    "lost", [pytest.param("registry", marks=pytest.mark.slow), "leases", "keeper"]
)
async def test_a_lost_bucket_is_made_again(real_mesh: RealMesh, lost: str) -> None:
    """Whichever bucket is wiped, it is made again and everybody is in it again."""
    here, there = await real_mesh.join(), await real_mesh.join()
    await here.announce(describe("i1"))
    await there.announce(describe("i2"))
    await here.wait_until(lambda table: len(table) == 2, timeout_s=PATIENCE_S)
    await _until_keeper(here, there)
    journal = JetStreamJournal(real_mesh.wires[here])
    await journal.delete_stream(f"KV_a99_{real_mesh.name}_{lost}")
    await real_mesh.stored("i1", "i2", timeout_s=15)
    await real_mesh.leased(here, there, timeout_s=15)
    await real_mesh.kept(timeout_s=15)
    newcomer = await real_mesh.join()
    assert {"i1", "i2"} == _ids(newcomer.table)


async def test_a_store_lost_with_the_server_is_filled_again(
    start_nats_server: StartNatsServer, tmp_path: Path
) -> None:
    """A server that comes back with nothing gets every agent again within 5 s."""
    server = start_nats_server()
    mesh = RealMesh(server.url)
    here, there = await mesh.join(), await mesh.join()
    await here.announce(describe("i1"))
    await there.announce(describe("i2"))
    server.kill()
    server.store.rename(tmp_path / "lost")
    server.start()
    back_s = time.monotonic()
    await mesh.stored("i1", "i2", timeout_s=10)
    assert time.monotonic() - back_s < 5
    for registry in (here, there):
        await registry.wait_until(lambda table: _ids(table) == {"i1", "i2"}, timeout_s=PATIENCE_S)
    await mesh.aclose()


def _ids(table: Table) -> set[str]:
    return {description.instance for description in table.everybody()}


async def _until_keeper(*registries: Registry) -> None:
    """Wait until one of them is the keeper."""

    async def kept() -> bool:
        return any(registry.statistics().is_keeper for registry in registries)

    await until(kept, timeout_s=10)
