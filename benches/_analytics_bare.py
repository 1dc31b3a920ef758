"""Arrays of lines through bare JetStream: `consume URL STREAM LINES`, `publish URL STREAM LINES`.

Published with an ack for each array; read without acks, decoded to rows, added to windows by a
plain loop, which live in a dict and are lost with their process. Both print one JSON object: when
they began and ended, by the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import AsyncIterator
from typing import Final

import msgspec
from _analytics_lines import IN_FLIGHT, Line, Windows, add_lines, check, in_arrays, make_lines
from _role import tell_ready

from agent99.clock import SystemClock
from agent99.dispatch import new_event_loop
from agent99.ids import SystemIds
from agent99.journal import JetStreamJournal, Journal, StreamConfig
from agent99.wire import open_wire

_PREFETCH: Final = 64


async def consume(url: str, stream: str, count: int) -> dict[str, float]:
    """Read until so many lines are in windows."""
    decode = msgspec.json.Decoder(list[Line]).decode
    windows: Windows = {}
    seen = 0
    async with _journal(url) as journal:
        await journal.ensure_stream(StreamConfig(name=stream, subjects=(f"{stream}.>",)))
        async with journal.tail(stream, prefetch_max=_PREFETCH) as tail:
            tell_ready()
            while seen < count:
                for record in await tail.read(_PREFETCH):
                    lines = decode(record.payload)
                    add_lines(windows, lines)
                    seen += len(lines)
    ended = time.perf_counter()
    check(windows, make_lines(count))
    return {"ended": ended}


async def publish(url: str, stream: str, count: int) -> dict[str, float]:
    """Publish so many lines, a bounded number of arrays in flight; every one is acknowledged."""
    arrays = in_arrays(make_lines(count))
    gc.freeze()
    left = iter(arrays)
    async with _journal(url) as journal:

        async def keep_on() -> None:
            for array in left:
                await journal.append(f"{stream}.lines", msgspec.json.encode(array))

        began = time.perf_counter()
        await asyncio.gather(*(keep_on() for _ in range(IN_FLIGHT)))
        return {"began": began, "ended": time.perf_counter()}


@contextlib.asynccontextmanager
async def _journal(url: str) -> AsyncIterator[Journal]:
    clock, ids = SystemClock(), SystemIds()
    wire = await open_wire(url, sender=b"bench", clock=clock, ids=ids)
    async with contextlib.aclosing(wire):
        yield JetStreamJournal(wire, clock=clock, ids=ids)


def main() -> None:
    """Be one of the two."""
    role, url, stream, count = sys.argv[1:]
    work = {"consume": consume, "publish": publish}[role](url, stream, int(count))
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(work)).decode())


if __name__ == "__main__":
    main()
