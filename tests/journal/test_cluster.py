"""Three servers with three replicas: the contract, and what happens when the leader is lost."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import pytest

from agent99.errors import Agent99Error, DeadlineExceededError, JournalError
from agent99.journal import ConsumerConfig, Delivery, JetStreamJournal, StreamConfig
from agent99.testing import JOURNAL_CHECKS, JournalWorld
from agent99.wire import NatsWire
from tests._faults import Fault, Figure
from tests._nats_cluster import NatsCluster
from tests._wait import eventually
from tests.journal.conftest import connect, fresh_name

_CONFIG = StreamConfig(name="s", subjects=("s.>",), replicas=3)
_WRITERS = 9
_FROZEN_S = 20.0
_CALM_S = 3.0
"""Between two losses; else 20 s see three elections, with hardly a moment between them."""
pytestmark = pytest.mark.slow
_log = logging.getLogger(__name__)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """Give three servers of the test's own."""
    servers = NatsCluster(tmp_path)
    yield servers
    servers.close()


async def _wait_ready(journal: JetStreamJournal) -> None:
    """Make the stream, once the cluster has elected who may."""
    async with asyncio.timeout(60):
        while True:
            try:
                await journal.ensure_stream(_CONFIG)
            except (JournalError, DeadlineExceededError):
                continue
            return


async def _leader(journal: JetStreamJournal) -> str:
    state = await journal.stream_state("s")
    return next((each.server for each in state.replicas if each.is_leader), "")


async def _wait_whole(journal: JetStreamJournal) -> None:
    """Wait until every server has all of the stream again."""
    async with asyncio.timeout(60):
        while True:
            replicas = (await journal.stream_state("s")).replicas
            if 3 == len(replicas) == sum(each.is_current for each in replicas):
                return


async def test_contract(cluster: NatsCluster) -> None:
    """A cluster keeps the contract, with three replicas of everything, whomever one asks."""
    urls = [server.url for server in cluster.servers.values()]

    @asynccontextmanager
    async def make() -> AsyncIterator[JournalWorld]:
        async with aclosing(await connect(urls[0])) as one, aclosing(await connect(urls[1])) as two:
            name, journal = fresh_name(), JetStreamJournal(one)
            other = JetStreamJournal(two)
            yield JournalWorld(journal, other, asyncio.sleep, name, replicas=3)
            await journal.delete_stream(name)
            await journal.delete_stream(f"KV_{name}")

    async with aclosing(await connect(cluster.url)) as wire:
        await _wait_ready(JetStreamJournal(wire))
    for check in JOURNAL_CHECKS:
        await check(make)


class _Load:
    """Writers with one append under way each, and a consumer, while things break.

    Every call has 20 s. What fails is counted, and an append is made again under the same id.

    Args:
        wires: The writers share them; at first each leads to another server.
    """

    def __init__(self, wires: list[NatsWire], consuming: JetStreamJournal) -> None:
        self.stored: dict[int, list[int]] = {writer: [] for writer in range(_WRITERS)}
        """The sequences of each writer's appends, in its order."""
        self.handled: Counter[bytes] = Counter()
        self.acknowledged: set[bytes] = set()
        self.errors: list[Agent99Error] = []
        self.gap_s = {"another": 0.0, "the lost": 0.0}
        """The longest time without a receipt, by the server that the wire was connected to."""
        self._wires = wires
        self._writing = [JetStreamJournal(wire) for wire in wires]
        self._consuming = consuming
        self._lost: set[int] = set()
        self._receipt_s = [time.monotonic()] * len(wires)
        self._stop = asyncio.Event()
        self._writers = [asyncio.ensure_future(self._write(writer)) for writer in range(_WRITERS)]
        self._consumer = asyncio.ensure_future(self._consume())

    @property
    def count(self) -> int:
        """How many appends were acknowledged."""
        return sum(map(len, self.stored.values()))

    def expect_loss(self, server: str) -> None:
        """Note whose wires lead to a server that is about to be lost."""
        names = [wire.server.server_name for wire in self._wires]
        self._lost = {number for number, name in enumerate(names) if name == server}

    async def go_on(self, count: int, seconds: float = 0) -> None:
        """Wait until so many more appends were acknowledged, and so much time has passed."""
        enough, until_s = self.count + count, time.monotonic() + seconds
        await eventually(lambda: self.count >= enough and time.monotonic() >= until_s, timeout_s=60)

    async def end(self) -> None:
        """End the writers, and the consumer when it has acknowledged all."""
        self._stop.set()
        try:
            await asyncio.gather(*self._writers)
            await eventually(
                lambda: self._consumer.done() or len(self.acknowledged) == self.count, timeout_s=60
            )
        finally:
            for each in (*self._writers, self._consumer):
                each.cancel()
            await asyncio.gather(*self._writers, self._consumer, return_exceptions=True)
        if not self._consumer.cancelled():
            await self._consumer

    async def _write(self, writer: int) -> None:
        sequences, by = self.stored[writer], writer % len(self._wires)
        while not self._stop.is_set():
            payload = b"%d:%d" % (writer, len(sequences))
            try:
                stored = await self._writing[by].append(
                    f"s.{writer}", payload, message_id=payload.decode(), timeout_s=20
                )
            except Agent99Error as error:
                self._note_error(f"append {payload!r}", error)
                continue
            self._note_receipt(by)
            sequences.append(stored.sequence)

    def _note_error(self, call: str, error: Agent99Error) -> None:
        self.errors.append(error)
        _log.error("%s: %r", call, error)

    def _note_receipt(self, by: int) -> None:
        now = time.monotonic()
        server = "the lost" if by in self._lost else "another"
        self.gap_s[server] = max(self.gap_s[server], now - self._receipt_s[by])
        self._receipt_s[by] = now

    async def _consume(self) -> None:
        config = ConsumerConfig(stream="s", name="c", ack_wait_s=20)
        async with (
            self._consuming.consume(config, prefetch_max=64) as deliveries,
            asyncio.TaskGroup() as group,
        ):
            async for each in deliveries:
                group.create_task(self._handle(each))

    async def _handle(self, delivery: Delivery) -> None:
        self.handled[delivery.record.payload] += 1
        try:
            await delivery.ack()
        except Agent99Error as error:
            self._note_error(f"ack of {delivery!r}", error)
        else:
            self.acknowledged.add(delivery.record.payload)


