"""Several processes on one database, and their sudden end."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from agent99.store import Store, Transaction, open_store
from tests.store._child import TABLES, effect

CHILD = Path(__file__).with_name("_child.py")
FULL_DISK = Path(__file__).with_name("_full_disk.py")
WAIT_S = 60.0


async def start(url: str, first: int, count: int) -> asyncio.subprocess.Process:
    command = (sys.executable, "-W", "error", CHILD, url, str(first), str(count))
    return await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)


def acknowledged(output: bytes) -> dict[int, int]:
    """Return the process that took effect, by number; a line that was cut off says nothing."""
    lines = output.decode().split("\n")[:-1]
    return {int(number): int(process) for number, process in (line.split() for line in lines)}


class Found(NamedTuple):
    """What stands in the database, at one moment."""

    effects: dict[int, int]
    keys: set[int]
    total: int


def find(transaction: Transaction) -> Found:
    done = "SELECT key FROM agent99_idempotency WHERE status = 'done'"
    return Found(
        dict(map(tuple, transaction.execute("SELECT number, process FROM effect"))),
        {int(key.removeprefix("effect-")) for key in transaction.execute(done).scalars()},
        int(transaction.execute("SELECT sum FROM total").scalar() or 0),
    )


async def check_after_a_crash(store: Store, promised: dict[int, int]) -> None:
    """What was acknowledged is there; effect and key stand together; a retry gets the answer."""
    found, keys, total = await store.read(find)
    assert promised == {number: found.get(number) for number in promised}
    assert set(found) == keys
    assert sum(found) == total
    for number in sorted(found)[-5:]:
        assert found[number] == await store.once(f"effect-{number}", number, effect(number), int)


async def kill_under_load(url: str, first: int, lines_min: int) -> dict[int, int]:
    """Let a child acknowledge so many, then kill it; returns what it promised."""
    child = await start(url, first, 1_000_000)
    assert child.stdout is not None
    async with asyncio.timeout(WAIT_S):
        output = b""
        while output.count(b"\n") < lines_min:
            output += await child.stdout.read(65536)
            assert child.returncode is None
        child.kill()
        output += await child.stdout.read()
        await child.wait()
    return acknowledged(output)


@pytest.mark.slow
async def test_killed_under_load(url: str) -> None:
    """After kill -9 every acknowledged transaction is there, whole, with its key."""
    promised = await kill_under_load(url, 0, 300)
    assert len(promised) >= 300
    async with open_store(url, migrations=TABLES) as store:
        await check_after_a_crash(store, promised)


@pytest.mark.slow
async def test_killed_again_and_again(url: str, seed: int) -> None:
    """The same, many times on one database, at any moment from the start of the process on."""
    choose = random.Random(seed)
    promised: dict[int, int] = {}
    for turn in range(6):
        promised |= await kill_under_load(url, turn * 1_000_000, choose.choice((0, 1, 50, 700)))
    async with open_store(url, migrations=TABLES) as store:
        await check_after_a_crash(store, promised)


@pytest.mark.slow
async def test_two_processes_take_effect_once(url: str) -> None:
    """Two that start together on an empty database, with the same keys: each takes effect once."""
    children = [await start(url, 0, 400) for _ in range(2)]
    async with asyncio.timeout(WAIT_S):
        outputs = [
            output for output, _ in await asyncio.gather(*(c.communicate() for c in children))
        ]
    assert [0, 0] == [child.returncode for child in children]
    one, other = (acknowledged(output) for output in outputs)
    assert one == other
    async with open_store(url, migrations=TABLES) as store:
        assert one == (await store.read(find)).effects
        await check_after_a_crash(store, one)


async def test_files_that_cannot_grow(sqlite_url: str) -> None:
    """When nothing can be written all callers get a typed error; what was acknowledged is there."""
    command = (sys.executable, "-W", "error", FULL_DISK, sqlite_url)
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(WAIT_S):
        output, _ = await child.communicate()
    report = json.loads(output)
    assert report["failures"] > 0
    assert [] == report["untyped"]
    assert 1000 in report["acknowledged"]
    assert sorted(report["acknowledged"]) == sorted(report["found"])
