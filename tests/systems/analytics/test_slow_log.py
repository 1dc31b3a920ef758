"""A log slower than those who send: memory stays flat, the policy is followed and counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from agent99 import Mesh
from agent99.errors import RequestError
from agent99.ids import SystemIds
from agent99.systems.analytics import Ingested, IngestionOptions, IngestionStats
from agent99.systems.analytics._ingested import Overflow
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.systems.analytics._ingesters import Ingesters
from tests.systems.analytics._lines import numbers_of, row
from tests.systems.analytics._memory import memory_mib

CALLERS = 40
ROWS = 250
"""In each array: those of all callers are twice what may wait."""
REQUESTS = 400
GROWTH_MIB = 16
"""What may wait is 5,000 records, some 0.5 MiB; the rest is for what is read and written."""


class Senders:
    """Callers that send one array after the other, as fast as they get answers."""

    def __init__(self, mesh: Mesh, pid: int) -> None:
        self.acknowledged: list[int] = []
        self.refused: Counter[str] = Counter()
        self.memory_mib: list[float] = []
        self.waiting = 0
        """At most, records that the agent said to wait."""
        self._mesh = mesh
        self._pid = pid

    async def run(self, arrays: range) -> None:
        """Send arrays, known by their numbers."""
        numbers = iter(arrays)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CALLERS):
                tasks.create_task(self._send(numbers))

    async def _send(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            rows = [row(number * ROWS + at) for at in range(ROWS)]
            payload = {"data": rows, "batch_id": f"b{number}"}
            try:
                answer = await self._mesh.request(
                    "data_ingestion", "ingest", payload, returns=Ingested, timeout_s=30.0
                )
            except RequestError as error:
                self.refused[error.code] += 1
            else:
                self.acknowledged.append(number)
                self.waiting = max(self.waiting, answer.buffer_size)
            self.memory_mib.append(memory_mib(self._pid))

    def expected(self) -> Counter[int]:
        """Return the numbers of all records that were acknowledged."""
        return Counter(at for n in self.acknowledged for at in range(n * ROWS, (n + 1) * ROWS))


async def wait_empty(mesh: Mesh) -> IngestionStats:
    """Return what the agent did, once nothing waits any more."""
    async with asyncio.timeout(120):
        while True:
            stats = await mesh.request("data_ingestion", "stats", {}, returns=IngestionStats)
            if not stats.buffer_size and not stats.spilled_waiting:
                return stats
            await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.may_block("it makes many rows, and reads back all that was stored")
@pytest.mark.fault("N3", "a log that is slower than those who send, each policy of overflow")
@pytest.mark.parametrize("overflow", get_args(Overflow))
async def test_memory_stays_flat(
    nats_server: NatsServer, tmp_path: Path, fault: Fault, overflow: Overflow
) -> None:
    """Whatever the policy, what waits is bounded, and each caller knows what became of its own."""
    name = f"n{SystemIds().token().decode()[:10]}"
    options = IngestionOptions(
        overflow=overflow,
        buffer_records_max=5_000,
        spill_url=f"sqlite:///{tmp_path}/spill.db" if overflow == "spill" else "",
    )
    ingesters = Ingesters(nats_server.url, name, options, "slow")
    async with Mesh(nats_server.url, mesh=name) as mesh:
        try:
            await ingesters.start()
            pid = ingesters.running[0].pid
            warm = Senders(mesh, pid)
            await warm.run(range(CALLERS))
            senders = Senders(mesh, pid)
            await senders.run(range(CALLERS, CALLERS + REQUESTS))
            stats = await wait_empty(mesh)
            stored = await numbers_of(mesh)
        finally:
            await ingesters.aclose()
    senders.acknowledged.extend(warm.acknowledged)
    refused = senders.refused + warm.refused
    expected = senders.expected()
    kept = {"block": 0, "spill": 0, "refuse": 1, "drop_oldest": 1}[overflow]
    fault.report(
        Figure(
            "grown by", max(senders.memory_mib) - warm.memory_mib[-1], "MiB", at_most=GROWTH_MIB
        ),
        Figure("most records that waited", senders.waiting, at_most=5_000),
        Figure("acknowledged", len(expected)),
        Figure("of them lost", (expected - stored).total(), at_most=0),
        Figure("stored twice", sum(times > 1 for times in stored.values()), at_most=0),
        Figure("arrays refused or dropped", refused.total(), at_least=kept),
        Figure("of them not counted", (refused - Counter(stats.refused)).total(), at_most=0),
        Figure("records that spilled", stats.spilled),
    )
    if overflow in ("block", "spill"):
        assert not refused
    if overflow == "drop_oldest":
        # Of an array in several shards a part may be stored: then nobody is told that it is not.
        assert {"DROPPED"} <= refused.keys() <= {"DROPPED", "DEADLINE_EXCEEDED"}
