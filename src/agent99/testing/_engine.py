"""A mesh without a server: the memory wire and the memory journal under a real mesh."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from agent99.agent import Parts
from agent99.clock import Clock, SystemClock
from agent99.ids import Ids, SeededIds
from agent99.journal import MemoryJournal
from agent99.wire import MemoryBroker


class MemoryEngine:
    """What several meshes in one event loop may share instead of a NATS server.

    `Mesh(engine=engine)` connects one more process's worth of mesh to it. Deterministic: with a
    `ManualClock` and the same seed, the same run.
    """

    def __init__(self, *, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.ids: Ids = ids if ids is not None else SeededIds(0)
        self.broker = MemoryBroker(ids=self.ids, clock=self.clock)
        """Where the wires of all meshes on this engine meet."""
        self.journal = MemoryJournal(clock=self.clock)

    def __repr__(self) -> str:
        return f"MemoryEngine({self.broker!r})"

    @asynccontextmanager
    async def open(self, sender: str, *, clock: Clock, ids: Ids) -> AsyncGenerator[Parts]:
        """Connect one more wire."""
        del clock, ids  # the engine's own are shared by all that connect to it
        wire = self.broker.connect(sender.encode("ascii"))
        try:
            yield Parts(wire, self.journal, "memory")
        finally:
            await wire.aclose()
