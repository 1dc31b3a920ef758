"""A node is cut off from all others: it stops in time, and comes back as another one."""

from __future__ import annotations

import random
import time
from pathlib import Path

import msgspec
import pytest

from agent99.ids import SystemIds
from agent99.systems.cache._options import LEASE_S
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.campaigns._load import last, now_s
from tests.systems.cache._crew import Crew, Member
from tests.systems.cache._history import Histories, findings
from tests.systems.cache._member import WATCHED
from tests.systems.cache._plants import Served, read_served, second_owners

NODES = 3
CLIENTS = 2
GONE_S = 20.0
CUTS = [
    pytest.param(2, id="short", marks=pytest.mark.slow),
    pytest.param(15, id="full", marks=pytest.mark.chaos),
]


class Cut(msgspec.Struct, frozen=True):
    """A node was cut off."""

    node: str
    """Its id until then."""
    at_ns: int


class Campaign:
    """Three nodes that write down what they serve, of which one is cut off again and again."""

    def __init__(self, crew: Crew, seed: int) -> None:
        self.cuts: list[Cut] = []
        self.same_again = 0
        """So often a node came back under its old id."""
        self.back_s: list[float] = []
        self._crew = crew
        self._luck = random.Random(seed)

    async def run(self, cuts: int) -> Histories:
        """Cut so often; return what the clients saw."""
        crew = self._crew
        await crew.start_nodes(NODES, through_link=True, more=WATCHED)
        for _ in range(CLIENTS):
            await crew.start("client")
        for _ in range(cuts):
            await last(self._luck.uniform(0.5, 1.5))
            await self._cut(self._luck.choice(crew.living("node")))
        await last(0.5)
        return await crew.stop_clients()

    async def _cut(self, member: Member) -> None:
        node = self._id(member)
        member.cut()
        self.cuts.append(Cut(node, time.monotonic_ns()))
        await eventually(lambda: not self._id(member), timeout_s=GONE_S)
        await last(self._luck.uniform(0, 2))
        member.heal()
        healed_s = now_s()
        await self._crew.wait_whole()
        self.back_s.append(now_s() - healed_s)
        self.same_again += self._id(member) == node

    def _id(self, member: Member) -> str:
        """Return a node's id; empty: the table does not know it."""
        ids = [one.id for one in self._crew.table.nodes if one.instance == member.instance]
        return ids[0] if ids else ""


def _too_late(served: list[Served], cuts: list[Cut]) -> int:
    """Return how often a node served when its lease must have run out."""
    ends_ns = {cut.node: cut.at_ns + int(LEASE_S * 1e9) for cut in cuts}
    return sum(each.began_ns > ends_ns.get(each.node, each.began_ns) for each in served)


@pytest.mark.may_block("it judges long histories, when the load is over")
@pytest.mark.fault("K4", "one of 3 nodes is cut off, until others have removed it and longer")
@pytest.mark.parametrize("cuts", CUTS)
async def test_a_node_that_is_cut_off_serves_no_more(
    nats_server: NatsServer, tmp_path: Path, fault: Fault, seed: int, cuts: int
) -> None:
    """No partition is ever served by two, and by none whose lease has run out."""
    mesh = f"c{SystemIds().token().decode()[:10]}"
    async with Crew(nats_server.url, mesh, tmp_path, seed) as crew:
        campaign = Campaign(crew, seed)
        histories = await campaign.run(cuts)
        lost = crew.table.lost
    served = read_served(tmp_path)
    second = second_owners(served)
    found = findings(histories)
    print(*second, *found, sep="\n")  # noqa: T201 - for whoever reads why it failed
    fault.report(
        Figure("cut off", len(campaign.cuts)),
        Figure("answers of nodes that were looked at", len(served), at_least=1_000),
        Figure("partitions with a second owner at a time", len(second), at_most=0),
        Figure("answers after the lease", _too_late(served, campaign.cuts), at_most=0),
        Figure("back under the old id", campaign.same_again, at_most=0),
        Figure("back, with its share, after", max(campaign.back_s), "s"),
        Figure("operations", sum(map(len, histories.values()))),
        Figure("partitions that lost all copies", lost, at_most=0),
        Figure("keys and sessions that nothing explains", len(found), at_most=0),
    )
