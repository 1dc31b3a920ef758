"""Sagas while their owners and the server are killed: each has one end, and leaves nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from agent99 import Failure, Mesh
from agent99.errors import Agent99Error
from agent99.ids import SystemIds
from agent99.saga import Desk, SagaView
from agent99.saga._records import Taken
from agent99.store import open_store
from tests._faults import Fault, Figure
from tests._nats_server import NatsServer
from tests.campaigns._load import last
from tests.campaigns._mover import FAULTS, KINDS, REFUSED, TABLES, store_url

_log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
MOVERS = 3
LANES = 12
QUIET_S = 60.0
TAKEN_S = 2.0
"""Median from a kill to the take-over."""
SECONDS = [
    pytest.param(12, id="short", marks=pytest.mark.slow),
    pytest.param(120, id="full", marks=pytest.mark.chaos),
]


class Campaign:
    """Three movers and a server, one of them killed again and again, under load."""

    def __init__(self, server: NatsServer, folder: Path, seed: int, fault: str = "none") -> None:
        self.kills: Counter[str] = Counter()
        self.asked: set[int] = set()
        self.ends: dict[int, str] = {}
        """`done`, or the code of the failure, by number."""
        self.contradictions: set[int] = set()
        self._server, self._folder, self._fault = server, folder, fault
        self._luck = random.Random(seed)
        self._mesh_name = f"c{SystemIds().token().decode()[:10]}"
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._killed_us: dict[str, int] = {}
        self._numbers = count(1)
        self._is_ending = False
        self.views: list[SagaView] = []
        self.left: list[SagaView] = []
        """What nobody had gone on with by itself."""

    async def run(self, seconds: float) -> dict[str, Counter[int]]:
        """Kill for so long, then let every saga come to its end; return the balances, by kind."""
        try:
            return await self._run(seconds)
        finally:
            for process in self._running.values():
                process.kill()
                await process.communicate()

    async def _run(self, seconds: float) -> dict[str, Counter[int]]:
        while len(self._running) < MOVERS:  # the first one makes the tables
            await self._start()
        async with Mesh(self._server.url, mesh=self._mesh_name) as mesh:
            await mesh.wait_for("mover")
            load = asyncio.gather(*(self._lane(mesh) for _ in range(LANES)))
            until_s = time.monotonic() + seconds
            while time.monotonic() < until_s:
                await last(self._luck.uniform(0.3, 1.2))
                await self._hurt_one()
            self._is_ending = True
            await load
            await self._end(mesh)
            self.views = await Desk(mesh).every_saga()
        return await self._balances()

    async def _start(self) -> None:
        words = ("-m", "tests.campaigns._mover", self._server.url, self._mesh_name)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *words,
            str(self._folder),
            self._fault,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line, "a mover ended by itself"
        self._running[line.decode().strip()] = process

    async def _hurt_one(self) -> None:
        what = self._luck.choices(("movers killed", "servers killed", "movers frozen"), (6, 1, 1))[
            0
        ]
        self.kills[what] += 1
        if what == "servers killed":
            await asyncio.to_thread(self._server.kill)
            await last(self._luck.choice((0.0, 0.5)))
            await asyncio.to_thread(self._server.start)
            return
        victim = self._luck.choice(sorted(self._running))
        if what == "movers frozen":
            self._running[victim].send_signal(signal.SIGSTOP)
            await last(3)
            self._running[victim].send_signal(signal.SIGCONT)
            return
        process = self._running.pop(victim)
        process.kill()
        self._killed_us[victim] = time.time_ns() // 1000
        await process.communicate()
        await self._start()

    async def _lane(self, mesh: Mesh) -> None:
        while not self._is_ending:
            await self._ask(mesh, next(self._numbers), timeout_s=1.0)

    async def _ask(self, mesh: Mesh, number: int, *, timeout_s: float) -> bool:
        """Ask for a transfer; returns whether it has come to its end."""
        self.asked.add(number)
        try:
            await mesh.request(
                "mover",
                "transfer",
                {"number": number},
                timeout_s=timeout_s,
                idempotency_key=f"{number}",
            )
        except Failure as failure:
            if failure.retryable or failure.code == "IDEMPOTENCY_CONFLICT":
                return False
            self._note(number, failure.code)
            return True
        except Agent99Error:
            return False
        self._note(number, "done")
        return True

    def _note(self, number: int, end: str) -> None:
        if self.ends.setdefault(number, end) != end:
            self.contradictions.add(number)

    async def _end(self, mesh: Mesh) -> None:
        """Wait, unasked, until no saga is open; then ask for every transfer until it has ended."""
        until_s = time.monotonic() + QUIET_S
        self.left = await self._open(mesh)
        while self.left and time.monotonic() < until_s:
            await last(0.5)
            self.left = await self._open(mesh)
        for view in self.left:
            _log.error("nobody goes on with %s: %s", view.saga_id, view.records)
        until_s = time.monotonic() + QUIET_S
        left = set(self.asked)
        while left and time.monotonic() < until_s:
            some = sorted(left)[:64]
            ended = await asyncio.gather(*(self._ask(mesh, one, timeout_s=5.0) for one in some))
            left -= {number for number, end in zip(some, ended, strict=True) if end}
        while await Desk(mesh).count_open() and time.monotonic() < until_s:
            await last(0.1)

    async def _open(self, mesh: Mesh) -> list[SagaView]:
        """Return the sagas whose journals have no end: what has no marker is among them."""
        views = await Desk(mesh).every_saga()
        return [view for view in views if view.history.finished is None]

    async def _balances(self) -> dict[str, Counter[int]]:
        balances: dict[str, Counter[int]] = {kind: Counter() for kind in KINDS}
        async with open_store(store_url(self._folder), migrations=TABLES) as store:
            rows = await store.read(
                lambda t: list(t.execute("SELECT kind, number, change FROM effect"))
            )
        for row in rows:
            balances[row.kind][row.number] += row.change
        return balances

    def taken_s(self) -> list[float]:
        """Return for each take-over from one that was killed how long after that it came."""
        found: list[float] = []
        for view in self.views:
            owner = view.history.started.owner if view.history.started else ""
            for record in view.records:
                if isinstance(record, Taken):
                    killed_us = self._killed_us.get(owner)
                    if killed_us is not None and record.at_us > killed_us:
                        found.append((record.at_us - killed_us) / 1e6)
                    owner = record.owner
        return found


def findings(campaign: Campaign, balances: dict[str, Counter[int]]) -> dict[str, set[int]]:
    """Return what is wrong, in words, and the numbers for which it is."""
    refused = {number for number in campaign.asked if number % REFUSED == 0}
    done = {number for number, end in campaign.ends.items() if end == "done"}
    failed = campaign.ends.keys() - done
    every = [balance for counter in balances.values() for balance in counter.items()]
    return {
        "asked for, and without an end": campaign.asked - campaign.ends.keys(),
        "an end that is not its own": (done & refused) | (failed - refused),
        "two ends": campaign.contradictions,
        "done, and something of it is missing": {
            number for number in done for kind in KINDS if balances[kind][number] < 1
        },
        "failed, and something is left of it": {
            number for number in failed for kind in KINDS if balances[kind][number] > 0
        },
        "an effect that took place twice": {number for number, balance in every if balance > 1},
        "an undo that took place twice": {number for number, balance in every if balance < 0},
    }


@pytest.mark.fault("E3", "kill -9 and freeze the owners of sagas, kill -9 the server, at random")
@pytest.mark.parametrize("seconds", SECONDS)
async def test_every_saga_comes_to_one_end(
    start_nats_server: Callable[..., NatsServer],
    tmp_path: Path,
    fault: Fault,
    seed: int,
    seconds: int,
) -> None:
    """Whoever is killed: each saga is done, or undone, once, and goes on within 2 s."""
    campaign = Campaign(start_nats_server(), tmp_path, seed)
    balances = await campaign.run(seconds)
    taken = campaign.taken_s()
    open_ones = [view.saga_id for view in campaign.views if view.history.finished is None]
    fault.report(
        *(Figure(what, n) for what, n in sorted(campaign.kills.items())),
        Figure("sagas", len(campaign.asked)),
        Figure("of them taken over", len(taken), at_least=1),
        Figure("median from kill to take-over", statistics.median(taken), "s", at_most=TAKEN_S),
        Figure("the longest", max(taken), "s"),
        Figure("left by all", len(campaign.left), at_most=0),
        Figure("open at last", len(open_ones), at_most=0),
        *(
            Figure(what, len(numbers), at_most=0)
            for what, numbers in findings(campaign, balances).items()
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize(("planted", "expected"), FAULTS.items())
async def test_planted_faults_are_found(
    start_nats_server: Callable[..., NatsServer],
    tmp_path: Path,
    seed: int,
    planted: str,
    expected: str,
) -> None:
    """The campaign can fail: each fault that is planted in the movers is found."""
    found: dict[str, set[int]] = {}
    for turn in range(3):
        folder = tmp_path / str(turn)
        folder.mkdir()
        campaign = Campaign(start_nats_server(), folder, seed + turn, planted)
        found = findings(campaign, await campaign.run(6))
        if found[expected]:
            return
    pytest.fail(f"nobody noticed: {planted}; found at last: {found}")
