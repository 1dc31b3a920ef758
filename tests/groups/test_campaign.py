"""Scale 2, 8, 3 members under load, kill -9 some, freeze one: nothing lost, twice or reordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent99 import Mesh, Settings
from agent99.ids import SystemIds
from tests._nats_server import NatsServer
from tests.groups._campaign import Campaign, check, pauses
from tests.groups._member import open_effects

pytestmark = pytest.mark.slow
CYCLES = [
    pytest.param(1, id="short", marks=pytest.mark.slow),
    pytest.param(8, id="full", marks=pytest.mark.chaos),
]


@pytest.fixture
async def campaign(nats_server: NatsServer, tmp_path: Path, seed: int) -> AsyncIterator[Campaign]:
    """Give a campaign on a mesh of its own; no process outlives the test."""
    name = f"t{SystemIds().token().decode()[:12]}"
    database = f"sqlite:///{tmp_path}/effects.db"
    async with (
        open_effects(database),
        Mesh(settings=Settings(url=nats_server.url, mesh=name)) as mesh,
    ):
        made = Campaign(mesh, nats_server.url, database, seed)
        yield made
        await made.end()


async def _while_it_runs(campaign: Campaign, seconds: float) -> None:
    """Let the load go on for a while."""
    wanted = sum(campaign.appended.values()) + seconds * 200
    async with asyncio.timeout(60):
        while sum(campaign.appended.values()) < wanted:
            await asyncio.sleep(0)


@pytest.mark.parametrize("cycles", CYCLES)
async def test_members_that_come_and_die(campaign: Campaign, cycles: int, seed: int) -> None:
    """Each event takes effect once and in order, and the pause of what moves is short."""
    await campaign.start(2)
    campaign.load()
    await _while_it_runs(campaign, 2)
    for _ in range(cycles):
        await campaign.start(6)
        await _while_it_runs(campaign, 3)
        for count in (1, 2):
            campaign.kill(count)
            await _while_it_runs(campaign, 3)
        campaign.freeze()
        await _while_it_runs(campaign, 5)
        campaign.thaw()
        await _while_it_runs(campaign, 3)
        await campaign.leave(2)
        await _while_it_runs(campaign, 2)
        campaign.kill(1)
        await _while_it_runs(campaign, 2)
    effects = await campaign.settle()
    print(f"\nseed {seed}, {len(effects)} events")
    found = pauses(effects, campaign.faults)
    for what, longest_s, usual_s in found:
        print(f"  {what}: at most {longest_s:.3f} s, usually {usual_s:.4f} s")
    check(effects, campaign.appended)
    for what, longest_s, _ in found:
        assert longest_s < (4.0 if "still" in what or "goes on" in what else 1.0), what
