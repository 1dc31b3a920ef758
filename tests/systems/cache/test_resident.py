"""What a node's process takes: its budget, and little besides."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from agent99 import Mesh
from agent99.systems.cache import Cache
from tests._nats_server import NatsServer
from tests._wait import eventually

ROOT: Final = Path(__file__).parents[3]
MIB: Final = 1024 * 1024
BUDGET: Final = 64 * MIB
CONSTANT: Final = 24 * MIB
"""What a node takes besides 110 % of its budget, however large that is: messages on their way, and
what the allocator keeps."""
HOLES: Final = BUDGET
"""Who turns from small values to large ones leaves holes in the heap, which the allocator gives
back to the system late: up to as much as there was of small ones."""
KEYS: Final = 50_000
BATCH: Final = 500
Fill = Callable[[Cache[bytes], random.Random], Awaitable[None]]


async def _start(stack: AsyncExitStack, url: str, mesh: str) -> Process:
    words = (sys.executable, "-m", "tests.systems.cache._resident", url, mesh, str(BUDGET))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    process = await asyncio.create_subprocess_exec(
        *words, stdin=PIPE, stdout=PIPE, cwd=ROOT, env=environment
    )

    async def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()

    stack.push_async_callback(end)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"works\n"
    return process


def _resident_bytes(process: Process) -> int:
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def _fill_small(cache: Cache[bytes], luck: random.Random) -> None:
    """Set far more than there is room for, some of it twice."""
    for first in range(0, KEYS, BATCH):
        numbers = [*range(first, first + BATCH), *(luck.randrange(KEYS) for _ in range(50))]
        await cache.set_many({f"k{n}": luck.randbytes(luck.randrange(4_000)) for n in numbers})


async def _fill_large(cache: Cache[bytes], luck: random.Random) -> None:
    """Set what must travel in parts, each key several times."""
    for number in range(40):
        await cache.set(f"large{number % 10}", luck.randbytes(8 * MIB))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fills", "extra"),
    [
        pytest.param((_fill_small,), 0, id="small"),
        pytest.param((_fill_large,), 0, id="large", marks=pytest.mark.chaos),
        pytest.param(
            (_fill_small, _fill_large), HOLES, id="small-then-large", marks=pytest.mark.chaos
        ),
    ],
)
async def test_a_nodes_process_stays_within_its_budget(
    nats_server: NatsServer, seed: int, fills: tuple[Fill, ...], extra: int
) -> None:
    """With copies and a quota: 110 % of the budget, and a stated constant."""
    luck, name = random.Random(seed), f"m{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        nodes = [await _start(stack, nats_server.url, name) for _ in range(2)]
        mesh = await stack.enter_async_context(Mesh(nats_server.url, mesh=name))
        cache: Cache[Any] = await mesh.cache("s", bytes)
        bounded: Cache[Any] = await mesh.cache("bounded", bytes)
        await bounded.configure(quota_bytes=8 * MIB)
        await cache.set("k", b"")
        await eventually(
            lambda: all(part.owner and part.replicas for part in cache.table.parts), timeout_s=30
        )
        before = [_resident_bytes(node) for node in nodes]
        for fill in fills:
            await fill(cache, luck)
        if fills[0] is _fill_small:
            await _fill_small(bounded, luck)
            assert (await bounded.statistics()).bytes <= 8 * MIB
        grown = [_resident_bytes(node) - was for node, was in zip(nodes, before, strict=True)]
        sys.stdout.write(f"grown by {[size // MIB for size in grown]} MiB of {BUDGET // MIB}\n")
        assert max(grown) <= BUDGET * 1.1 + CONSTANT + extra
