"""A node joins under load: it gets its share, no more is moved, and clients notice nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent99.ids import SystemIds
from agent99.systems.cache._table import PARTITIONS, Table
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.campaigns._load import last, now_s
from tests.systems.cache._crew import Crew
from tests.systems.cache._history import findings
from tests.systems.cache._loads import Window, count_missing, fill, look_at_all, read_windows

NODES = 4
READERS = 2
JOINED_S = 300.0
DIP_MAX = 1.0
READS_MIN = 20
KEYS = [
    pytest.param(10_000, id="short", marks=pytest.mark.slow),
    pytest.param(1_000_000, id="full", marks=pytest.mark.chaos),
]


def _owners(table: Table) -> list[str]:
    return [part.owner for part in table.parts]


def _worst_ratio(windows: list[Window]) -> float:
    """Return the worst share of hits in a window with enough reads to tell, in percent."""
    return min(
        100 * each.hits / total
        for each in windows
        if (total := each.hits + each.misses + each.errors) >= READS_MIN
    )


@pytest.mark.may_block("it judges long histories, when the load is over")
@pytest.mark.fault("K2", "a fifth node joins four, under reads and writes")
@pytest.mark.parametrize("keys", KEYS)
async def test_a_node_that_joins_is_not_noticed(
    nats_server: NatsServer, tmp_path: Path, fault: Fault, seed: int, keys: int
) -> None:
    """A fifth of the keys is moved, none is missed meanwhile, and nothing fails."""
    mesh = f"c{SystemIds().token().decode()[:10]}"
    async with Crew(nats_server.url, mesh, tmp_path, seed) as crew:
        await crew.start_nodes(NODES)
        await fill(crew.cache, keys)
        for _ in range(READERS):
            await crew.start("reader", more=str(keys))
        await crew.start("writer")
        await last(1)
        owners, began_s = _owners(crew.table), now_s()
        await crew.start("node")
        await crew.wait_whole(JOINED_S)
        took_s = now_s() - began_s
        moved = sum(a != b for a, b in zip(owners, _owners(crew.table), strict=True))
        await last(1)
        histories = await crew.stop_clients()
        await look_at_all(crew.cache, histories)
        missing = await count_missing(crew.cache, keys)
    windows = read_windows(tmp_path)
    written = [each for every in histories.values() for each in every]
    failed = sum(each.errors for each in windows) + sum(each.outcome != "ok" for each in written)
    fault.report(
        Figure("keys", keys),
        Figure("in their new places after", took_s, "s"),
        Figure("of the partitions moved", 100 * moved / PARTITIONS, "%", at_most=22.0),
        Figure("reads", sum(each.hits + each.misses for each in windows)),
        Figure("writes", len(written)),
        Figure("of both, failed", failed, at_most=0),
        Figure(
            "missed of a quarter of a second's reads, at worst",
            100 - _worst_ratio(windows),
            "%",
            at_most=DIP_MAX,
        ),
        Figure("keys missing in the end", missing, at_most=0),
        Figure("keys that are not as they were left", len(findings(histories)), at_most=0),
    )
