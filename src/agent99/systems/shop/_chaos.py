"""Kill the shop while it works: its processes and its server, at random, one after the other."""

from __future__ import annotations

import os
import signal
import statistics
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agent99 import Mesh
from agent99.clock import Clock
from agent99.errors import Agent99Error
from agent99.ids import SeededIds
from agent99.saga import Desk, Finished, Started, Taken, Undone
from agent99.systems.shop._crew import Crew
from agent99.systems.shop._display import Bar
from agent99.systems.shop._figures import ChaosFigures

KILL_S_MIN: Final = 0.3
KILL_S_MAX: Final = 0.9
"""Between two kills of agents."""
SERVER_S: Final = 15.0
"""Between two kills of the server, which needs ten seconds to be taken for a healthy one again."""
FIRST_SERVER_S: Final = 5.0
"""Until the first: a short run has one too."""
ROUNDS_PER_TAIL: Final = 2


class Chaos:
    """Kills until it is cancelled, and follows what the sagas' journals say of it.

    Args:
        crew: The processes of the agents.
        mesh: Where they are.
        server_pid: Returns the server's process; None: it is not ours to kill.
        seed: Which victims.
    """

    def __init__(
        self,
        crew: Crew,
        mesh: Mesh,
        server_pid: Callable[[], int] | None,
        *,
        clock: Clock,
        seed: int,
    ) -> None:
        self._crew = crew
        self._mesh = mesh
        self._server_pid = server_pid
        self._clock = clock
        self._seed = seed
        self._luck = SeededIds(seed)
        self._killed: Counter[str] = Counter()
        self._killed_us: dict[str, int] = {}
        self._desk = Desk(mesh)
        self._after = 0
        self._owners: dict[str, str] = {}
        self._took_s: list[float] = []
        self._undone = 0

    def __repr__(self) -> str:
        return f"Chaos({self.line()!r})"

    def line(self) -> str:
        """Return what has happened so far, in one line."""
        servers = self._killed["server"]
        return (
            f"killed {self._killed.total() - servers} agents, {servers} servers;"
            f" taken over {len(self._took_s)}, undone {self._undone}"
        )

    async def run(self, bar: Bar) -> None:
        """Kill, until this is cancelled."""
        server_s = self._clock.monotonic_s() + FIRST_SERVER_S
        rounds = 0
        while True:
            await self._clock.sleep(KILL_S_MIN + self._luck.fraction() * (KILL_S_MAX - KILL_S_MIN))
            if self._server_pid is not None and self._clock.monotonic_s() >= server_s:
                server_s = self._clock.monotonic_s() + SERVER_S
                self._kill(self._server_pid(), "server")
            else:
                self._kill_agent()
            rounds += 1
            if rounds % ROUNDS_PER_TAIL == 0:
                with suppress(Agent99Error):  # the server may be the one that was killed
                    await self.catch_up()
                bar.say(self.line())

    async def catch_up(self) -> None:
        """Read what the journals say by now.

        Raises:
            JournalError, DeadlineExceededError, TransportError
        """
        async for saga_id, record, sequence in self._desk.records(after=self._after):
            self._after = sequence
            if isinstance(record, Started):
                self._owners[saga_id] = record.owner
            elif isinstance(record, Taken):
                killed_us = self._killed_us.get(self._owners.get(saga_id, ""))
                self._owners[saga_id] = record.owner
                if killed_us is not None:
                    self._took_s.append((record.at_us - killed_us) / 1e6)
            elif isinstance(record, Undone):
                self._undone += 1
            elif isinstance(record, Finished):
                self._owners.pop(saga_id, None)

    def figures(self) -> ChaosFigures:
        """Return what came of it; once the orders have ended, and `catch_up` has seen that."""
        took = self._took_s
        return ChaosFigures(
            seed=self._seed,
            killed=dict(sorted(self._killed.items())),
            taken_over=len(took),
            undone=self._undone,
            take_over_p50_s=round(statistics.median(took), 2) if took else None,
            take_over_max_s=round(max(took), 2) if took else None,
            open_at_last=len(self._owners),
        )

    def _kill_agent(self) -> None:
        alive = sorted(self._crew.alive().items(), key=lambda each: each[1])
        if not alive:
            return
        pid, place = alive[int(self._luck.fraction() * len(alive))]
        instances = [p.instance for p in self._mesh.peers() if p.description.pid == pid]
        if self._kill(pid, place.partition("/")[0]):
            now_us = self._clock.wall_us()
            self._killed_us.update(dict.fromkeys(instances, now_us))

    def _kill(self, pid: int, what: str) -> bool:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self._killed[what] += 1
        return True
