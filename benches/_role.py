"""What every stack's programme has in common: its command line, and how a client measures."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from _order import TOTAL, Confirmation

Ask = Callable[[], Awaitable[Confirmation]]
"""One request to its typed answer."""
_WARM_UP_S = 0.5


class Arguments(msgspec.Struct):
    """A programme's command line; the bound has the same."""

    role: str
    url: str
    concurrency: int
    seconds: float


def read_arguments(description: str) -> Arguments:
    """Return this process's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure, or to serve")
    return msgspec.convert(vars(parser.parse_args()), Arguments)


def tell_ready() -> None:
    """Tell whoever started this server that it may be asked."""
    print("ready", flush=True)


async def measure(ask: Ask, arguments: Arguments) -> None:
    """Keep `concurrency` requests in flight; print one JSON line, as the bound does."""
    latencies: list[float] = []
    stop = 0.0

    async def work() -> None:
        while True:
            began = time.perf_counter()
            answer = await ask()
            ended = time.perf_counter()
            if answer.total != TOTAL:
                raise SystemExit(f"wrong answer: {answer}")
            latencies.append(ended - began)
            if ended >= stop:
                return

    took = 1.0
    for seconds in (min(_WARM_UP_S, arguments.seconds), arguments.seconds):
        latencies.clear()
        start = time.perf_counter()
        stop = start + seconds
        await asyncio.gather(*(work() for _ in range(arguments.concurrency)))
        took = time.perf_counter() - start
    latencies.sort()
    count = len(latencies)
    figures = {
        "rps": count / took,
        "p50_us": latencies[count // 2] * 1e6,
        "p99_us": latencies[min(count - 1, int(count * 0.99))] * 1e6,
        "n": count,
    }
    print(msgspec.json.encode(figures).decode())


def run_on_uvloop(work: Coroutine[Any, Any, None]) -> None:
    """Run a peer's programme on uvloop, where it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
