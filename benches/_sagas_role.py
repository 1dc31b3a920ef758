"""What every programme for sagas has in common: its command line, and how sagas are timed.

A saga has four steps that do nothing: what is measured is what it costs to know them done.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec

STEPS = 4
Ask = Callable[[int], Awaitable[int]]
"""Have one saga run to its end; it returns the number that it was given."""
_WARM_UP = 4  # a quarter of the time


class Arguments(msgspec.Struct, frozen=True):
    """A programme's command line."""

    role: str
    url: str
    concurrency: list[int]
    """Sagas at once: one figure for each."""
    seconds: float
    """Of each figure; or to serve."""


def read_arguments(description: str, roles: tuple[str, ...] = ("inside",)) -> Arguments:
    """Return this process's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("role", choices=roles)
    parser.add_argument("--url", required=True)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1])
    parser.add_argument("--seconds", type=float, default=2.0)
    return msgspec.convert(vars(parser.parse_args()), Arguments)


async def measure(ask: Ask, arguments: Arguments) -> None:
    """Print sagas per second as one JSON line: a list, one figure for each concurrency."""
    rates: list[float] = []
    for at_once in arguments.concurrency:
        await _sagas_per_s(ask, at_once, arguments.seconds / _WARM_UP)
        rates.append(await _sagas_per_s(ask, at_once, arguments.seconds))
    print(msgspec.json.encode(rates).decode(), flush=True)


async def _sagas_per_s(ask: Ask, at_once: int, seconds: float) -> float:
    began = time.perf_counter()
    done = 0

    async def keep_on() -> None:
        nonlocal done
        while time.perf_counter() < began + seconds:
            done += 1
            number = done
            if await ask(number) != number:
                raise SystemExit("a saga returned what is not its own")

    await asyncio.gather(*(keep_on() for _ in range(at_once)))
    return done / (time.perf_counter() - began)
