"""Processes with an outbox, killed at any moment; and faults that the campaign must find."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agent99.store import Store, Transaction, open_store
from tests.store._sender import (
    FAULTS,
    OPTIONS,
    TABLES,
    Sent,
    Stream,
    claim,
    compare,
    receive,
    send,
)

CHILD = Path(__file__).with_name("_sender.py")
WAIT_S = 60.0
FIRST_OF_EACH = 1_000_000
KILLS = [
    pytest.param(4, id="short", marks=pytest.mark.slow),
    pytest.param(60, id="full", marks=pytest.mark.chaos),
]


class Campaign:
    """Two processes on one database and one stream; one after the other is killed and replaced."""

    def __init__(self, url: str, path: Path, fault: str, seed: int) -> None:
        self.stream = Stream(path)
        self.promised: list[int] = []
        self._path = path
        self._command = (url, str(path), fault)
        self._luck = random.Random(seed)
        self._firsts = iter(range(0, 1_000 * FIRST_OF_EACH, FIRST_OF_EACH))
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        url, path, fault = self._command
        first = str(next(self._firsts))
        arguments = (sys.executable, "-W", "error", CHILD, url, first, path, fault)
        pipe = asyncio.subprocess.PIPE
        self._running.append(await asyncio.create_subprocess_exec(*arguments, stdout=pipe))

    async def kill_one(self) -> None:
        """Let both work for a while, then kill one."""
        victim = self._running.pop(self._luck.randrange(len(self._running)))
        await self._read(victim, self._luck.choice((1, 20, 300)))
        victim.kill()
        await self._read(victim, None)

    async def cut(self) -> None:
        """Kill all, and take from the stream what a server that lost its power would lose."""
        while self._running:
            await self.kill_one()
        lines = self._path.read_bytes().splitlines(keepends=True)
        kept = lines[: -1 - self._luck.randrange(100)]
        self._path.write_bytes(b"".join(kept))

    async def _read(self, child: asyncio.subprocess.Process, lines: int | None) -> None:
        """Note what a child acknowledges: so many lines, or all that it has left behind."""
        assert child.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while lines is None or lines > 0:
                line = await child.stdout.readline()
                if lines is None and not line:
                    await child.wait()
                    return
                assert line, f"a child ended by itself: {await child.wait()}"
                if line.endswith(b"\n"):
                    self.promised.append(int(line))
                lines = None if lines is None else lines - 1

    async def run(self, kills: int) -> None:
        for turn in range(kills):
            while len(self._running) < 2:
                await self.start()
            await self.kill_one()
            if turn % 3 == 2:
                await self.cut()
        await self.cut()

    async def end(self) -> None:
        """Leave no process behind."""
        for child in self._running:
            child.kill()
            await child.communicate()


class Found(msgspec.Struct):
    """What stands in the database at last."""

    effects: list[int]
    appended: Counter[int]
    received: set[int]


def find(transaction: Transaction) -> Found:
    rows = transaction.execute("SELECT body FROM agent99_outbox")
    return Found(
        transaction.execute("SELECT number FROM effect").scalars(),
        Counter(msgspec.json.decode(row.body)["number"] for row in rows),
        set(transaction.execute("SELECT number FROM received").scalars()),
    )


async def drain(store: Store, stream: Stream, fault: str) -> Found:
    """Send and take in what is left, as any relay and reader would; return what there is then."""
    async with asyncio.timeout(WAIT_S):
        lease = await claim(store)
        if fault != "not given back":
            await compare(lease, stream)
        while (await store.outbox.counts()).waiting:
            await send(lease, stream)
        await lease.release()
    await asyncio.gather(*(store.transaction(receive(sent)) for sent in stream.read()))
    return await store.read(find)


def findings(promised: list[int], found: Found, stream: list[Sent]) -> Iterator[str]:
    """Yield what is wrong, in words."""
    effects = set(found.effects)
    sent = {line.id: line for line in reversed(stream)}  # of each id the first
    numbers = Counter(line.number for line in sent.values())
    wrong = {
        "acknowledged, and lost": set(promised) - effects,
        "took effect without an event": effects - found.appended.keys(),
        "an event without an effect": found.appended.keys() - effects,
        "two events": {number for number, count in found.appended.items() if count > 1},
        "an event that is not in the stream": effects - numbers.keys(),
        "in the stream without an effect": numbers.keys() - effects,
        "sent under two ids": {number for number, count in numbers.items() if count > 1},
        "not taken in": effects - found.received,
        "taken in without an effect": found.received - effects,
    }
    yield from (f"{what}: {sorted(which)[:5]}" for what, which in wrong.items() if which)
    versions: dict[str, list[int]] = {}
    for line in reversed(sent.values()):
        versions.setdefault(line.key, []).append(line.version)
    for key, came in versions.items():
        if came != list(range(1, len(came) + 1)):
            yield f"the events of {key} out of order"


async def campaign(url: str, path: Path, fault: str, seed: int, kills: int) -> list[str]:
    """Run a campaign to its end; returns what it found."""
    run = Campaign(url, path, fault, seed)
    try:
        await run.run(kills)
    finally:
        await run.end()
    options = msgspec.structs.replace(OPTIONS, rows_max=10_000_000, waiting_max=10_000_000)
    async with open_store(url, migrations=TABLES, options=options) as store:
        found = await drain(store, run.stream, fault)
    assert len(run.promised) > kills
    return list(findings(run.promised, found, run.stream.read()))


@pytest.mark.parametrize("kills", KILLS)
async def test_killed_processes_lose_and_double_nothing(
    url: str, tmp_path: Path, seed: int, kills: int
) -> None:
    """Whoever is killed, and whatever the stream lost: each effect has its event, once, in order.

    What was acknowledged is there; what was not is there with its event, or not at all.
    """
    assert [] == await campaign(url, tmp_path / "stream", "none", seed, kills)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "expected"), FAULTS.items())
async def test_planted_faults_are_found(
    sqlite_url: str, tmp_path: Path, seed: int, fault: str, expected: str
) -> None:
    """The campaign can fail: an event outside of its transaction, and its like, are found."""
    found: list[str] = []
    for turn in range(5):
        folder = tmp_path / str(turn)
        folder.mkdir()
        url = sqlite_url.replace("store.db", f"{turn}/store.db")
        found = await campaign(url, folder / "stream", fault, seed + turn, 4)
        if any(finding.startswith(expected) for finding in found):
            return
    pytest.fail(f"nobody noticed: {fault}; found at last: {found}")
