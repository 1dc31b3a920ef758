"""A new version beside the live one, switched to under load: no gap, and nothing twice (N12)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from agent99 import Mesh
from agent99.ids import SystemIds
from agent99.store import StoreOptions, open_store
from agent99.systems.analytics import Analytics, Comparison, WindowRow
from agent99.systems.analytics._tables import MIGRATIONS, SCHEMA
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer

from . import _tills
from ._by_definition import Name, name_of
from ._keeper import NEWER, OLDER
from ._till_campaign import TillCampaign
from ._tills import expected_of, switched_job
from ._versions import SETTLE_S, Versions, figures_of, switched

SIZES = [
    pytest.param(9_000, 150, id="short", marks=pytest.mark.slow),
    pytest.param(1_000_000, 1_000, id="full", marks=pytest.mark.chaos),
]
"""Sales before the new version, and so many at a time."""
LIVE_BATCH, LIVE_SALES = 50, 2_000
"""Those that come after the switch."""
PIPELINES = tuple(switched_job(1).pipelines)
COMPARED = PIPELINES[:2]
"""Those whose windows have a place in time, so that both versions have the same ones under load."""


@pytest.fixture
async def versions(nats_server: NatsServer, url: str) -> AsyncIterator[Versions]:
    """Give a mesh of the campaign's own on the shared server, and its database."""
    options = StoreOptions(rows_max=2_000_000, lock_s_max=30.0)
    async with (
        Mesh(nats_server.url, mesh=f"t{SystemIds().token().decode()[:12]}") as mesh,
        open_store(url, migrations=MIGRATIONS, schema=SCHEMA, options=options) as store,
    ):
        yield Versions(mesh, store)


@pytest.mark.fault("N12", "a new version beside the live one, switched to with kill -9 under load")
@pytest.mark.parametrize(("size", "batch"), SIZES)
async def test_a_new_version_takes_the_place_of_the_old_one(
    nats_server: NatsServer,
    versions: Versions,
    url: str,
    fault: Fault,
    seed: int,
    size: int,
    batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each window is told once over the switch, and the rows are what a batch makes of them."""
    monkeypatch.setattr(_tills, "BATCH", batch)
    figures = Analytics(versions.mesh, "tills")
    async with TillCampaign(nats_server.url, versions.mesh, url, seed) as campaign:
        await campaign.start(how=OLDER)
        campaign.sell()
        await campaign.sold(size)
        monkeypatch.setattr(_tills, "BATCH", LIVE_BATCH)
        began_s = time.monotonic()
        await campaign.start(2, how=NEWER)
        await versions.caught_up()
        caught_up_s = time.monotonic() - began_s
        compared = [await figures.compare(1, 2, pipeline=name) for name in COMPARED]
        await _kill_newer(campaign)  # so nobody closes some of its pipelines for a while
        switched_s = await switched(figures)
        current = (await figures.stats()).current_version
        sold = campaign.tills.count
        await campaign.start(how=NEWER)
        await campaign.sold(LIVE_SALES)
        await campaign.close()
        await versions.settled()
        wrong = await _wrong(versions, campaign)
    fault.report(
        Figure("records", campaign.tills.count, at_least=size),
        Figure("records sold before the switch", sold),
        Figure("processors killed", campaign.kills, at_least=1),
        Figure("caught up after", caught_up_s, "s", at_most=SETTLE_S),
        Figure("windows compared", sum(map(_compared, compared)), at_least=50),
        Figure("windows of one version alone", sum(map(_alone, compared)), at_most=0),
        Figure("switched after", switched_s, "s", at_most=SETTLE_S),
        Figure("version that is asked for", current, at_least=2, at_most=2),
        *(Figure(what, count, at_most=0) for what, count in wrong.items()),
        *(
            Figure(f"rows of version {version} told", count, at_least=1)
            for version, count in (await _told_by(versions)).items()
        ),
    )


async def _kill_newer(campaign: TillCampaign) -> None:
    """End one of the new version's processors as a crash would."""
    older, campaign.running[:] = campaign.running[:1], campaign.running[1:]
    await campaign.kill()
    campaign.running[:0] = older


async def _wrong(versions: Versions, campaign: TillCampaign) -> dict[str, int]:
    """Return what is wrong, in words, and how often it is."""
    wrong = Counter(
        {
            "windows that are not what they must be": 0,
            "events that tell nothing new": 0,
            "windows that no event tells": 0,
            "windows that events tell, and there are not": 0,
            "windows whose last event is not their row": 0,
            "events of the old version after the switch": 0,
        }
    )
    for name, pipeline in switched_job(1).pipelines.items():
        rows = {version: await versions.rows(version, name) for version in (1, 2)}
        expected = expected_of(pipeline, campaign.tills).windows
        for version in (1, 2):
            must = {one: (count, pence * version) for one, (count, pence) in expected.items()}
            there = rows[version]
            wrong["windows that are not what they must be"] += sum(
                there.get(one) != must.get(one) for one in there.keys() | must.keys()
            )
        told = await versions.told(name)
        last: dict[Name, tuple[int, WindowRow]] = {}
        for version, row in told:
            before = last.pop(name_of(row), None)
            # Whatever corrects a window has more of it.
            is_news = before is None or row.rows > before[1].rows
            wrong["events that tell nothing new"] += is_news == row.is_retracted
            if not row.is_retracted:
                last[name_of(row)] = version, row
        wrong["windows that no event tells"] += len(expected.keys() - last.keys())
        wrong["windows that events tell, and there are not"] += len(last.keys() - expected.keys())
        wrong["windows whose last event is not their row"] += sum(
            rows[version].get(one) != figures_of(row.values) for one, (version, row) in last.items()
        )
        by_version = [version for version, _ in told]
        wrong["events of the old version after the switch"] += by_version != sorted(by_version)
    return dict(wrong)


async def _told_by(versions: Versions) -> Counter[int]:
    """Count the rows that each version has told."""
    told: Counter[int] = Counter()
    for name in PIPELINES:
        told.update(version for version, _ in await versions.told(name))
    return told


def _compared(found: Comparison) -> int:
    return found.equal + found.different


def _alone(found: Comparison) -> int:
    return found.only_old + found.only_new
