"""Nodes of the cache are killed, frozen and cut off: each key still is as if at one place."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from agent99.ids import SystemIds
from agent99.systems.cache._options import SILENCE_S
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.campaigns._load import last, now_s
from tests.systems.cache._crew import Crew, Member
from tests.systems.cache._history import Histories, findings

NODES = 4
CLIENTS = 2
HURTS = {"killed": 3, "frozen": 2, "cut off": 2, "with a link that was reset": 1}
"""What is done to a node, and how often of eight times."""
NOTICED_S = SILENCE_S + 0.6
"""After it, who was away for too long has been removed, and no second one is hurt meanwhile."""
SECONDS = [
    pytest.param(20, id="short", marks=pytest.mark.slow),
    pytest.param(120, id="full", marks=pytest.mark.chaos),
]


class Campaign:
    """Four nodes, one of them hurt again and again, under load."""

    def __init__(self, crew: Crew, seed: int) -> None:
        self.hurt: Counter[str] = Counter()
        self._crew = crew
        self._luck = random.Random(seed)

    async def run(self, seconds: float) -> Histories:
        """Hurt nodes for so long, one after the other; return what the clients saw."""
        crew = self._crew
        await crew.start_nodes(NODES, through_link=True)
        for _ in range(CLIENTS):
            await crew.start("client")
        until_s = now_s() + seconds
        while now_s() < until_s:
            await last(self._luck.uniform(0.5, 2.0))
            await self._hurt(self._luck.choice(crew.living("node")))
            await last(NOTICED_S)
            await crew.wait_whole()
        return await crew.stop_clients()

    async def _hurt(self, node: Member) -> None:
        (what,) = self._luck.choices(tuple(HURTS), tuple(HURTS.values()))
        self.hurt[what] += 1
        for_s = self._luck.uniform(0.2, 5.0)
        if what == "killed":
            await node.kill()
            await self._crew.start("node", through_link=True)
        elif what == "frozen":
            node.freeze()
            await last(for_s)
            node.thaw()
        elif what == "cut off":
            node.cut()
            await last(for_s)
            node.heal()
        else:
            assert node.link is not None
            node.link.reset()


@pytest.mark.may_block("it judges long histories, when the load is over")
@pytest.mark.fault("K15", "kill -9, freeze and cut off one of 4 nodes, at random, one copy")
@pytest.mark.parametrize("seconds", SECONDS)
async def test_each_key_is_at_one_place(
    nats_server: NatsServer, tmp_path: Path, fault: Fault, seed: int, seconds: float
) -> None:
    """With one copy, whichever one node is hurt: every history of a key has an order."""
    mesh = f"c{SystemIds().token().decode()[:10]}"
    async with Crew(nats_server.url, mesh, tmp_path, seed) as crew:
        campaign = Campaign(crew, seed)
        histories = await campaign.run(seconds)
        lost = crew.table.lost
    found = findings(histories)
    operations = [each for every in histories.values() for each in every]
    outcomes = Counter(each.outcome for each in operations)
    fault.report(
        *(Figure(f"nodes {what}", times) for what, times in sorted(campaign.hurt.items())),
        Figure("operations", len(operations)),
        Figure("of them without a known outcome", outcomes["unknown"]),
        Figure("failed", outcomes["failed"]),
        Figure("partitions that lost all copies", lost, at_most=0),
        Figure("keys and sessions that nothing explains", len(found), at_most=0),
    )
