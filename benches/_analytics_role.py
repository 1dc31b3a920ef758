"""The analytics' processes: `ingest URL MESH`, `process URL MESH DATABASE`, and two clients.

`load URL MESH LINES` sends arrays as quickly as they are acknowledged, until all windows have
closed; `pace URL MESH LINES RATE` sends them at a rate, and looks when each is in a result. Both
print one JSON object, moments by the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from datetime import UTC, datetime
from typing import Final

import msgspec
from _analytics_lines import (
    ARRAY,
    IN_FLIGHT,
    Line,
    Windows,
    add_lines,
    check,
    in_arrays,
    make_lines,
)
from _analytics_pipeline import HOUR_S, JOB, LINES, REVENUE, windows_of
from _role import tell_ready

from agent99 import Agent, Mesh
from agent99.dispatch import new_event_loop
from agent99.systems.analytics import Analytics, AnalyticsProcessor, DataIngestionAgent

_SERVE_S: Final = 3_600.0
_LOOK_S: Final = 0.01
_TIMEOUT_S: Final = 30.0


async def serve(agent: Agent, url: str, mesh_name: str) -> None:
    """Host an agent until this process is ended."""
    async with Mesh(url, mesh=mesh_name) as mesh:
        await mesh.host(agent)
        tell_ready()
        await asyncio.sleep(_SERVE_S)


async def load(mesh: Mesh, count: int) -> dict[str, float]:
    """Send so many lines, a bounded number of arrays in flight; wait until all windows closed."""
    lines = make_lines(count)
    expected: Windows = {}
    add_lines(expected, lines)
    left = iter(in_arrays(lines))
    gc.freeze()  # the load is nobody's garbage

    async def keep_on() -> None:
        for array in left:
            await _ingest(mesh, array)

    analytics = Analytics(mesh, JOB.name)
    began = time.perf_counter()
    await asyncio.gather(*(keep_on() for _ in range(IN_FLIGHT)))
    stored = time.perf_counter()
    await mesh.request("data_ingestion", "finish", {"source": LINES.name}, timeout_s=_TIMEOUT_S)
    while (await analytics.stats()).pipelines[0].rows < len(expected):  # noqa: ASYNC110 - asked for
        await asyncio.sleep(_LOOK_S)
    ended = time.perf_counter()
    check(windows_of(await analytics.query(REVENUE.name, state="closed")), lines)
    return {"began": began, "stored": stored, "ended": ended}


async def pace(mesh: Mesh, count: int, rows_per_s: float) -> dict[str, list[float]]:
    """Send so many lines at a rate; returns how long each array took, from when it was due.

    An array is visible when `query` says of a window that only this array has lines in, the one of
    its middle, that it has all of them. The arrays are looked for in turn, every hundredth of a
    second.
    """
    arrays = in_arrays(make_lines(count))
    analytics = Analytics(mesh, JOB.name)
    latencies: list[float] = []
    gc.freeze()
    began = time.perf_counter()
    dues = [began + number * ARRAY / rows_per_s for number in range(len(arrays))]

    async def send() -> None:
        async with asyncio.TaskGroup() as sending:
            for due, array in zip(dues, arrays, strict=True):
                await asyncio.sleep(due - time.perf_counter())
                sending.create_task(_ingest(mesh, array))

    sender = asyncio.create_task(send())
    for due, array in zip(dues, arrays, strict=True):
        await asyncio.sleep(due - time.perf_counter())
        await _wait_visible(analytics, array)
        latencies.append(time.perf_counter() - due)
    await sender
    return {"latencies_s": latencies}


async def _ingest(mesh: Mesh, array: list[Line]) -> None:
    asked = {"source": LINES.name, "data": array}
    await mesh.request("data_ingestion", "ingest", asked, timeout_s=_TIMEOUT_S)


async def _wait_visible(analytics: Analytics, array: list[Line]) -> None:
    line = array[len(array) // 2]
    place = (int(line.sold_at.timestamp()) // HOUR_S, line.country)
    start = datetime.fromtimestamp(place[0] * HOUR_S, UTC)
    expected: Windows = {}
    add_lines(expected, array)
    while True:
        rows = await analytics.query(
            REVENUE.name, key=line.country, since=start, until=line.sold_at
        )
        if windows_of(rows).get(place) == expected[place]:
            return
        await asyncio.sleep(_LOOK_S)


async def _client(url: str, mesh_name: str, count: str, *rate: str) -> None:
    async with Mesh(url, mesh=mesh_name) as mesh:
        await mesh.wait_for("data_ingestion")
        await mesh.wait_for("analytics_processor")
        figures = await (pace(mesh, int(count), float(rate[0])) if rate else load(mesh, int(count)))
        print(msgspec.json.encode(figures).decode())


def main() -> None:
    """Be one of the processes."""
    role, url, mesh_name, *others = sys.argv[1:]
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if role == "ingest":
            runner.run(serve(DataIngestionAgent(sources=(LINES,)), url, mesh_name))
        elif role == "process":
            runner.run(serve(AnalyticsProcessor(JOB, others[0]), url, mesh_name))
        else:
            runner.run(_client(url, mesh_name, *others))


if __name__ == "__main__":
    main()
