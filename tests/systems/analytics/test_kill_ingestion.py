"""Ingestion is killed again and again under load: nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from agent99 import Mesh
from agent99.errors import RequestError, TransportError
from agent99.ids import SystemIds
from agent99.systems.analytics import Ingested, IngestionOptions, Producer, ProducerOptions
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import eventually
from tests.systems.analytics._ingesters import Ingesters
from tests.systems.analytics._lines import LINES, Line, line, numbers_of, row

INGESTERS = 2
OPTIONS = IngestionOptions(batch_records_max=8, linger_s=0.02)
PRODUCERS = 3
CALLERS = 8
PART = 10_000_000
"""Numbers that one producer, or one kind of caller, has for itself."""
BETWEEN = 4_000
"""Records that are stored from one kill to the next, at most."""
KILLS = [
    pytest.param(6, id="short", marks=pytest.mark.slow),
    pytest.param(50, id="full", marks=pytest.mark.chaos),
]


class Load:
    """What is sent meanwhile: by producers, and record by record with a key and without."""

    def __init__(self, mesh: Mesh) -> None:
        self.producers: list[Producer[Line]] = []
        self.sent: list[int] = []
        """By producers, and with a key: each must be stored once."""
        self.acknowledged: set[int] = set()
        """Of those that were sent without a key, and once."""
        self.unknown: set[int] = set()
        """Likewise, but without an answer."""
        self._mesh = mesh
        self._number = 0
        self._is_over = False

    @property
    def stored(self) -> int:
        """How many records were acknowledged until now."""
        return sum(each.statistics.stored for each in self.producers) + len(self.acknowledged)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send, until the end of the block, and until all of it is stored."""
        async with asyncio.TaskGroup() as tasks:
            for part in range(PRODUCERS):
                tasks.create_task(self._produce(part * PART))
            for _ in range(CALLERS):
                tasks.create_task(self._call())
            yield
            self._is_over = True

    async def _produce(self, number: int) -> None:
        options = ProducerOptions(batch_records_max=40, buffer_records_max=400, timeout_s=2.0)
        async with Producer(self._mesh, LINES, options=options) as producer:
            self.producers.append(producer)
            while not self._is_over:
                self.sent.append(number)
                await producer.send(line(number))
                number += 1
                if not number % 50:
                    await asyncio.sleep(0)

    async def _call(self) -> None:
        while not self._is_over:
            self._number += 1
            number = PRODUCERS * PART + self._number
            if self._number % 2:
                self.sent.append(number)
                while not await self._ingest(number, batch_id=f"r{number}"):
                    pass
            elif await self._ingest(number):
                self.acknowledged.add(number)
            else:
                self.unknown.add(number)

    async def _ingest(self, number: int, **more: str) -> bool:
        payload = {"data": row(number)} | more
        try:
            await self._mesh.request(
                "data_ingestion", "ingest", payload, returns=Ingested, timeout_s=2.0
            )
        except (RequestError, TransportError):
            return False
        return True


class Campaign:
    """Two processes that ingest, of which one is killed again and again."""

    def __init__(self, url: str, luck: random.Random, plant: str = "none") -> None:
        self._url = url
        self._luck = luck
        self._plant = plant

    async def run(self, kills: int) -> list[Figure]:
        """Kill them under load; returns what became of the records."""
        name = f"n{SystemIds().token().decode()[:10]}"
        ingesters = Ingesters(self._url, name, OPTIONS, self._plant)
        async with Mesh(self._url, mesh=name) as mesh:
            try:
                await asyncio.gather(*(ingesters.start() for _ in range(INGESTERS)))
                load = Load(mesh)
                async with load.running():
                    for _ in range(kills):
                        await self._kill_one(ingesters, load)
                return figures_of(load, await numbers_of(mesh))
            finally:
                await ingesters.aclose()

    async def _kill_one(self, ingesters: Ingesters, load: Load) -> None:
        enough = load.stored + self._luck.randrange(BETWEEN)
        await eventually(lambda: load.stored >= enough, timeout_s=60)
        await ingesters.kill(self._luck.choice(ingesters.running))
        await ingesters.start()


def figures_of(load: Load, stored: Counter[int]) -> list[Figure]:
    """Compare what was acknowledged with what is stored."""
    expected = Counter(load.sent) + Counter(load.acknowledged)
    return [
        Figure("records acknowledged", expected.total(), at_least=1),
        Figure("of them lost", (expected - stored).total(), at_most=0),
        Figure("stored twice", sum(count > 1 for count in stored.values()), at_most=0),
        Figure("stored, and never sent", len(stored.keys() - expected - load.unknown), at_most=0),
        Figure("sent once, and left without an answer", len(load.unknown)),
        Figure("of them stored", sum(number in stored for number in load.unknown)),
    ]


@pytest.mark.may_block("it reads back all that was stored, when the load is over")
@pytest.mark.fault("N1", "kill -9 one of two ingestion processes under load, again and again")
@pytest.mark.parametrize("kills", KILLS)
async def test_killed_ingestion_loses_nothing(
    nats_server: NatsServer, fault: Fault, seed: int, kills: int
) -> None:
    """Each record of a producer is stored once, and so is what was acknowledged without one."""
    figures = await Campaign(nats_server.url, random.Random(seed)).run(kills)
    fault.report(Figure("processes killed", kills, at_least=kills), *figures)


@pytest.mark.slow
@pytest.mark.may_block("it reads back all that was stored, when the load is over")
@pytest.mark.parametrize(
    ("plant", "what"), [("early", "of them lost"), ("ids", "stored twice")], ids=["early", "ids"]
)
async def test_what_is_planted_is_found(
    nats_server: NatsServer, seed: int, plant: str, what: str
) -> None:
    """Who acknowledges before it is stored, or forgets the ids of batches, does not pass."""
    figures = await Campaign(nats_server.url, random.Random(seed), plant).run(6)
    assert what in {figure.what for figure in figures if not figure.is_met}
