"""A thousand jobs that fail whenever they are tried: others do not notice, and none is lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from math import ceil

import pytest

from agent99 import Agent, Mesh, job
from agent99.envelope import Name
from agent99.ids import SystemIds
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests._wait import PATIENCE_S, eventually

POISON = 1_000
GOOD = 400
ATTEMPTS_MAX = 3
DELAY_S = 15.0
"""A fifth of it is enough for a thousand jobs that come due at once, on half a machine, too."""
WINDOWS = 7
"""Of so many measurements the best counts: what harms the jobs harms all of them, a busy machine
has its moments."""


class Mill(Agent):
    """Does what can be done."""

    capabilities = ("mill",)

    def __init__(self) -> None:
        self.done: dict[int, float] = {}
        self.tried: dict[int, list[float]] = defaultdict(list)
        self.is_fixed = False
        self.mended: set[int] = set()

    @job
    async def good(self, number: int) -> None:
        """Do it."""
        self.done[number] = asyncio.get_running_loop().time()

    @job(attempts_max=ATTEMPTS_MAX, delay_s=DELAY_S, delay_s_max=DELAY_S)
    async def bad(self, number: int) -> None:
        """Break, until it is mended."""
        if self.is_fixed:
            self.mended.add(number)
            return
        self.tried[number].append(asyncio.get_running_loop().time())
        raise ValueError(number)


@pytest.fixture
async def mesh(nats_server: NatsServer) -> AsyncIterator[Mesh]:
    """Give a mesh of the test's own on the shared server."""
    async with Mesh(nats_server.url, mesh=f"w{SystemIds().token().decode()[:10]}") as made:
        yield made


async def p99_s(mesh: Mesh, mill: Mill) -> float:
    """Return in what time 99 of 100 good jobs are posted and done, one after the other."""
    return min([await _p99_s(mesh, mill) for _ in range(WINDOWS)])


async def _p99_s(mesh: Mesh, mill: Mill) -> float:
    first = len(mill.done)
    now = asyncio.get_running_loop().time
    began: dict[int, float] = {}
    for number in range(first, first + GOOD):
        began[number] = now()
        await mesh.post("mill", "good", {"number": number})
        while number not in mill.done:
            await asyncio.sleep(0)
    took = sorted(mill.done[number] - at_s for number, at_s in began.items())
    return took[ceil(0.99 * GOOD) - 1]


@pytest.mark.slow
@pytest.mark.fault("F12", "1,000 jobs that always fail, with good ones around")
async def test_what_always_fails_harms_nothing_else(mesh: Mesh, fault: Fault) -> None:
    """Good jobs are as quick; each bad one is tried on its curve, buried, and done once mended."""
    mill = Mill()
    await mesh.host(mill)
    await p99_s(mesh, mill)  # to get warm
    before_s = await p99_s(mesh, mill)
    await asyncio.gather(*(mesh.post("mill", "bad", {"number": n}) for n in range(POISON)))
    await eventually(lambda: len(mill.tried) == POISON)
    beside_s = await p99_s(mesh, mill)
    tries = POISON * ATTEMPTS_MAX
    await eventually(lambda: sum(map(len, mill.tried.values())) >= tries, timeout_s=90)
    async with asyncio.timeout(PATIENCE_S):
        while len(records := [one async for one in mesh.quarantine.records()]) < POISON:
            await asyncio.sleep(0)
    waits = [b - a for times in mill.tried.values() for a, b in pairwise(times)]
    mill.is_fixed = True
    for record in records:
        await mesh.quarantine.redrive(record)
    await eventually(lambda: len(mill.mended) == POISON)
    left = [one async for one in mesh.quarantine.records()]
    after_s = await p99_s(mesh, mill)
    async with asyncio.timeout(PATIENCE_S):
        while (count := (await mesh.ledger.jobs(Name("mill")))[0]).left:
            await asyncio.sleep(0)
    off = [wait_s for wait_s in waits if not 0.8 * DELAY_S <= wait_s <= 1.2 * DELAY_S]
    fault.report(
        Figure("good jobs alone, p99, before", before_s * 1e3, "ms"),
        Figure("good jobs alone, p99, after", after_s * 1e3, "ms"),
        Figure(
            "good jobs beside them, p99",
            beside_s * 1e3,
            "ms",
            at_most=round(1.2 * max(before_s, after_s) * 1e3, 2),
        ),
        Figure("the shortest wait", min(waits), "s"),
        Figure("the longest wait", max(waits), "s"),
        Figure("waits beyond their curve by a fifth", len(off), at_most=0),
        Figure(
            "tried more or less often than allowed",
            sum(len(times) != ATTEMPTS_MAX for times in mill.tried.values()),
            at_most=0,
        ),
        Figure("done after a redrive", len(mill.mended), at_least=POISON, at_most=POISON),
        Figure("left in quarantine", len(left), at_most=0),
        Figure(
            "not accounted for, when all is quiet",
            abs(len(mill.done) + POISON - (count.done or 0)),
            at_most=0,
        ),
    )
