"""Soak a mesh: load without end, a fault every minute, and nothing may grow. `make soak`.

    make soak MINUTES=30
    python -m soak.soak --minutes 2 --every 10 --seed 7

A real server, three processes with an agent, this process as their caller. After each fault the
mesh must be whole again within five seconds, and what the processes and the server hold is counted.
Ends with 1 if a request was answered wrongly or late, if the mesh did not come back, or if
something grew.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from agent99 import Mesh, Peer
from agent99.dispatch import new_event_loop
from agent99.errors import Agent99Error
from soak._soaked import MESH, Census, take_census
from tests._nats_server import NatsServer

ROOT = Path(__file__).parents[1]
WORKERS = 3
CALLERS = 8
TIMEOUT_S = 1.0
LATE_S = 0.1
BACK_S = 5.0
"""Seconds until all agents are registered and answer, after the last fault has ended."""
RSS_GROWTH_MB = 6.0
"""Allowed between the first and the last third: what an allocator keeps, and no leak."""


class Holdings(msgspec.Struct, frozen=True):
    """What is held somewhere at one moment."""

    caller: Census
    worker: Census
    """Of the first worker, which no fault ends."""
    connections: int
    subscriptions: int
    consumers: int


class Soak:
    """One run: the processes, the load, the faults and what was counted."""

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.findings: list[str] = []
        self.held: list[Holdings] = []
        self._luck = random.Random(seed)
        self._say = say
        self._monitor = self._luck.randrange(28_000, 32_000)
        self._server = NatsServer(folder, args=("-m", str(self._monitor)))
        self._workers: list[subprocess.Popen[bytes]] = []
        self._mesh: Mesh

    def __repr__(self) -> str:
        return f"Soak(workers={len(self._workers)}, held={len(self.held)})"

    async def run(self, seconds: float, every_s: float) -> None:
        """Soak for so long, with a fault at each interval."""
        try:
            self._workers = [self._start_worker() for _ in range(WORKERS)]
            async with Mesh(self._server.url, mesh=MESH) as self._mesh, self._load():
                await self._come_back("the start")
                await self._go_on(time.monotonic() + seconds, every_s)
        finally:
            for worker in self._workers:
                worker.kill()
                worker.wait()
            self._server.close()
        self._judge()

    async def _go_on(self, end_s: float, every_s: float) -> None:
        faults = (self._kill_worker, self._kill_server, self._freeze_server, self._freeze_worker)
        number = 0
        while time.monotonic() < end_s:
            await asyncio.sleep(every_s)
            fault = faults[number % len(faults)]
            number += 1
            await fault()
            await self._come_back(fault.__name__.strip("_").replace("_", " "))

    # --- load -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _load(self) -> AsyncIterator[None]:
        callers = [asyncio.create_task(self._call_for_ever()) for _ in range(CALLERS)]
        try:
            yield
        finally:
            for caller in callers:
                caller.cancel()
            ended = await asyncio.gather(*callers, return_exceptions=True)
            self.findings += [repr(end) for end in ended if isinstance(end, Exception)]

    async def _call_for_ever(self) -> None:
        while True:
            a, b = self._luck.randrange(10**6), self._luck.randrange(10**6)
            operation = self._luck.choice(("add", "add", "add", "add_slowly"))
            began_s = time.monotonic()
            try:
                answer = await self._mesh.request(
                    "adder", operation, {"a": a, "b": b}, returns=int, timeout_s=TIMEOUT_S
                )
                self.outcomes["answered"] += 1
                if answer != a + b:
                    self.findings.append(f"{a} + {b} was answered with {answer}")
                await self._mesh.publish("soak.sum", {"sum": answer})
            except Agent99Error as error:
                self.outcomes[error.code] += 1
            took_s = time.monotonic() - began_s
            if took_s > TIMEOUT_S + LATE_S:
                self.findings.append(f"a request ended {took_s:.3f} s after it was made")
            await asyncio.sleep(0.02)

    # --- faults -----------------------------------------------------------------------------------

    async def _kill_worker(self) -> None:
        number = self._luck.randrange(1, WORKERS)  # the first one is measured
        self._workers[number].kill()
        self._workers[number].wait()
        self._workers[number] = self._start_worker()

    async def _kill_server(self) -> None:
        self._server.kill()
        await asyncio.sleep(self._luck.random() * 2)
        await asyncio.to_thread(self._server.start)

    async def _freeze_server(self) -> None:
        self._server.stop()
        await asyncio.sleep(1.5)
        self._server.cont()

    async def _freeze_worker(self) -> None:
        worker = self._luck.choice(self._workers)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(1.5)
        worker.send_signal(signal.SIGCONT)

    async def _come_back(self, after: str) -> None:
        """Wait until every worker is known and answers, and count what is held."""
        began_s = time.monotonic()
        pids = {worker.pid for worker in self._workers}
        limit_s = BACK_S if self.held else 30.0
        peers: list[Peer] = []
        while True:
            found = await self._mesh.discover("adder")
            peers = [peer for peer in found if peer.description.pid in pids]
            if len(peers) == WORKERS and await _all_answer(peers):
                break
            if time.monotonic() - began_s > limit_s:
                self.findings.append(f"{len(peers)} of {WORKERS} workers {limit_s} s after {after}")
                return
            await asyncio.sleep(0.05)
        took_s = time.monotonic() - began_s
        first = next(p for p in peers if p.description.pid == self._workers[0].pid)
        held = await self._count(first)
        self.held.append(held)
        self._say(
            f"{after}: whole again after {took_s:.2f} s;"
            f" caller {held.caller.rss_mb:.1f} MB, worker {held.worker.rss_mb:.1f} MB;"
            f" {self.outcomes.total():,} requests, {self.outcomes['answered']:,} answered"
        )

    async def _count(self, first: Peer) -> Holdings:
        worker = await first.request("census", returns=Census)
        server = await asyncio.to_thread(self._ask_server)
        return Holdings(take_census(), worker, *server)

    def _ask_server(self) -> tuple[int, int, int]:
        root = f"http://127.0.0.1:{self._monitor}"
        found: dict[str, Any] = {}
        for path in ("varz", "jsz"):
            with urllib.request.urlopen(f"{root}/{path}", timeout=5) as answer:  # noqa: S310 - our own server
                found[path] = msgspec.json.decode(answer.read())
        return (
            found["varz"]["connections"],
            found["varz"]["subscriptions"],
            found["jsz"]["consumers"],
        )

    # --- processes and the end --------------------------------------------------------------------

    def _start_worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "soak._soaked", self._server.url]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)

    def _judge(self) -> None:
        third = len(self.held) // 3
        if third == 0:
            self.findings.append("too short to judge: not three faults")
            return
        early, late = self.held[third : 2 * third], self.held[-third:]
        for name, measure, allowed in _MEASURES:
            before, after = (median(map(measure, part)) for part in (early, late))
            self._say(f"{name}: {before:g}, at the end {after:g}")
            if after > before + allowed:
                self.findings.append(f"{name} grew from {before:g} to {after:g}")


_MEASURES: tuple[tuple[str, Callable[[Holdings], float], float], ...] = (
    ("memory of the caller, MB", lambda held: held.caller.rss_mb, RSS_GROWTH_MB),
    ("memory of a worker, MB", lambda held: held.worker.rss_mb, RSS_GROWTH_MB),
    ("descriptors of the caller", lambda held: held.caller.descriptors, 1),
    ("descriptors of a worker", lambda held: held.worker.descriptors, 1),
    ("tasks of the caller", lambda held: held.caller.tasks, 3),
    ("tasks of a worker", lambda held: held.worker.tasks, 3),
    ("threads of a worker", lambda held: held.worker.threads, 4),
    ("connections", lambda held: held.connections, 0),
    ("subscriptions", lambda held: held.subscriptions, 3),
    ("consumers", lambda held: held.consumers, 1),
)


async def _all_answer(peers: list[Peer]) -> bool:
    asked: list[Awaitable[Any]] = [
        peer.request("add", {"a": 1, "b": 2}, timeout_s=0.5) for peer in peers
    ]
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    return all(outcome == 3 for outcome in outcomes)


def main() -> int:
    """Soak, and report."""
    asked = argparse.ArgumentParser(description="Soak a mesh: load, faults, and nothing may grow.")
    asked.add_argument("--minutes", type=float, default=30.0)
    asked.add_argument("--every", type=float, default=60.0, help="seconds between two faults")
    asked.add_argument("--seed", type=int, default=secrets.randbits(32))
    given = asked.parse_args()
    began_s = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began_s:7.1f} s  {text}", flush=True)

    say(f"seed {given.seed}; pid {os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="agent99-soak-") as folder:
        soak = Soak(Path(folder), given.seed, say)
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(soak.run(given.minutes * 60, given.every))
        except KeyboardInterrupt:
            say("stopped")
            return 130
    say(f"outcomes: {dict(soak.outcomes)}")
    for finding in soak.findings:
        print(f"FAULT {finding}", file=sys.stderr)
    return 1 if soak.findings else 0


if __name__ == "__main__":
    sys.exit(main())
