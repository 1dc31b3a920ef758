"""Scale 2, 8, 3 members under load, kill -9 some, freeze one: nothing lost, twice or reordered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.ids import SystemIds
from tests._nats_server import NatsServer
from tests.groups._campaign import Campaign, check, check_plain, pauses, tell
from tests.groups._member import open_effects

pytestmark = pytest.mark.slow
CYCLES = [
    pytest.param(1, id="short", marks=pytest.mark.slow),
    pytest.param(8, id="full", marks=pytest.mark.chaos),
]


@pytest.fixture(params=["fenced", "plain"])
async def campaign(
    request: pytest.FixtureRequest, nats_server: NatsServer, tmp_path: Path, seed: int
) -> AsyncIterator[Campaign]:
    """Give a campaign on a mesh of its own; no process outlives the test."""
    name = f"t{SystemIds().token().decode()[:12]}"
    database = f"sqlite:///{tmp_path}/effects.db"
    async with (
        open_effects(database),
        Mesh(nats_server.url, mesh=name) as mesh,
    ):
        made = Campaign(mesh, nats_server.url, database, seed, request.param)
        yield made
        await made.end()


@pytest.mark.parametrize("cycles", CYCLES)
async def test_members_that_come_and_die(campaign: Campaign, cycles: int, seed: int) -> None:
    """Nothing is lost or out of order, fenced effects take place once, and pauses are short."""
    await campaign.start(2)
    campaign.load()
    await campaign.work(2)
    for _ in range(cycles):
        await campaign.start(6)
        await campaign.work(3)
        for count in (1, 2):
            campaign.kill(count)
            await campaign.work(3)
        campaign.freeze()
        await campaign.work(5)
        campaign.thaw()
        await campaign.work(3)
        await campaign.leave(2)
        await campaign.work(2)
        campaign.kill(1)
        await campaign.work(2)
    effects = await campaign.settle()
    found = pauses(campaign, effects)
    tell(f"seed {seed}, {len(effects)} events")
    for pause in found:
        tell(f"  {pause}")
    if campaign.kind == "fenced":
        check(effects, campaign.appended)
    else:
        repeats, stale = check_plain(effects, campaign.appended)
        tell(f"  {repeats} events came again, {stale} of them at a member that had lost them")
    assert [] == [str(pause) for pause in found if pause.longest_s > pause.longest_s_max]
