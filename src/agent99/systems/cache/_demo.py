"""`agent99 demo cache`: nodes come, go and die under a load, and a checker counts what is lost."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from agent99 import Mesh, Settings
from agent99.clock import Clock, SystemClock
from agent99.dispatch import new_event_loop
from agent99.embedded import temporary_server
from agent99.errors import DeadlineExceededError, UsageError
from agent99.systems.cache._demo_crew import NodeCrew
from agent99.systems.cache._demo_figures import CacheFigures, DemoGoods, DemoOptions, NodePlan
from agent99.systems.cache._demo_load import Load
from agent99.systems.cache._demo_view import QuietScreen, Screen
from agent99.systems.cache._overview import Overview, look_at
from agent99.systems.cache._table import Table

MEMORY_BYTES: Final = 64_000_000
"""Of each node: nothing is evicted, so that all that is missing is lost."""
LOOK_S: Final = 0.25
ANSWER_S: Final = 0.5
"""So long nodes have to say how they are: those that were killed do not."""
STEP_S: Final = 0.5
"""Between two events, once everything is in its place."""
SETTLE_S: Final = 30.0
"""So long a cache may take until everything is in its place again."""
MESH: Final = "cache-demo"


def run_demo(goods: DemoGoods, options: Mapping[str, Any] | None = None) -> int:
    """Run the demo; returns the exit code: 0 if nothing was lost.

    Args:
        goods: What is cached, and how often each is asked for.
        options: By name, as `DemoOptions` has them.

    Raises:
        UsageError: an option makes no sense.
        EmbeddedServerError, TransportError: there is no server.
        DeadlineExceededError: nodes did not start, or what they hold never came to its place.
        KeyboardInterrupt: Ctrl-C; every process has ended by then.
    """
    try:
        chosen = msgspec.convert(dict(options or {}), DemoOptions)
    except msgspec.ValidationError as error:
        raise UsageError(str(error)) from error
    screen = QuietScreen() if chosen.json else Screen()
    if not chosen.debug:  # what is killed on purpose is no news
        logging.getLogger("agent99").setLevel(logging.CRITICAL)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        figures = runner.run(_run(goods, chosen, screen))
    screen.show(figures)
    return 0 if figures.ok else 1


async def _run(goods: DemoGoods, options: DemoOptions, screen: QuietScreen) -> CacheFigures:
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="agent99-cache-") as name:
        folder = Path(name)
        async with temporary_server(clock=clock) as server:
            settings = Settings(project=folder, state_folder=folder, url=server.url, mesh=MESH)
            crew = NodeCrew(NodePlan(name, server.url, MESH, MEMORY_BYTES, options.debug))
            async with Mesh(settings=settings) as mesh, crew:
                return await Play(mesh, crew, goods, screen, clock).run(options)


class Play:
    """One run: a load, and nodes that come and go under it."""

    def __init__(
        self, mesh: Mesh, crew: NodeCrew, goods: DemoGoods, screen: QuietScreen, clock: Clock
    ) -> None:
        self._mesh = mesh
        self._crew = crew
        self._goods = goods
        self._screen = screen
        self._clock = clock
        self._load = Load(mesh, goods, clock)
        self._owners: tuple[str, ...] = ()
        self._moves = 0
        self._joined = self._left = self._killed = 0

    def __repr__(self) -> str:
        return f"Play({self._load!r})"

    async def run(self, options: DemoOptions) -> CacheFigures:
        """Play it to its end, and return what came of it.

        Raises:
            as `run_demo`.
        """
        lines = len(self._goods.asked)
        about = f"{len(self._goods.prices):,} products, asked for as in {lines:,} order lines"
        self._screen.tell(f"{about}; {options.nodes} nodes, each a process")
        for _ in range(options.nodes):
            await self._crew.start()
        await self._settle()
        began_s = self._clock.monotonic_s()
        with self._screen.drawing():
            await self._until_over(began_s + options.seconds)
        took_s = self._clock.monotonic_s() - began_s
        found = await self._settle()
        await self._load.check()
        return self._figures(found, took_s)

    async def _until_over(self, until_s: float) -> None:
        """Have the load and the scenes go on, and look on, until the scenes are over."""
        works = (self._scenes(until_s), self._load.run(), self._watch())
        every = [asyncio.ensure_future(work) for work in works]
        try:
            done, _ = await asyncio.wait(every, return_when=asyncio.FIRST_COMPLETED)
            for each in done:  # only the scenes end by themselves
                each.result()
        finally:
            for each in every:
                each.cancel()
            await asyncio.gather(*every, return_exceptions=True)

    # --- what happens -----------------------------------------------------------------------------

    async def _scenes(self, until_s: float) -> None:
        """Let a node join, one leave, one die, and one come in its place; and again."""
        every = (self._join, self._leave, self._kill, self._join)
        at = 0
        while self._clock.monotonic_s() < until_s:
            await self._clock.sleep(min(STEP_S, max(0.0, until_s - self._clock.monotonic_s())))
            await every[at % len(every)]()
            await self._settle()
            at += 1

    async def _join(self) -> None:
        pid = await self._crew.start()
        self._joined += 1
        self._screen.tell(f"a node joins: {pid}")

    async def _kill(self) -> None:
        pid = await self._crew.kill()
        self._killed += 1
        self._screen.tell(f"a node is killed: {pid}")

    async def _leave(self) -> None:
        pid = await self._crew.leave()
        self._left += 1
        self._screen.tell(f"a node has handed over what it had, and left: {pid}")

    # --- looking on -------------------------------------------------------------------------------

    async def _settle(self) -> Overview:
        """Wait until as many nodes as run have what they are to have.

        Raises:
            DeadlineExceededError: they still have not.
        """
        until_s = self._clock.monotonic_s() + SETTLE_S
        while True:
            found = await look_at(self._mesh, timeout_s=ANSWER_S)
            states = [node.state for node in found.nodes]
            if states == ["ready"] * len(self._crew) and not found.moving and not found.unowned:
                return found
            if self._clock.monotonic_s() >= until_s:
                said = ", ".join(states)
                raise DeadlineExceededError(f"not in its place after {SETTLE_S:g} s: {said}")
            await self._clock.sleep(LOOK_S)

    async def _watch(self) -> None:
        cache = await self._mesh.cache()
        while True:
            self._count_moves(cache.table)
            try:
                found = await look_at(self._mesh, timeout_s=ANSWER_S)
            except DeadlineExceededError:
                continue
            pids = {peer.instance: peer.description.pid for peer in self._mesh.peers()}
            self._screen.draw(found, pids, self._load, self._moves)
            await self._clock.sleep(LOOK_S)

    def _count_moves(self, table: Table) -> None:
        owners = tuple(part.owner for part in table.parts)
        if self._owners:
            self._moves += sum(a != b for a, b in zip(self._owners, owners, strict=True))
        self._owners = owners

    def _figures(self, found: Overview, took_s: float) -> CacheFigures:
        load = self._load
        findings = [
            sentence
            for count, sentence in (
                (load.lost, f"{load.lost} acknowledged writes are not there"),
                (load.stale, f"{load.stale} reads gave less than was acknowledged before"),
                (load.wrong, f"{load.wrong} counters are wrong"),
                (found.lost, f"{found.lost} partitions lost their last copy"),
            )
            if count
        ]
        return CacheFigures(
            ok=not findings,
            nodes=len(found.nodes),
            keys=len(load.acknowledged),
            took_s=round(took_s, 2),
            reads=load.reads,
            hits=load.hits,
            misses=load.reads - load.hits,
            writes=load.writes,
            unknown=load.unknown,
            failed=load.failed,
            stale=load.stale,
            lost=load.lost,
            counters=load.counters,
            counted=load.counted,
            counters_wrong=load.wrong,
            joined=self._joined,
            left=self._left,
            killed=self._killed,
            moves=self._moves,
            partitions_lost=found.lost,
            findings=tuple(findings),
        )
