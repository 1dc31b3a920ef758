"""What every stack's programme for jobs has in common: its command line, the job, how it is timed.

`post` stores jobs in a queue; `work` is the one worker that does them, in a process of its own: how
many in a second, the first ones left out. Each prints one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable

import msgspec
from _order import TOTAL, Order, confirm

AT_ONCE = 100
"""Jobs in the worker's hands: the default of agent99 and of Taskiq."""
_IN_FLIGHT = 256


class Arguments(msgspec.Struct, frozen=True):
    """A programme's command line."""

    role: str
    url: str
    queue: str
    warm_up: int
    jobs: int
    """To be timed, after the warm-up."""

    @property
    def every(self) -> int:
        """How many jobs there are, those of the warm-up included."""
        return self.warm_up + self.jobs


def read_arguments(description: str, roles: tuple[str, ...] = ("post", "work")) -> Arguments:
    """Return this process's command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("role", choices=roles)
    parser.add_argument("--url", required=True)
    parser.add_argument("--queue", required=True)
    parser.add_argument("--warm-up", type=int, default=1_000)
    parser.add_argument("--jobs", type=int, default=4_000)
    return msgspec.convert(vars(parser.parse_args()), Arguments)


class Tally:
    """Does the jobs, and times them from the end of the warm-up to the last one.

    A job counts when its body is done: what is acknowledged after that is at most what the worker
    has in hand, of thousands.
    """

    def __init__(self, arguments: Arguments) -> None:
        self._arguments = arguments
        self._done = 0
        self._began = 0.0

    def __repr__(self) -> str:
        return f"Tally({self._done} of {self._arguments.every})"

    def do(self, order: Order) -> bool:
        """Do one job; returns True when it was the last, after printing the figure."""
        if confirm(order).total != TOTAL:
            raise SystemExit(f"wrong order: {order}")
        self._done += 1
        if self._done == self._arguments.warm_up:
            self._began = time.perf_counter()
        if self._done != self._arguments.every:
            return False
        tell(jobs_per_s=self._arguments.jobs / (time.perf_counter() - self._began))
        return True


def tell(**figures: float) -> None:
    """Print one JSON line."""
    print(msgspec.json.encode(figures).decode(), flush=True)


async def post_all(post: Callable[[], Awaitable[object]], count: int) -> None:
    """Post so many jobs, a bounded number of them in flight at once."""
    left = count

    async def keep_on() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await post()

    await asyncio.gather(*(keep_on() for _ in range(_IN_FLIGHT)))
