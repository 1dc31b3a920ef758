"""Nodes of the cache are killed under load: with one copy, nothing acknowledged is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agent99.ids import SystemIds
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.campaigns._load import last, now_s
from tests.systems.cache._crew import Crew, Member
from tests.systems.cache._history import findings
from tests.systems.cache._loads import count_missing, fill, look_at_all

NODES = 3
WRITERS = 2
WHOLE_S = 10.0
"""So long after a kill all of 100,000 keys have a copy again; the 2.4 s of silence are in it."""
KEYS = [
    pytest.param(10_000, id="short", marks=pytest.mark.slow),
    pytest.param(100_000, id="full", marks=pytest.mark.chaos),
]


class Campaign:
    """Three nodes of which one is killed, and then another, which is back at once."""

    def __init__(self, crew: Crew, keys: int) -> None:
        self.removed_s: list[float] = []
        self.whole_s: list[float] = []
        self._crew = crew
        self._keys = keys

    async def run(self) -> None:
        """Kill both, under load."""
        crew = self._crew
        first, second, _ = await crew.start_nodes(NODES)
        await fill(crew.cache, self._keys)
        for _ in range(WRITERS):
            await crew.start("writer")
        await last(1)
        await self._kill(first)
        await last(1)
        await self._kill(second, is_back=True)
        await last(1)

    async def _kill(self, node: Member, *, is_back: bool = False) -> None:
        await node.kill()
        began_s = now_s()
        if is_back:
            await self._crew.start("node")
        await eventually(lambda: not self._has(node))
        self.removed_s.append(now_s() - began_s)
        await self._crew.wait_whole()
        self.whole_s.append(now_s() - began_s)

    def _has(self, node: Member) -> bool:
        return any(each.instance == node.instance for each in self._crew.table.nodes)


@pytest.mark.may_block("it judges long histories, when the load is over")
@pytest.mark.fault("K3", "kill -9 one of 3 nodes, then another that is back at once, one copy")
@pytest.mark.parametrize("keys", KEYS)
async def test_killed_nodes_take_nothing_with_them(
    nats_server: NatsServer, tmp_path: Path, fault: Fault, seed: int, keys: int
) -> None:
    """Whatever was acknowledged, and not deleted later, is there; what was deleted is not."""
    mesh = f"c{SystemIds().token().decode()[:10]}"
    async with Crew(nats_server.url, mesh, tmp_path, seed) as crew:
        campaign = Campaign(crew, keys)
        await campaign.run()
        histories = await crew.stop_clients()
        await look_at_all(crew.cache, histories)
        missing = await count_missing(crew.cache, keys)
        lost = crew.table.lost
    found = findings(histories)
    operations = [each for every in histories.values() for each in every]
    outcomes = Counter(each.outcome for each in operations)
    fault.report(
        Figure("keys that were there before", keys),
        Figure("of them missing", missing, at_most=0),
        Figure("keys written meanwhile", len(histories)),
        Figure("writes without a known outcome", outcomes["unknown"]),
        Figure("failed", outcomes["failed"]),
        Figure("keys that are not as they were left", len(found), at_most=0),
        Figure("partitions that lost all copies", lost, at_most=0),
        Figure("removed after", max(campaign.removed_s), "s"),
        Figure("every key has a copy again after", max(campaign.whole_s), "s", at_most=WHOLE_S),
    )
