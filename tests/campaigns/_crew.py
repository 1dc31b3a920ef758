"""Processes of `_events`, which a campaign kills and stops, and the effects that they have had."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from agent99.store import Store, Transaction, open_store
from tests.campaigns._events import OPTIONS, TABLES, store_url

ROOT = Path(__file__).parents[2]
START_S = 60.0
LOOK_S = 0.02


class Effect(msgspec.Struct, frozen=True):
    """One effect, as it stands in the store."""

    reader: str
    id: str
    pid: int
    sequence: int
    at_us: int

    @property
    def source(self) -> tuple[str, str]:
        """Who published it, and its key."""
        who, key, _ = self.id.split(".")
        return who, key

    @property
    def number(self) -> int:
        """Its place among the events of its source."""
        return int(self.id.rpartition(".")[2])


class Crew:
    """Processes that are at work on one mesh; use it with `async with`: none outlives it."""

    def __init__(self, url: str, mesh: str, folder: Path, fault: str = "none") -> None:
        self.folder = folder
        self.running: list[tuple[str, Process]] = []
        self._words = (url, mesh, str(folder))
        self._fault = fault
        self._store = self.store()

    async def __aenter__(self) -> Self:
        """Make the tables."""
        await self._store.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End everything."""
        for _, process in self.running:
            if process.returncode is None:
                process.kill()
            await process.communicate()
        await self._store.aclose()

    def store(self) -> Store:
        """Return the store of the effects, not yet open."""
        return open_store(store_url(self.folder), migrations=TABLES, options=OPTIONS)

    async def start(self, *roles: str) -> list[int]:
        """Start processes side by side; returns their pids when all are at work."""
        return await asyncio.gather(*map(self._start, roles))

    async def _start(self, role: str) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.campaigns._events", *self._words, role, self._fault),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        self.running.append((role, process))
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), START_S)
        assert line == b"works\n", f"a {role} ended by itself; see {process.pid}.log"
        return process.pid

    async def kill(self, *pids: int) -> list[str]:
        """End processes as a crash would; returns their roles."""
        gone = [each for each in self.running if each[1].pid in pids]
        for each in gone:
            self.running.remove(each)
            each[1].kill()
        for _, process in gone:
            await process.communicate()
        return [role for role, _ in gone]

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to one of them."""
        (process,) = (each for _, each in self.running if each.pid == pid)
        process.send_signal(number)

    def pids(self, *roles: str) -> list[int]:
        """Return those of some roles; without any, of all."""
        return [process.pid for role, process in self.running if not roles or role in roles]

    def lines(self, pid: int) -> list[str]:
        """Return what one of them has told of itself."""
        path = self.folder / f"{pid}.lines"
        return path.read_text().splitlines() if path.exists() else []

    async def effects(self) -> list[Effect]:
        """Return all effects, in the order in which they took place."""
        return await self._store.read(_effects)

    async def wait_effects(
        self, is_enough: Callable[[list[Effect]], object], timeout_s: float
    ) -> list[Effect]:
        """Return the effects once they are what is waited for, or after a time."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        while not is_enough(found := await self.effects()) and loop.time() < until_s:
            await asyncio.sleep(LOOK_S)
        return found


def _effects(transaction: Transaction) -> list[Effect]:
    sql = "SELECT reader, id, pid, sequence, at_us FROM effect ORDER BY place"
    rows: Sequence[Any] = transaction.execute(sql).all()
    return [Effect(*row) for row in rows]


def twice(ids: Sequence[str]) -> set[str]:
    """Return what is there more than once."""
    return {one for one, times in Counter(ids).items() if times > 1}


def out_of_order(effects: Sequence[Effect]) -> set[str]:
    """Return the ids that come for the first time behind a later one of their source and key."""
    latest: dict[tuple[str, str], int] = defaultdict(lambda: -1)
    found: set[str] = set()
    for effect in _firsts(effects):
        if effect.number < latest[effect.source]:
            found.add(effect.id)
        latest[effect.source] = max(latest[effect.source], effect.number)
    return found


def _firsts(effects: Sequence[Effect]) -> list[Effect]:
    firsts: dict[str, Effect] = {}
    for effect in effects:
        firsts.setdefault(effect.id, effect)
    return list(firsts.values())