async def _lose_leaders(
    cluster: NatsCluster, how: str, rounds: int, seed: int, fault: Fault
) -> None:
    draw = random.Random(seed)
    urls = [server.url for server in cluster.servers.values()]
    async with AsyncExitStack() as stack:
        wires = [
            await stack.enter_async_context(aclosing(await connect(",".join(_rotated(urls, n)))))
            for n in (0, 1, 2, draw.randrange(3))
        ]
        journal = JetStreamJournal(wires[3], patience_s=20)
        await _wait_ready(journal)
        load = _Load(wires[:3], journal)
        try:
            await eventually(lambda: load.acknowledged)
            for _ in range(rounds):
                await load.go_on(200, seconds=_CALM_S + draw.random())
                await _lose_leader(cluster, journal, how, load)
                await _wait_whole(journal)
        finally:
            await load.end()
        held = {r.sequence: r.payload async for r in journal.read("s")}
    written = {
        sequence: b"%d:%d" % (writer, number)
        for writer, sequences in load.stored.items()
        for number, sequence in enumerate(sequences)
    }
    fault.report(
        Figure("rounds", rounds),
        Figure("the longest time without a receipt", load.gap_s["another"], "s", at_most=12),
        # That a link is dead is noticed at once when its server was killed, and within 15 s else.
        Figure(
            "the same of those who were connected to the one that was lost",
            load.gap_s["the lost"],
            "s",
            at_most=12 if how == "kill" else 20,
        ),
        Figure("appends acknowledged", load.count),
        Figure("of them lost", len(written.keys() - held.keys()), at_most=0),
        Figure("stored twice", len(held) - len(set(held.values())), at_most=0),
        Figure("stored and never acknowledged", len(held) - len(written), at_most=0),
        Figure("out of their writer's order", _disorder(load.stored), at_most=0),
        Figure("errors of calls with 20 s", len(load.errors), at_most=0),
        Figure("delivered and acknowledged", len(load.acknowledged), at_least=load.count),
        Figure("delivered again", sum(load.handled.values()) - len(load.handled)),
    )
    assert written == held, load.errors


def _rotated(urls: list[str], count: int) -> list[str]:
    return urls[count:] + urls[:count]


def _disorder(stored: dict[int, list[int]]) -> int:
    return sum(sequences != sorted(sequences) for sequences in stored.values())


async def _lose_leader(
    cluster: NatsCluster, journal: JetStreamJournal, how: str, load: _Load
) -> None:
    name = await _leader(journal)
    server = cluster.servers[name]
    load.expect_loss(name)
    if how == "kill":
        await asyncio.to_thread(server.kill)
        await load.go_on(100)
        await asyncio.to_thread(server.start)
        return
    server.stop()
    try:
        await load.go_on(100, seconds=_FROZEN_S)
    finally:
        server.cont()


@pytest.mark.fault("F5", "kill -9 of the leader of a stream with three replicas")
async def test_leader_killed(cluster: NatsCluster, seed: int, fault: Fault) -> None:
    """Nothing acknowledged is lost or doubled, and no call that has 20 s fails."""
    await _lose_leaders(cluster, "kill", 1, seed, fault)


@pytest.mark.fault("F6", "SIGSTOP of the leader of a stream with three replicas for 20 s")
async def test_leader_stopped(cluster: NatsCluster, seed: int, fault: Fault) -> None:
    """Nothing acknowledged is lost or doubled, and no call that has 20 s fails."""
    await _lose_leaders(cluster, "stop", 1, seed, fault)


@pytest.mark.chaos
@pytest.mark.fault("F5", "kill -9 of the leader of a stream with three replicas, ten times")
async def test_leaders_killed(cluster: NatsCluster, seed: int, fault: Fault) -> None:
    """Nothing acknowledged is lost or doubled, and no call that has 20 s fails."""
    await _lose_leaders(cluster, "kill", 10, seed, fault)


@pytest.mark.chaos
@pytest.mark.fault("F6", "SIGSTOP of the leader of a stream with three replicas, ten times")
async def test_leaders_stopped(cluster: NatsCluster, seed: int, fault: Fault) -> None:
    """Nothing acknowledged is lost or doubled, and no call that has 20 s fails."""
    await _lose_leaders(cluster, "stop", 10, seed, fault)
