"""Processors killed, added and taken away while records come: windows are exact all the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent99 import Mesh
from agent99.ids import SystemIds
from agent99.systems.analytics import Analytics, AnalyticsProcessor, Tumbling
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer

from ._keeper import POSITION_FIRST, SHOWN_AGAIN, SWALLOWED
from ._sales import job, revenue, rows_when, sale, source, store
from ._till_campaign import PACE_S, TillCampaign, findings

pytestmark = pytest.mark.slow
KILLS = [
    pytest.param(8, id="short", marks=pytest.mark.slow),
    pytest.param(100, id="full", marks=pytest.mark.chaos),
]
SETTLED_S_MAX = 30.0
PAUSE_S_MAX = 5.0
GRACE_S = 0.5


@pytest.fixture
async def mesh(nats_server: NatsServer) -> AsyncIterator[Mesh]:
    """Give a mesh of the campaign's own on the shared server."""
    async with Mesh(nats_server.url, mesh=f"t{SystemIds().token().decode()[:12]}") as made:
        yield made


@pytest.mark.fault("N7", "kill -9 one of three processors at random, 5 % of the records late")
@pytest.mark.parametrize("kills", KILLS)
async def test_windows_are_exact_through_kills(
    nats_server: NatsServer,
    mesh: Mesh,
    url: str,
    tmp_path: Path,
    fault: Fault,
    seed: int,
    kills: int,
) -> None:
    """All windows are what a batch makes of the records, and a run without faults; each is once."""
    async with TillCampaign(nats_server.url, mesh, url, seed) as campaign:
        campaign.pace_s = PACE_S * kills / 8  # as many records, whatever is killed
        await campaign.start(3)
        campaign.sell()
        for _ in range(kills):
            await campaign.sold(campaign.luck.randint(1, 12_000 // kills))
            await campaign.kill()
            await campaign.start()
        await campaign.close()
        settled_s = await campaign.settled_s()
        found = await campaign.found()
        calm = await campaign.rows_without_faults(f"sqlite:///{tmp_path}/calm.db")
    fault.report(
        Figure("processors killed", campaign.kills, at_least=kills),
        Figure("records", campaign.tills.count),
        Figure("windows", len(found.rows), at_least=100),
        Figure(
            "rows that a run without faults has otherwise",
            len(set(found.rows) ^ set(calm)),
            at_most=0,
        ),
        Figure("corrections", _corrections(found.told), at_least=1),
        Figure("all closed after", settled_s, "s", at_most=SETTLED_S_MAX),
        *(Figure(what, count, at_most=0) for what, count in findings(campaign, found).items()),
    )


@pytest.mark.fault("N4", "scale 1, 4, 2 processors while records come")
async def test_processors_come_and_go(
    nats_server: NatsServer, mesh: Mesh, url: str, fault: Fault, seed: int
) -> None:
    """Whoever comes or leaves, nothing stands still for long, and all windows are exact."""
    async with TillCampaign(nats_server.url, mesh, url, seed) as campaign:
        await campaign.start()
        campaign.sell()
        watching = asyncio.ensure_future(campaign.watch_pauses())
        await campaign.sold(1_000)
        await campaign.start(3)
        await campaign.sold(2_000)
        for _ in range(2):
            await campaign.leave()
        await campaign.sold(1_000)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await campaign.close()
        settled_s = await campaign.settled_s()
        found = await campaign.found()
    fault.report(
        Figure("records", campaign.tills.count),
        Figure("windows", len(found.rows), at_least=100),
        Figure("the longest pause", campaign.longest_pause_s, "s", at_most=PAUSE_S_MAX),
        Figure("all closed after", settled_s, "s", at_most=SETTLED_S_MAX),
        *(Figure(what, count, at_most=0) for what, count in findings(campaign, found).items()),
    )


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        (POSITION_FIRST, "windows that are not what they must be"),
        (SWALLOWED, "windows that are not what they must be"),
        (SHOWN_AGAIN, "rows that events tell twice"),
    ],
)
async def test_planted_faults_are_found(
    nats_server: NatsServer, mesh: Mesh, url: str, seed: int, planted: str, expected: str
) -> None:
    """The campaign can fail: what is lost, swallowed, or told twice is found."""
    async with TillCampaign(nats_server.url, mesh, url, seed, planted) as campaign:
        await campaign.start(2)
        campaign.sell()
        for _ in range(4):
            await campaign.sold(800)
            await campaign.kill()
            await campaign.start()
        await campaign.close()
        await campaign.settled_s()
        found = await campaign.found()
        wrong = findings(campaign, found)
    assert wrong[expected] > 0, wrong


@pytest.mark.fault("N5", "nothing comes any more, ten times")
async def test_windows_of_idle_sources_close(mesh: Mesh, url: str, fault: Fault) -> None:
    """A window of a silent source closes within a second of when nobody waits for it any more."""
    quiet = source(idle_s=GRACE_S, delay_s=0.0, shards=1)
    await mesh.host(AnalyticsProcessor(job(revenue(quiet, window=Tumbling(1))), url))
    figures = Analytics(mesh, "shops")
    late_s: list[float] = []
    for turn in range(10):
        await store(mesh, [sale(10 * turn)])
        stored_s = time.monotonic()
        await rows_when(figures, lambda rows, turn=turn: len(rows) > turn)
        # It ends a second after its only record, by the wall clock.
        late_s.append(time.monotonic() - stored_s - max(GRACE_S, 1.0))
    fault.report(
        Figure("closed after the grace, at the latest", max(late_s), "s", at_most=1.0),
        Figure("closed before it", sum(one < -0.05 for one in late_s), at_most=0),
    )


def _corrections(told: object) -> int:
    """Count the rows that corrected others."""
    assert isinstance(told, dict)
    return sum(revision > 1 for counter in told.values() for _, revision in counter)
