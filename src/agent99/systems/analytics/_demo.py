"""`agent99 demo analytics`: a year of tills as a live stream, and polars to say what must come."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agent99 import Mesh, Settings
from agent99.clock import Clock, SystemClock
from agent99.dispatch import new_event_loop
from agent99.embedded import temporary_server
from agent99.errors import UsageError
from agent99.systems.analytics._demo_books import DATABASE, read_books
from agent99.systems.analytics._demo_crew import Crew
from agent99.systems.analytics._demo_feed import Feed
from agent99.systems.analytics._demo_figures import (
    AnalyticsFigures,
    DemoOptions,
    ProcessPlan,
)
from agent99.systems.analytics._demo_job import RETAIL, TILLS
from agent99.systems.analytics._demo_judge import judge
from agent99.systems.analytics._demo_odd import (
    ODD_FIGURE,
    ODD_PIPELINE,
    ODD_RULE,
    differences,
    find_odd,
    oddest,
)
from agent99.systems.analytics._demo_retail import Retail, read_retail
from agent99.systems.analytics._demo_scenes import Scene, make_scenes
from agent99.systems.analytics._demo_schedule import Schedule, make_schedule
from agent99.systems.analytics._demo_view import QuietScreen, Screen
from agent99.systems.analytics._demo_watch import Watch

MESH: Final = "analytics-demo"
LOOK_S: Final = 0.1
START_S: Final = 60.0
"""So long processes have to come."""
PATIENCE_S: Final = 60.0
"""So long nothing may change once everything is sent, and windows are open yet."""


def run_demo(path: str | Path, options: Mapping[str, Any] | None = None) -> int:
    """Run the demo; returns the exit code: 0 if every window is what it must be.

    Args:
        path: A Parquet file of order lines.
        options: By name, as `DemoOptions` has them.

    Raises:
        UsageError: an option makes no sense, or the file is of no use.
        EmbeddedServerError, TransportError: there is no server.
        DeadlineExceededError: processes did not start, or windows did not close.
        BatchFailedError: records could not be stored.
        KeyboardInterrupt: Ctrl-C; every process has ended by then.
    """
    try:
        chosen = msgspec.convert(dict(options or {}), DemoOptions)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from error
    screen = QuietScreen() if chosen.json else Screen()
    if not chosen.debug:  # what is killed on purpose is no news
        logging.getLogger("agent99").setLevel(logging.CRITICAL)
    retail = read_retail(path, tills=TILLS)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        figures = runner.run(_run(retail, chosen, screen))
    screen.show(figures)
    return 0 if figures.ok else 1


async def _run(retail: Retail, options: DemoOptions, screen: QuietScreen) -> AnalyticsFigures:
    clock = SystemClock()
    schedule = make_schedule(retail, late=options.late, seed=options.seed)
    with tempfile.TemporaryDirectory(prefix="agent99-analytics-") as name:
        folder = Path(name)
        async with temporary_server(clock=clock) as server:
            settings = Settings(project=folder, state_folder=folder, url=server.url, mesh=MESH)
            crew = Crew(ProcessPlan("processor", name, server.url, MESH, options.debug))
            async with Mesh(settings=settings) as mesh, crew:
                feed = Feed(mesh, schedule, clock, options.speed)
                play = Play(mesh, crew, feed, screen, clock)
                await play.run(options)
        screen.tell("polars reads the file")
        return _judged(folder, play, retail, schedule)


def _judged(folder: Path, play: Play, retail: Retail, schedule: Schedule) -> AnalyticsFigures:
    """Compare windows with what polars makes of the file, and counts with what was sent."""
    from agent99.systems.analytics import _demo_truth as by_polars  # noqa: PLC0415 - loads polars

    books, truth = read_books(folder / DATABASE), by_polars.read_truth(retail.path)
    pipelines, findings = judge(books, truth, schedule.sent)
    odd = find_odd(books.rows.get(ODD_PIPELINE, ()))
    scores = by_polars.score_days(truth.windows[ODD_PIPELINE], ODD_FIGURE, ODD_RULE)
    findings += tuple(differences(odd, scores))
    records = sum(schedule.sent.values())
    return AnalyticsFigures(
        ok=not findings,
        lines=schedule.sent["lines"] + sum(retail.left_out.values()),
        left_out=retail.left_out,
        records=records,
        held=schedule.held,
        took_s=round(play.took_s, 2),
        records_per_s=round(records / play.took_s, 1),
        joined=play.joined,
        left=play.left,
        killed=play.killed,
        pipelines=pipelines,
        odd_days=len(odd),
        oddest=oddest(odd),
        findings=findings,
    )


class Play:
    """One run: tills that send, and processors that come and go meanwhile."""

    def __init__(
        self, mesh: Mesh, crew: Crew, feed: Feed, screen: QuietScreen, clock: Clock
    ) -> None:
        self._mesh = mesh
        self._crew = crew
        self._feed = feed
        self._screen = screen
        self._clock = clock
        self._watch = Watch(mesh, crew, feed, clock)
        self.joined = self.left = self.killed = 0
        self.took_s = 0.0
        """From the first record until every window was closed."""

    def __repr__(self) -> str:
        return f"Play({self._feed!r})"

    async def run(self, options: DemoOptions) -> None:
        """Play it to its end.

        Raises:
            as `run_demo`.
        """
        pipelines = f"{len(RETAIL.pipelines)} pipelines in {options.processors} processors"
        self._screen.tell(f"{self._feed.records:,} records of {TILLS} tills; {pipelines}")
        await self._crew.start("ingestion")
        for _ in range(options.processors):
            await self._crew.start("processor")
        await self._mesh.registry.wait_until(
            lambda table: len(list(table.everybody())) >= 1 + options.processors,
            timeout_s=START_S,
        )
        began_s = self._clock.monotonic_s()
        with self._screen.drawing():
            await self._until_closed(options)
        self.took_s = self._clock.monotonic_s() - began_s

    async def _until_closed(self, options: DemoOptions) -> None:
        """Send everything while processors come and go, and look on, until windows are closed."""
        scenes = make_scenes(processors=options.processors, kills=options.kills, seed=options.seed)
        works = (self._work(scenes), self._watch.run(self._screen))
        every = [asyncio.ensure_future(work) for work in works]
        try:
            done, _ = await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            for each in done:  # only the work ends by itself
                each.result()
        finally:
            for each in every:
                each.cancel()
            await asyncio.gather(*every, return_exceptions=True)

    # --- what happens -----------------------------------------------------------------------------

    async def _work(self, scenes: Iterable[Scene]) -> None:
        await asyncio.gather(self._feed.run(), self._play(scenes))
        self._screen.tell("the tills are closed")
        await self._watch.wait_closed(PATIENCE_S)

    async def _play(self, scenes: Iterable[Scene]) -> None:
        """Let processors join, leave and be killed, each when its time has come."""
        for scene in scenes:
            await self._until(scene.share)
            if scene.what == "joins":
                await self._join()
            elif scene.what == "leaves":
                pid = await self._crew.leave("processor")
                self.left += 1
                self._screen.tell(f"a processor has finished what it had, and left: {pid}")
            else:
                pid = await self._crew.kill("processor", scene.whom)
                self.killed += 1
                self._screen.tell(f"a processor is killed: {pid}")
                if scene.what == "is replaced":
                    await self._join()

    async def _join(self) -> None:
        pid = await self._crew.start("processor")
        self.joined += 1
        self._screen.tell(f"a processor joins: {pid}")

    async def _until(self, share: float) -> None:
        """Wait until a share of the records is stored."""
        while self._feed.progress < share:
            await self._clock.sleep(LOOK_S)
