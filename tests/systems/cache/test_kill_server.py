"""The server of a cache is killed and back soon: no key is lost, and no node is removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agent99.ids import SystemIds
from agent99.systems.cache._table import Table
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.campaigns._load import last
from tests.systems.cache._crew import Crew
from tests.systems.cache._history import findings
from tests.systems.cache._loads import count_missing, fill, look_at_all

NODES = 3
KEYS = 5_000
BACK_S = 6.0
"""So long after the server's return everybody had time to be back, and to judge the others."""
AWAY_S = [
    pytest.param((0.0, 3.0), id="short", marks=pytest.mark.slow),
    pytest.param((0.0, 1.0, 2.0, 3.0, 5.0) * 2, id="full", marks=pytest.mark.chaos),
]


def _owners(table: Table) -> list[tuple[str, int]]:
    return [(part.owner, part.epoch) for part in table.parts]


@pytest.mark.may_block("it starts servers, and judges long histories")
@pytest.mark.fault("K4", "kill -9 nats-server under load, and start it again within 5 s")
@pytest.mark.parametrize("away_s", AWAY_S)
async def test_a_server_that_is_back_soon_costs_no_node(
    start_nats_server: Callable[..., NatsServer],
    tmp_path: Path,
    fault: Fault,
    seed: int,
    away_s: tuple[float, ...],
) -> None:
    """All owners own what they did, and all that was acknowledged is there."""
    server, mesh = start_nats_server(), f"c{SystemIds().token().decode()[:10]}"
    async with Crew(server.url, mesh, tmp_path, seed) as crew:
        await crew.start_nodes(NODES)
        await fill(crew.cache, KEYS)
        await crew.start("client")
        await crew.start("writer")
        before = _owners(crew.table)
        for seconds in away_s:
            await last(1)
            server.kill()
            await last(seconds)
            server.start()
            await last(BACK_S)
        changed = sum(a != b for a, b in zip(before, _owners(crew.table), strict=True))
        histories = await crew.stop_clients()
        await look_at_all(crew.cache, histories)
        missing = await count_missing(crew.cache, KEYS)
    found = findings(histories)
    operations = [each for every in histories.values() for each in every]
    outcomes = Counter(each.outcome for each in operations)
    fault.report(
        Figure("servers killed", len(away_s)),
        Figure("partitions with another owner, or epoch", changed, at_most=0),
        Figure("keys that were there before", KEYS),
        Figure("of them missing", missing, at_most=0),
        Figure("operations", len(operations)),
        Figure("of them without a known outcome", outcomes["unknown"]),
        Figure("failed", outcomes["failed"]),
        Figure("keys and sessions that nothing explains", len(found), at_most=0),
    )
